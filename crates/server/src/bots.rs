//! Senders that say of themselves that no person sits before them: crawlers, headless browsers, monitors. Their events are flagged and
//! kept, never dropped, so that a wrong guess is undone by another filter.
//!
//! Libraries that speak HTTP are not among them: servers and apps send by those.

use axum::http::{HeaderMap, header};
use model::{Event, Value};

/// Says that an event comes from no person.
pub(crate) const IS_BOT: &str = "$is_bot";

/// Ends of a word: `Googlebot`, `Baiduspider`.
const ENDS: [&str; 4] = ["bot", "bots", "spider", "crawler"];
/// Words that end so and are a person's: phones by Cubot.
const NO_BOTS: [&str; 1] = ["cubot"];
/// What else crawlers, headless browsers and monitors are called, in lower case.
const NAMES: [&str; 49] = [
    "adsbot-",
    "anthropic-ai",
    "apis-google",
    "archive.org",
    "baiduspider-",
    "bingpreview",
    "catchpoint",
    "chatgpt-user",
    "checkly",
    "chrome-lighthouse",
    "claude-user",
    "claude-web",
    "cloudflare-alwaysonline",
    "cohere-ai",
    "crawler",
    "cypress/",
    "datadogsynthetics",
    "embedly",
    "facebookcatalog",
    "facebookexternalhit",
    "feedfetcher",
    "google page speed",
    "google-inspectiontool",
    "google-read-aloud",
    "google-safety",
    "googleother",
    "gtmetrix",
    "headlesschrome",
    "headlessedg",
    "htmlunit",
    "ia_archiver",
    "jsdom",
    "mediapartners-google",
    "meta-externalagent",
    "meta-externalfetcher",
    "newrelicsynthetics",
    "perplexity-user",
    "phantomjs",
    "pingdom",
    "playwright",
    "prerender",
    "ptst/",
    "puppeteer",
    "rendertron",
    "selenium",
    "site24x7",
    "skypeuripreview",
    "slurp",
    "statuscake",
];
/// Libraries of apps, which put the app's own name in front: an app may be called a bot.
const LIBRARIES: [&str; 4] = ["cfnetwork/", "dalvik/", "okhttp/", "dart/"];

/// Whether a request says that no person sent it. Chrome names itself headless in `Sec-CH-UA` too, whatever `User-Agent` it was given.
pub(crate) fn is_bot(headers: &HeaderMap) -> bool {
    let named = [header::USER_AGENT, header::HeaderName::from_static("sec-ch-ua")];
    named.iter().filter_map(|name| headers.get(name)?.to_str().ok()).any(is_bots)
}

fn is_bots(user_agent: &str) -> bool {
    let text = user_agent.to_ascii_lowercase();
    if LIBRARIES.iter().any(|library| text.contains(library)) {
        return false;
    }
    let is_bots = |word: &str| ENDS.iter().any(|end| word.ends_with(end)) && !NO_BOTS.contains(&word);
    text.split(|char: char| !char.is_ascii_alphanumeric()).any(is_bots) || NAMES.iter().any(|name| text.contains(name))
}

/// Flags an event from a bot, or one that asks to be ignored; whether it did.
pub(crate) fn flag(event: &mut Event, is_bot: bool) -> bool {
    let flags = is_bot || wire::track::is_ignored(&event.properties);
    if flags {
        event.properties.insert(IS_BOT.to_owned(), Value::Bool(true));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line of the file is a verdict and a user agent.
    #[test]
    fn p9_bots_are_told_from_people_and_libraries() {
        let lines = include_str!("bots.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (mut bots, mut others) = (0, 0);
        for line in lines {
            let (verdict, user_agent) = line.split_once(' ').expect("a verdict and a user agent");
            assert!(["bot", "person", "library"].contains(&verdict), "{line}");
            assert_eq!(is_bots(user_agent), verdict == "bot", "{line}");
            *(if verdict == "bot" { &mut bots } else { &mut others }) += 1;
        }
        assert!(bots >= 40 && others >= 40, "{bots} bots, {others} others");
        assert!(NAMES.is_sorted() && NAMES.iter().chain(&ENDS).all(|name| *name == name.to_ascii_lowercase()));
    }

    #[test]
    fn a_headless_browser_is_known_whatever_user_agent_it_was_given() {
        let person = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
        let headers = |brands: &'static str| {
            let headers = [(header::USER_AGENT, person), (header::HeaderName::from_static("sec-ch-ua"), brands)];
            headers.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect::<HeaderMap>()
        };
        assert!(is_bot(&headers(r#""Not/A)Brand";v="8", "Chromium";v="126", "HeadlessChrome";v="126""#)));
        assert!(!is_bot(&headers(r#""Not/A)Brand";v="8", "Chromium";v="126", "Google Chrome";v="126""#)));
        assert!(!is_bot(&HeaderMap::new()), "who says nothing is not accused");
    }
}
