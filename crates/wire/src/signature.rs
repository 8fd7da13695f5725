//! Signatures of requests (`contract/read.md` 1) with the one-reading rule (docs/decisions/0002).

use md5::{Digest, Md5};
use model::Timestamp;
use subtle::ConstantTimeEq;

use crate::params::{Params, encode};
use crate::{dates, expression, json};

/// Why a signed request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The signature does not fit, or the text has another reading.
    #[error("Invalid API signature")]
    Invalid,
    /// A parameter stands twice.
    #[error("parameter `{0}` is given more than once")]
    Repeated(String),
    /// A parameter that the endpoint does not know.
    #[error("unknown parameter `{0}`")]
    Unknown(String),
    /// No usable `expire`.
    #[error("Missing required parameter: expire")]
    NoExpire,
    /// Its time is over.
    #[error("Expired request: `expire` is {expire}, the server's time is {now}")]
    Expired {
        /// What was sent, in seconds.
        expire: i64,
        /// The server's time, in seconds.
        now: i64,
    },
    /// It would live longer than the key allows.
    #[error("`expire` is more than {0} hours ahead")]
    TooFarAhead(i64),
}

/// Parameters that every endpoint knows when a request is signed.
const COMMON: &[&str] =
    &["format", "bucket", "verbose", "action", "project_id", "workspace_id", "query_origin", "use_query_cache", "api_key", "expire"];

/// What the endpoints know.
const EVERY_ENDPOINT: [&[&str]; 5] = [
    crate::export::PARAMETERS,
    crate::profiles::PARAMETERS,
    crate::properties::PARAMETERS,
    crate::segmentation::EVENTS_PARAMETERS,
    crate::segmentation::PARAMETERS,
];

/// More `name=` than these in one text are not worth reading.
const PIECES_MAX: usize = 64;

/// The text that is signed, without the secret: `name=value` by name, nothing between.
pub fn base(params: &Params) -> String {
    let mut pairs: Vec<&(String, String)> = params.pairs().iter().filter(|(name, _)| name != "sig" && name != "callback").collect();
    pairs.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The signature of a text.
pub fn sign(base: &str, secret: &str) -> String {
    // MD5 because the protocol fixes it; it guards old clients and never protects passwords.
    let digest = Md5::new().chain_update(base).chain_update(secret).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the presented signature fits. Takes the same time wherever it differs.
pub fn fits(params: &Params, secret: &str) -> bool {
    let given = params.get("sig").unwrap_or_default().to_ascii_lowercase();
    sign(&base(params), secret).as_bytes().ct_eq(given.as_bytes()).into()
}

/// Checks a request of an endpoint that knows `names`: signature, then names, then its only reading, then `expire`.
pub fn check(params: &Params, names: &[&str], secret: &str, now: Timestamp, lifetime_max_ms: Option<i64>) -> Result<(), SignatureError> {
    if !fits(params, secret) {
        return Err(SignatureError::Invalid);
    }
    if let Some(name) = params.repeated() {
        return Err(SignatureError::Repeated(name.to_owned()));
    }
    let mut known: Vec<&str> = names.iter().chain(COMMON).copied().collect();
    known.sort_unstable();
    known.dedup();
    for (name, _) in params.pairs() {
        if name != "sig" && name != "callback" && !known.contains(&name.as_str()) {
            return Err(SignatureError::Unknown(name.clone()));
        }
    }
    let base = base(params);
    let reading = Reading { base: &base, known: &known, api_key: params.get("api_key").unwrap_or_default() };
    let readings = reading.count();
    let Some(expire) = params.get("expire").and_then(seconds) else {
        // Another reading of the text has one: then this one was cut from it.
        return Err(if readings == 0 { SignatureError::NoExpire } else { SignatureError::Invalid });
    };
    if readings != 1 || !reading.is_one(params) {
        return Err(SignatureError::Invalid);
    }
    if expire < now.seconds() {
        return Err(SignatureError::Expired { expire, now: now.seconds() });
    }
    match lifetime_max_ms {
        Some(max) if expire.saturating_mul(1000) > now.0.saturating_add(max) => Err(SignatureError::TooFarAhead(max / 3_600_000)),
        _ => Ok(()),
    }
}

/// `expire` in seconds: 10 digits are seconds, 13 are milliseconds, floats pass where they are integral.
fn seconds(text: &str) -> Option<i64> {
    let number = match text.parse::<i64>() {
        Ok(int) => int,
        Err(_) => {
            let float: f64 = text.parse().ok()?;
            (float.is_finite() && float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)?
        }
    };
    Some(if number.abs() >= 100_000_000_000 { number / 1000 } else { number })
}

struct Reading<'a> {
    base: &'a str,
    known: &'a [&'a str],
    api_key: &'a str,
}

impl Reading<'_> {
    /// Whether what was received is a reading: every value of its type, none holding a later name.
    fn is_one(&self, params: &Params) -> bool {
        let mut pairs = params.pairs().iter().filter(|(name, _)| name != "sig" && name != "callback");
        pairs.all(|(name, value)| self.value_fits(name, value))
    }

    /// The number of readings, counted up to 2; more pieces than allowed count as 2.
    fn count(&self) -> usize {
        let mut cuts: Vec<(usize, usize)> = Vec::new();
        for (index, name) in self.known.iter().enumerate() {
            for (at, _) in self.base.match_indices(name) {
                if self.base[at + name.len()..].starts_with('=') {
                    cuts.push((at, index));
                }
            }
        }
        if cuts.len() > PIECES_MAX {
            return 2;
        }
        cuts.sort_unstable();
        // readings[i]: how many ways to read from cut i to the end, with and without `expire` and `api_key` seen, so far unknown:
        // both are required, so they are counted as part of the state.
        let mut total = 0;
        self.walk(&cuts, 0, None, 0, &mut total, &mut 0);
        total
    }

    fn walk(&self, cuts: &[(usize, usize)], at: usize, last: Option<usize>, seen: u8, total: &mut usize, steps: &mut usize) {
        *steps += 1;
        if *total >= 2 || *steps > 20_000 {
            *total = 2;
            return;
        }
        for (_, name_index) in cuts.iter().filter(|(start, index)| *start == at && last.is_none_or(|last| last < *index)) {
            let name = self.known[*name_index];
            let start = at + name.len() + 1;
            let seen = seen | u8::from(name == "api_key") | u8::from(name == "expire") << 1;
            let ends = cuts.iter().filter(|(end, next)| *end >= start && next > name_index).map(|(end, _)| *end);
            let mut ends: Vec<usize> = ends.chain([self.base.len()]).collect();
            ends.dedup();
            for end in ends {
                if !self.value_fits(name, &self.base[start..end]) {
                    continue;
                }
                if end == self.base.len() {
                    if seen == 3 {
                        *total += 1;
                    }
                } else {
                    self.walk(cuts, end, Some(*name_index), seen, total, steps);
                }
            }
        }
    }

    fn value_fits(&self, name: &str, value: &str) -> bool {
        // The path is not signed: names of every endpoint count.
        let names = EVERY_ENDPOINT.iter().copied().flatten().chain(self.known);
        let holds_later = names
            .filter(|later| **later > name)
            .any(|later| value.match_indices(later).any(|(at, _)| value[at + later.len()..].starts_with('=')));
        !holds_later && self.is_of_type(name, value)
    }

    fn is_of_type(&self, name: &str, value: &str) -> bool {
        let one_of = |words: &[&str]| value.is_empty() || words.contains(&value);
        match name {
            "api_key" => value == self.api_key,
            "expire" => seconds(value).is_some(),
            "unit" => one_of(&["minute", "hour", "day", "week", "month"]),
            "type" => one_of(&["general", "unique", "average"]),
            "format" => one_of(&["json", "csv"]),
            "sort_order" => one_of(&["ascending", "descending"]),
            "time_in_ms" | "verbose" | "use_query_cache" | "dedup" | "include_all_users" => {
                matches!(value.to_ascii_lowercase().as_str(), "true" | "false" | "0" | "1" | "")
            }
            "interval" | "limit" | "page" | "page_size" | "project_id" | "workspace_id" | "buckets" => {
                value.is_empty() || value.parse::<i64>().is_ok()
            }
            "from_date" | "to_date" => dates::parse_date(value).is_ok(),
            "where" => value.is_empty() || expression::parse(value).is_ok(),
            "on" | "sort_key" => value.is_empty() || expression::parse(value).is_ok(),
            // A list, or one bare name in its place.
            "values" | "distinct_ids" | "output_properties" => {
                !value.contains('=') || json::parse(value).is_ok_and(|value| matches!(value, model::Value::List(_)))
            }
            _ => true,
        }
    }
}

/// Adds `api_key`, `expire` and `sig` to a URL.
pub fn sign_url(url: &str, api_key: &str, secret: &str, expire: i64) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let mut pairs: Vec<(String, String)> = crate::params::form(query.as_bytes());
    pairs.retain(|(name, _)| !matches!(name.as_str(), "api_key" | "expire" | "sig"));
    pairs.push(("api_key".to_owned(), api_key.to_owned()));
    pairs.push(("expire".to_owned(), expire.to_string()));
    let text: Vec<String> = pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    let query = text.join("&");
    let sig = sign(&base(&Params::parse(&query, None)), secret);
    format!("{address}?{query}&sig={sig}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(query: &str, secret: &str) -> String {
        sign(&base(&Params::parse(query, None)), secret)
    }

    fn vector(rest: &str) -> String {
        signature(&format!("api_key=test_key&expire=1500000060&{rest}"), "test_secret")
    }

    /// `contract/read.md` 1.6.
    #[test]
    fn published_vectors() {
        assert_eq!(
            signature("api_key=123&unit=hour&interval=24&event=[\"pages\"]&expire=1248499222", "api_secret"),
            "eabcfb1f80ebc54d2f3e82f230d5c0fa"
        ); // V01
        assert_eq!(signature("a=1&api_key=api_key&b=2&expire=123&format=json", "api_secret"), "ae12e48e5087f6a871b5ba584a4237e6"); // V02
        assert_eq!(
            vector("event=[\"splash features\", \"account-page\"]&interval=7&type=average&unit=day"),
            "323923ece85f7eaac7ade56315910fa9"
        ); // V05a
        assert_eq!(
            vector("event=[\"splash features\",\"account-page\"]&interval=7&type=average&unit=day"),
            "257fda3c665097781503cd4371061934"
        ); // V05b
        assert_eq!(
            vector(
                "event=sign+up&from_date=2011-08-06&to_date=2011-08-09&unit=day&on=properties[\"a\"]+%2B+properties[\"b\"]&where=properties[\"$os\"]==\"Linux\"+and+properties[\"q\"]==\"a%26b=c\""
            ),
            "68e7ccb0a8ea61d65c55d93eb8aa8b87" // V06
        );
        assert_eq!(
            vector("event=Caf%C3%A9+%E4%B8%AD%E6%96%87&from_date=2020-01-01&to_date=2020-01-02"),
            "0fedf7056e09fbc7e8ac0feb7af83e1c"
        ); // V07
        assert_eq!(vector("where=&page=0"), "5ad4ad2c57d518f44f84505f855474fd"); // V10
        assert_eq!(vector("on=x&on2=y"), "6be6195eac763f69c48d8231a6af4c30"); // V11
        assert_eq!(vector("Zed=1"), "6601124607faae7ab7b58edbb70bd389"); // V13
        assert_eq!(vector("format=csv&event=[\"a\"]&type=general&unit=day&interval=7"), "4d44a575d87b024e5b3190aa1f65c6d5"); // V14
        assert_eq!(vector("type=general&callback=mpSuccess0"), "3154237f94c24a78b09d7a7b844529fe"); // J1
    }

    const NAMES: &[&str] = &["event", "from_date", "to_date", "type", "unit", "where", "on", "limit", "interval"];
    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn checked(query: &str) -> Result<(), SignatureError> {
        let query = format!("api_key=k&expire=4102444800&{query}");
        let sig = signature(&query, "s");
        check(&Params::parse(&format!("{query}&sig={sig}"), None), NAMES, "s", NOW, None)
    }

    #[test]
    fn an_honest_request_has_one_reading() {
        assert_eq!(checked("type=general"), Ok(()));
        assert_eq!(
            checked("event=A&from_date=2020-01-01&to_date=2020-01-02&unit=day&where=properties[\"u\"]%20==%20\"x?region=eu%26limit=5\""),
            Ok(())
        );
    }

    #[test]
    fn a_recut_request_is_refused() {
        // L10 and L11: one signature for two requests.
        assert_eq!(checked("type=general&unit=daywhere=x"), Err(SignatureError::Invalid));
        assert_eq!(checked("event=Afrom_date=2020-01-01&to_date=2020-01-02"), Err(SignatureError::Invalid));
    }

    #[test]
    fn names_and_times_are_checked_behind_the_signature() {
        assert_eq!(checked("colour=red"), Err(SignatureError::Unknown("colour".to_owned())));
        assert_eq!(checked("event=A&event=B"), Err(SignatureError::Repeated("event".to_owned())));
        let old = format!("api_key=k&expire=1&sig={}", signature("api_key=k&expire=1", "s"));
        assert!(matches!(check(&Params::parse(&old, None), NAMES, "s", NOW, None), Err(SignatureError::Expired { .. })));
        let none = format!("api_key=k&event=A&sig={}", signature("api_key=k&event=A", "s"));
        assert_eq!(check(&Params::parse(&none, None), NAMES, "s", NOW, None), Err(SignatureError::NoExpire));
        assert_eq!(check(&Params::parse(&none, None), NAMES, "other", NOW, None), Err(SignatureError::Invalid));
        let far = format!("api_key=k&expire=4102444800&sig={}", signature("api_key=k&expire=4102444800", "s"));
        assert_eq!(check(&Params::parse(&far, None), NAMES, "s", NOW, Some(86_400_000)), Err(SignatureError::TooFarAhead(24)));
    }

    /// L1, L2 and L5 of the security bar, in a small world and all of it: whatever is signed is accepted as one request at most.
    #[test]
    fn no_signed_text_is_accepted_in_two_readings() {
        let pieces = ["", "a", "=", "event=", "name=", "where=", "expire=4102444800", "api_key=k", "type=unique", "1"];
        let values: std::collections::BTreeSet<String> =
            pieces.iter().flat_map(|a| pieces.iter().map(move |b| format!("{a}{b}"))).collect();
        let mut of_base: std::collections::HashMap<String, (usize, usize)> = std::collections::HashMap::new();
        let options = || std::iter::once(None).chain(values.iter().map(Some));
        for event in options() {
            for name in options() {
                for kind in [None, Some("unique"), Some("uniquea")] {
                    for expire in [None, Some("4102444800")] {
                        let mut query = "api_key=k".to_owned();
                        let pairs =
                            [("event", event.map(String::as_str)), ("name", name.map(String::as_str)), ("type", kind), ("expire", expire)];
                        for (name, value) in pairs {
                            query.extend(value.map(|value| format!("&{name}={}", encode(value))));
                        }
                        let params = Params::parse(&query, None);
                        let base = base(&params);
                        let signed = Params::parse(&format!("{query}&sig={}", sign(&base, "s")), None);
                        let is_accepted = check(&signed, &["event", "name", "type"], "s", NOW, None).is_ok();
                        let (maps, accepted) = of_base.entry(base).or_default();
                        (*maps, *accepted) = (*maps + 1, *accepted + usize::from(is_accepted));
                    }
                }
            }
        }
        let shared = of_base.values().filter(|(maps, _)| *maps > 1).count();
        let accepted: usize = of_base.values().map(|(_, accepted)| accepted).sum();
        assert!(shared > 1000 && accepted > 1000, "{shared} texts stand for several requests, {accepted} requests are accepted");
        let twice: Vec<&String> = of_base.iter().filter(|(_, (_, accepted))| *accepted > 1).map(|(base, _)| base).collect();
        assert!(twice.is_empty(), "{} texts are accepted twice, such as {:?}", twice.len(), twice.first());
    }

    #[test]
    fn milliseconds_and_integral_floats_are_times() {
        assert_eq!(
            (seconds("4102444800000"), seconds("1.5e+09"), seconds("1.5"), seconds("")),
            (Some(4_102_444_800), Some(1_500_000_000), None, None)
        );
    }

    #[test]
    fn a_signed_url_verifies() {
        let url =
            sign_url("http://h/api/2.0/export?event=%5B%22a%20b%22%5D&from_date=2020-01-01&to_date=2020-01-02", "k", "s", 1_700_000_600);
        let params = Params::parse(url.split_once('?').unwrap().1, None);
        assert_eq!(check(&params, NAMES, "s", NOW, Some(86_400_000)), Ok(()));
    }
}
