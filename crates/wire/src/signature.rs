//! Signatures of requests (`contract/read.md` 1) with the one-reading rule (docs/decisions/0002).

use md5::{Digest, Md5};
use model::Timestamp;
use subtle::ConstantTimeEq;

use crate::params::{Params, encode};

mod reading;

pub use reading::Names;
use reading::{Readings, SignedText};

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
    /// A value is not of its parameter's type.
    #[error("invalid value of parameter `{0}`")]
    Malformed(String),
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

/// The text that is signed, without the secret: `name=value` by name, nothing between.
pub fn base(params: &Params) -> String {
    text_of(&signed_pairs(params))
}

/// What is signed of a request, by name.
fn signed_pairs(params: &Params) -> Vec<(&str, &str)> {
    let is_signed = |(name, _): &&(String, String)| name != "sig" && name != "callback";
    let mut pairs: Vec<(&str, &str)> =
        params.pairs().iter().filter(is_signed).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    pairs.sort_by_key(|(name, _)| *name);
    pairs
}

fn text_of(pairs: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(pairs.iter().map(|(name, value)| name.len() + 1 + value.len()).sum());
    for (name, value) in pairs {
        text.extend([name, "=", value]);
    }
    text
}

/// The signature of a text.
pub fn sign(base: &str, secret: &str) -> String {
    hex(&digest(base, secret)).into_iter().map(char::from).collect()
}

/// MD5 because the protocol fixes it; it guards old clients and never protects passwords.
fn digest(base: &str, secret: &str) -> [u8; 16] {
    Md5::new().chain_update(base).chain_update(secret).finalize().into()
}

fn hex(digest: &[u8; 16]) -> [u8; 32] {
    let digit = |at: usize| b"0123456789abcdef"[usize::from(digest[at / 2] >> if at.is_multiple_of(2) { 4 } else { 0 }) & 15];
    std::array::from_fn(digit)
}

/// Whether the presented signature fits. Takes the same time wherever it differs.
pub fn fits(params: &Params, secret: &str) -> bool {
    is_signature(params, &base(params), secret)
}

fn is_signature(params: &Params, base: &str, secret: &str) -> bool {
    let given = params.get("sig").unwrap_or_default().to_ascii_lowercase();
    hex(&digest(base, secret)).ct_eq(given.as_bytes()).into()
}

/// Checks a request of an endpoint that knows `names`: signature, then names, then its only reading, then `expire`.
pub fn check(params: &Params, names: &Names, secret: &str, now: Timestamp, lifetime_max_ms: Option<i64>) -> Result<(), SignatureError> {
    // What `make bench` compares with.
    if cfg!(sluice_mutant = "no_signature_check") {
        return Ok(());
    }
    let pairs = signed_pairs(params);
    let base = text_of(&pairs);
    if !is_signature(params, &base, secret) {
        return Err(SignatureError::Invalid);
    }
    if let Some(name) = params.repeated() {
        return Err(SignatureError::Repeated(name.to_owned()));
    }
    if let Some((name, _)) = pairs.iter().find(|(name, _)| !names.is_known(name)) {
        return Err(SignatureError::Unknown((*name).to_owned()));
    }
    let text = SignedText { base: &base, names, api_key: params.get("api_key").unwrap_or_default() };
    let readings = text.readings();
    let Some(expire) = params.get("expire").and_then(seconds) else {
        // Another reading of the text has one: then this one was cut from it.
        return Err(if readings == Readings::None { SignatureError::NoExpire } else { SignatureError::Invalid });
    };
    match readings {
        Readings::One(reading) if reading == pairs => {}
        // A text without any reading and without a name inside a value was cut from none: whoever signed it may know which value is no date, number or list.
        Readings::None => return Err(text.malformed(&pairs).map_or(SignatureError::Invalid, SignatureError::Malformed)),
        _ => return Err(SignatureError::Invalid),
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
    use std::collections::BTreeSet;
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::reading::{COMMON, EVERY_ENDPOINT};
    use super::*;

    fn signature(query: &str, secret: &str) -> String {
        sign(&base(&Params::parse(query, None)), secret)
    }

    const KEY: (&str, &str) = ("api_key", "test_key");
    const OLD: (&str, &str) = ("expire", "1500000060");
    const FAR: (&str, &str) = ("expire", "4102444800");
    const FROM: (&str, &str) = ("from_date", "2020-01-01");
    const TO: (&str, &str) = ("to_date", "2020-01-02");
    const LONG_SECRET: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
    const LONG_KEY: (&str, &str) = ("api_key", "1f2e3d4c5b6a79880123456789abcdef");

    /// Its name, the secret, the parameters as texts, the signature.
    type Vector<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

    /// `contract/read.md` 1.6, every row.
    #[rustfmt::skip]
    const VECTORS: &[Vector<'static>] = &[
        ("V01", "api_secret", &[("api_key", "123"), ("unit", "hour"), ("interval", "24"), ("event", r#"["pages"]"#), ("expire", "1248499222")],
            "eabcfb1f80ebc54d2f3e82f230d5c0fa"),
        ("V02", "api_secret", &[("a", "1"), ("api_key", "api_key"), ("b", "2"), ("expire", "123"), ("format", "json")],
            "ae12e48e5087f6a871b5ba584a4237e6"),
        ("V03", LONG_SECRET, &[LONG_KEY, ("expire", "1483228800"), ("from_date", "2016-01-01"), ("to_date", "2016-03-01")],
            "797995864c8a8f936d0d89a3681b250c"),
        ("V04", LONG_SECRET, &[LONG_KEY, ("expire", "1480550400"), ("format", "json"), ("limit", "10"), ("type", "unique")],
            "fb3178494636a65580f4cf7aefb619a0"),
        ("V05a", "test_secret", &[KEY, OLD, ("event", r#"["splash features", "account-page"]"#), ("interval", "7"), ("type", "average"), ("unit", "day")],
            "323923ece85f7eaac7ade56315910fa9"),
        ("V05b", "test_secret", &[KEY, OLD, ("event", r#"["splash features","account-page"]"#), ("interval", "7"), ("type", "average"), ("unit", "day")],
            "257fda3c665097781503cd4371061934"),
        ("V06", "test_secret", &[KEY, OLD, ("event", "sign up"), ("from_date", "2011-08-06"), ("to_date", "2011-08-09"), ("unit", "day"),
            ("on", r#"properties["a"] + properties["b"]"#), ("where", r#"properties["$os"]=="Linux" and properties["q"]=="a&b=c""#)],
            "68e7ccb0a8ea61d65c55d93eb8aa8b87"),
        ("V07", "test_secret", &[KEY, OLD, ("event", "Café 中文"), FROM, TO], "0fedf7056e09fbc7e8ac0feb7af83e1c"),
        ("V08a", "test_secret", &[KEY, OLD, ("event", r#"["Caf\u00e9", "a/b"]"#), FROM, TO], "5c44c5636561dc660b84b36fe0487d58"),
        ("V08b", "test_secret", &[KEY, OLD, ("event", r#"["Café","a/b"]"#), FROM, TO], "e2c2ac13c907f1132f4d78c01e545a95"),
        ("V08c", "test_secret", &[KEY, OLD, ("event", r#"["Caf\u00e9","a\/b"]"#), FROM, TO], "4143dfdbdfd744329d70c0b90c35b403"),
        ("V09", "test_secret", &[KEY, ("expire", "1500000060000"), FROM, TO], "03a123de5c5c031adfe5ff1a762f52ea"),
        ("V10", "test_secret", &[KEY, OLD, ("where", ""), ("page", "0")], "5ad4ad2c57d518f44f84505f855474fd"),
        ("V11", "test_secret", &[KEY, OLD, ("on", "x"), ("on2", "y")], "6be6195eac763f69c48d8231a6af4c30"),
        ("V12", "test_secret", &[KEY, OLD, ("interval", "1"), ("interval_count", "5"), ("retention_type", "birth"), ("born_event", "A"), FROM, TO],
            "deefeb86453d089fa875166c58da9dcf"),
        ("V13", "test_secret", &[KEY, OLD, ("Zed", "1")], "6601124607faae7ab7b58edbb70bd389"),
        ("V14", "test_secret", &[KEY, OLD, ("format", "csv"), ("event", r#"["a"]"#), ("type", "general"), ("unit", "day"), ("interval", "7")],
            "4d44a575d87b024e5b3190aa1f65c6d5"),
        ("P1", "api_secret", &[("api_key", "f0aa346688cee071cd85d857285a3464"), ("interval", "7"), ("type", "average"),
            ("event", r#"["splash features<", "account-page"]"#), ("unit", "day"), ("expire", "1275624968"), ("format", "json")],
            "1de1b89208ab1d3a4e234a489de40ff0"),
        ("J1", "test_secret", &[KEY, OLD, ("type", "general"), ("callback", "mpSuccess0")], "3154237f94c24a78b09d7a7b844529fe"),
        ("L01", "test_secret", &[KEY, FAR, ("type", "general")], "1e74ef9a490862d90a43ee5f408e9943"),
        ("L02", "test_secret", &[KEY, FAR, FROM, TO], "186519c25672ffe8ca0697005ce1ab07"),
        ("L03", "test_secret", &[KEY, FAR, FROM, TO, ("event", r#"["A"]"#)], "9ebdb93642e22550f2b6ceeb6ce88949"),
        ("L04", "test_secret", &[KEY, FAR, FROM, TO, ("event", "A")], "cf6e084bf0c8e44b53d0c9ed97a37b6d"),
        ("L05", "test_secret", &[KEY, ("expire", "4102444800000"), ("type", "general")], "e4a8c09546635276734caf1b014abd94"),
        ("L06", "test_secret", &[KEY, ("expire", "1")], "4198d6059436278a631feab71aafcc96"),
        ("L07", "test_secret", &[("api_key", "nope"), FAR], "b9bcbcf9abbbbbff10bcc8295b289596"),
        ("L08", "test_secret", &[KEY, ("event", "A")], "b6db2cc66d8cedd671be7c6965f2ca8a"),
        ("L09", "test_secret", &[KEY, FAR, ("type", "general"), ("project_id", "1")], "7701b9a17543af59e973562e7e64454d"),
        ("L10", "test_secret", &[KEY, FAR, ("type", "general"), ("unit", "day"), ("where", "x")], "a2301996a51a984e1789721edef3d95f"),
        ("L11", "test_secret", &[KEY, FAR, ("type", "general"), ("unit", "daywhere=x")], "a2301996a51a984e1789721edef3d95f"),
        ("L12", "test_secret", &[KEY, FAR, ("event", "B")], "ff31cf694fc73a08585d045dc430e71f"),
        // Row L1 of the security bar: two requests, one text.
        ("pair", "demo_secret_not_real", &[("a", "1"), ("b", "2")], "38c09c5f5f5fc7e68744f2a9c5525e40"),
        ("pair, cut elsewhere", "demo_secret_not_real", &[("a", "1b=2")], "38c09c5f5f5fc7e68744f2a9c5525e40"),
    ];

    fn query(pairs: &[(&str, &str)]) -> String {
        pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
    }

    #[test]
    fn every_published_vector_is_reproduced() {
        for (name, secret, pairs, expected) in VECTORS {
            let mut pairs = pairs.to_vec();
            assert_eq!(signature(&query(&pairs), secret), *expected, "{name}");
            pairs.reverse();
            assert_eq!(signature(&query(&pairs), secret), *expected, "{name}: the order of parameters does not matter");
            let params = |sig: &str| Params::parse(&format!("sig={sig}&{}", query(&pairs)), None);
            assert!(fits(&params(expected), secret) && fits(&params(&expected.to_ascii_uppercase()), secret), "{name}");
            assert!(!fits(&params(expected), "another"), "{name}");
        }
    }

    /// The URLs as the clients of `contract/read.md` 1.5 write them.
    #[test]
    fn every_clients_spelling_verifies() {
        for url in [
            "api_key=test_key&expire=1500000060&event=%5B%22splash+features%22%2C+%22account-page%22%5D&interval=7&type=average&unit=day&sig=323923ece85f7eaac7ade56315910fa9",
            "api_key=test_key&event=%5B%22splash%20features%22%2C%22account-page%22%5D&expire=1500000060&interval=7&type=average&unit=day&sig=257fda3c665097781503cd4371061934",
            "api_key=test_key&event=%5B%22splash+features%22%2C%22account-page%22%5D&expire=1500000060&interval=7&sig=257fda3c665097781503cd4371061934&type=average&unit=day",
            "?sig=4143dfdbdfd744329d70c0b90c35b403&api_key=test_key&expire=1500000060&event=%5B%22Caf%5Cu00e9%22%2C%22a%5C%2Fb%22%5D&from_date=2020-01-01&to_date=2020-01-02",
            "api_key=test_key&expire=1500000060&type=general&sig=3154237f94c24a78b09d7a7b844529fe&callback=mpSuccess0",
            "api_key=test_key&event=%5B%22A%20b%22%2C%22c%22%5D&expire=1500000060&from_date=2016-01-01&to_date=2016-01-02&sig=df43ec9978290ea5118c4704dd2b6bb0",
        ] {
            assert!(fits(&Params::parse(url, None), "test_secret"), "{url}");
        }
        // The known wrong ones: the tyke client encodes twice, and a sort by pairs differs where a name is the beginning of another.
        let tyke = query(&[("sig", "ca0f9b76fa538925307011b14a04ed24"), KEY, OLD, ("event", "Café 中文"), FROM, TO]);
        let by_pairs = query(&[("sig", "de3a8af3178323c4a82f18a76bcd8581"), KEY, OLD, ("on", "x"), ("on2", "y")]);
        assert!(!fits(&Params::parse(&tyke, None), "test_secret") && !fits(&Params::parse(&by_pairs, None), "test_secret"));
    }

    #[test]
    fn l12_a_wrong_digit_anywhere_is_refused() {
        let right = "1e74ef9a490862d90a43ee5f408e9943";
        let given = |sig: &str| fits(&Params::parse(&query(&[KEY, FAR, ("type", "general"), ("sig", sig)]), None), "test_secret");
        assert!(given(right));
        for at in 0..right.len() {
            for digit in "0123456789abcdefg".chars().filter(|digit| !right[at..].starts_with(*digit)) {
                assert!(!given(&format!("{}{digit}{}", &right[..at], &right[at + 1..])), "{digit} at {at}");
            }
            assert!(!given(&right[..at]) && !given(&right[at + 1..]), "cut at {at}");
        }
        assert!(!given(&format!("{right}0")) && !given(&format!(" {right}")));
    }

    const NAMES: &[&str] = &["event", "from_date", "to_date", "type", "unit", "where", "on", "limit", "interval"];
    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn checked(query: &str) -> Result<(), SignatureError> {
        let query = format!("api_key=k&expire=4102444800&{query}");
        let sig = signature(&query, "s");
        check(&Params::parse(&format!("{query}&sig={sig}"), None), &Names::new(NAMES), "s", NOW, None)
    }

    #[test]
    fn a_signed_mistake_is_named() {
        assert_eq!(checked("event=A&from_date=2010-02-31&to_date=2020-01-02"), Err(SignatureError::Malformed("from_date".to_owned())));
        assert_eq!(checked("event=A&unit=fortnight"), Err(SignatureError::Malformed("unit".to_owned())));
        assert_eq!(checked("event=A&unit=daywhere=x"), Err(SignatureError::Invalid), "this was cut from a request with two parameters");
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
        assert!(matches!(check(&Params::parse(&old, None), &Names::new(NAMES), "s", NOW, None), Err(SignatureError::Expired { .. })));
        let none = format!("api_key=k&event=A&sig={}", signature("api_key=k&event=A", "s"));
        assert_eq!(check(&Params::parse(&none, None), &Names::new(NAMES), "s", NOW, None), Err(SignatureError::NoExpire));
        assert_eq!(check(&Params::parse(&none, None), &Names::new(NAMES), "other", NOW, None), Err(SignatureError::Invalid));
        let far = format!("api_key=k&expire=4102444800&sig={}", signature("api_key=k&expire=4102444800", "s"));
        assert_eq!(check(&Params::parse(&far, None), &Names::new(NAMES), "s", NOW, Some(86_400_000)), Err(SignatureError::TooFarAhead(24)));
    }

    /// L1, L2 and L5 of the security bar, in a small world and all of it: whatever is signed is accepted as one request at most.
    #[test]
    fn no_signed_text_is_accepted_in_two_readings() {
        let pieces = ["", "a", "=", "event=", "name=", "where=", "expire=4102444800", "api_key=k", "type=unique", "1"];
        let values: std::collections::BTreeSet<String> =
            pieces.iter().flat_map(|a| pieces.iter().map(move |b| format!("{a}{b}"))).collect();
        let mut of_base: std::collections::HashMap<String, (usize, usize)> = std::collections::HashMap::new();
        let options = || std::iter::once(None).chain(values.iter().map(Some));
        let names = Names::new(&["event", "name", "type"]);
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
                        let is_accepted = check(&signed, &names, "s", NOW, None).is_ok();
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

    /// The real names: those of an endpoint, and the common ones.
    fn names_of(endpoint: usize) -> Vec<&'static str> {
        let names: BTreeSet<&str> = EVERY_ENDPOINT[endpoint].iter().chain(COMMON).copied().collect();
        names.into_iter().collect()
    }

    fn checked_at(endpoint: usize, pairs: &[(&str, &str)], sig: &str) -> Result<(), SignatureError> {
        let query = pairs.iter().map(|(name, value)| format!("{}={}&", encode(name), encode(value))).collect::<String>();
        static NAMES: LazyLock<Vec<Names>> = LazyLock::new(|| EVERY_ENDPOINT.iter().map(|names| Names::new(names)).collect());
        check(&Params::parse(&format!("{query}sig={sig}"), None), &NAMES[endpoint], "s", NOW, None)
    }

    fn names_in(text: &str) -> usize {
        EVERY_ENDPOINT.iter().copied().flatten().chain(COMMON).filter(|name| text.contains(&format!("{name}="))).count()
    }

    /// A value that an honest client sends for a name.
    fn honest_value(name: &'static str) -> BoxedStrategy<String> {
        let text = || "[A-Za-z0-9 _./?&%+$é中@:,-]{1,16}|[a-z]{1,4}=[0-9]{1,3}|https://[a-z]{1,9}/\\?[a-z]{1,6}=[a-z0-9&]{1,6}";
        let quoted = || text().prop_map(|text| format!("{text:?}"));
        let one_of = |words: &'static [&'static str]| select(words).prop_map(str::to_owned).boxed();
        match name {
            "api_key" => one_of(&["k"]),
            "expire" => one_of(&["4102444800", "4102444800000", "4.1024448e+09", "4102444800.0"]),
            "unit" => one_of(&["", "minute", "hour", "day", "week", "month"]),
            "type" => one_of(&["", "general", "unique", "average"]),
            "format" => one_of(&["json", "csv"]),
            "sort_order" => one_of(&["ascending", "descending"]),
            "time_in_ms" | "verbose" | "use_query_cache" | "dedup" | "include_all_users" => one_of(&["true", "False", "0", "1", ""]),
            "interval" | "limit" | "page" | "page_size" | "project_id" | "workspace_id" | "buckets" => "[0-9]{0,9}".boxed(),
            "from_date" | "to_date" => "20[0-9]{2}-0[1-9]-(1[0-9]|2[0-8])".boxed(),
            "where" => quoted().prop_map(|text| format!("properties[\"plan\"] == {text} and not properties[\"n\"] >= 3")).boxed(),
            "on" | "sort_key" => "[a-z]{1,8}".prop_map(|name| format!("properties[\"{name}\"]")).boxed(),
            "event" => {
                prop_oneof![text().boxed(), proptest::collection::vec(quoted(), 1..4).prop_map(|list| format!("[{}]", list.join(", ")))]
                    .boxed()
            }
            "values" | "distinct_ids" | "output_properties" => {
                proptest::collection::vec(quoted(), 0..4).prop_map(|list| format!("[{}]", list.join(","))).boxed()
            }
            _ => text().boxed(),
        }
    }

    /// A piece of what somebody sends who looks for a second reading.
    fn hostile_piece() -> BoxedStrategy<String> {
        let names: BTreeSet<&'static str> = EVERY_ENDPOINT.iter().copied().flatten().chain(COMMON).copied().collect();
        let names: Vec<&'static str> = names.into_iter().collect();
        let typed = ["k", "4102444800", "day", "unique", "csv", "1", "true", "2020-01-01", "[\"a\"]", "properties[\"a\"]", "ascending"];
        prop_oneof![
            3 => select(names.clone()).prop_map(|name| format!("{name}=")),
            2 => select(typed.to_vec()).prop_map(str::to_owned),
            // The beginning or the end of a name: together with what follows they may make another one.
            2 => (select(names.clone()), any::<Index>()).prop_map(|(name, at)| name[..at.index(name.len())].to_owned()),
            2 => (select(names.clone()), any::<Index>()).prop_map(|(name, at)| format!("{}{name}=", &name[..at.index(name.len())])),
            1 => (select(names), any::<Index>()).prop_map(|(name, at)| format!("{}=", &name[at.index(name.len())..])),
            1 => "[a=]{1,2}",
        ]
        .boxed()
    }

    /// An honest value, or pieces.
    fn any_value(name: &'static str) -> BoxedStrategy<String> {
        prop_oneof![2 => honest_value(name), 1 => proptest::collection::vec(hostile_piece(), 0..4).prop_map(|pieces| pieces.concat())]
            .boxed()
    }

    /// A map over names of one endpoint with `api_key` and `expire`, in order.
    fn map_of(value: fn(&'static str) -> BoxedStrategy<String>) -> impl Strategy<Value = (usize, Vec<(&'static str, String)>)> {
        (0..EVERY_ENDPOINT.len()).prop_flat_map(move |endpoint| {
            let names = names_of(endpoint);
            let (least, most) = (0, names.len().min(6));
            proptest::sample::subsequence(names, least..=most).prop_flat_map(move |names| {
                let mut names: BTreeSet<&str> = names.into_iter().collect();
                names.extend(["api_key", "expire"]);
                let pairs: Vec<_> = names.into_iter().map(|name| value(name).prop_map(move |value| (name, value))).collect();
                pairs.prop_map(move |pairs| (endpoint, pairs))
            })
        })
    }

    fn borrowed<'a>(pairs: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
        pairs.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Every map over `names` that has this text, `most` of them at the most.
    fn every_map<'a>(text: &'a str, names: &[&'a str], most: usize) -> Vec<Vec<(&'a str, &'a str)>> {
        fn go<'a>(
            text: &'a str,
            names: &[&'a str],
            so_far: &mut Vec<(&'a str, &'a str)>,
            found: &mut Vec<Vec<(&'a str, &'a str)>>,
            most: usize,
        ) {
            for (index, name) in names.iter().enumerate() {
                let Some(rest) = text.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) else { continue };
                let later = &names[index + 1..];
                for (at, _) in rest.char_indices().chain([(rest.len(), ' ')]) {
                    if found.len() >= most {
                        return;
                    }
                    so_far.push((name, &rest[..at]));
                    if at == rest.len() {
                        found.push(so_far.clone());
                    } else {
                        go(&rest[at..], later, so_far, found, most);
                    }
                    so_far.pop();
                }
            }
        }
        let mut found = Vec::new();
        go(text, names, &mut Vec::new(), &mut found, most);
        found
    }

    /// How many of all requests with this text are accepted, at whatever endpoint; and how many requests there are.
    fn accepted_of(text: &str) -> (Vec<Vec<(&str, &str)>>, usize) {
        let names: BTreeSet<&str> = EVERY_ENDPOINT.iter().copied().flatten().chain(COMMON).copied().collect();
        let names: Vec<&str> = names.into_iter().collect();
        let maps = every_map(text, &names, 500);
        let (count, sig) = (maps.len(), sign(text, "s"));
        let is_accepted = |map: &Vec<(&str, &str)>| {
            // The server knows the key `k` and no other.
            map.contains(&("api_key", "k")) && (0..EVERY_ENDPOINT.len()).any(|endpoint| checked_at(endpoint, map, &sig).is_ok())
        };
        (maps.into_iter().filter(is_accepted).collect(), count)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

        #[test]
        fn honest_requests_over_the_real_names_are_accepted((endpoint, pairs) in map_of(honest_value)) {
            let text: String = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            prop_assume!(pairs.iter().all(|(_, value)| names_in(value) == 0));
            prop_assert_eq!(checked_at(endpoint, &borrowed(&pairs), &sign(&text, "s")), Ok(()), "{}", text);
            prop_assert_eq!(accepted_of(&text).0, vec![borrowed(&pairs)], "and as nothing else");
        }
    }

    /// L1, L2, L3 and L5 over the real names of every endpoint, with pieces of names that grow together: of all requests with one text, at
    /// most one is accepted, at whatever endpoint.
    #[test]
    fn no_text_is_two_requests_over_the_real_names() {
        let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(3000);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            failure_persistence: None,
            max_shrink_iters: 100,
            ..ProptestConfig::with_cases(cases)
        });
        let (mut shared, mut accepted) = (0_u32, 0_u32);
        let counts = std::cell::RefCell::new((&mut shared, &mut accepted));
        let outcome = runner.run(&map_of(any_value), |(_, pairs)| {
            let text: String = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let (found, maps) = accepted_of(&text);
            let mut counts = counts.borrow_mut();
            *counts.0 += u32::from(maps > 1);
            *counts.1 += u32::from(!found.is_empty());
            prop_assert!(found.len() <= 1, "{text} is accepted as {found:?}");
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{error}"));
        assert!(
            shared > cases / 4 && accepted > cases / 20,
            "of {cases} texts {shared} stand for several requests, {accepted} are accepted"
        );
    }

    /// The beginning of a name and the name behind it: where the two overlap, the name is still there.
    #[test]
    fn a_name_that_overlaps_itself_hides_nothing() {
        for (text, endpoint) in [
            ("api_key=kbucket=data_group_idata_group_id=1expire=4102444800", 1),
            ("api_key=kbucket=distinct_idistinct_id=uexpire=4102444800", 1),
            ("api_key=kevent=expirexpire=4102444800", 0),
        ] {
            let names = names_of(endpoint);
            let sig = sign(text, "s");
            let maps = every_map(text, &names, 100);
            let accepted: Vec<_> = maps.iter().filter(|map| checked_at(endpoint, map, &sig).is_ok()).collect();
            assert!(accepted.len() <= 1, "{text} is accepted as {accepted:?}");
        }
    }

    #[test]
    fn l03_an_expiry_is_not_stretched() {
        // A request that ends soon and one that never does have one text; neither is taken.
        let text = "api_key=kevent=xexpire=9999999999expire=1700000060";
        for pairs in [
            &[("api_key", "k"), ("event", "xexpire=9999999999"), ("expire", "1700000060")][..],
            &[("api_key", "k"), ("event", "x"), ("expire", "9999999999expire=1700000060")],
            &[("api_key", "k"), ("event", "xexpire=9999999999expire=1700000060")],
        ] {
            assert_eq!(signature(&query(pairs), "s"), sign(text, "s"));
            assert!(checked_at(0, pairs, &sign(text, "s")).is_err(), "{pairs:?}");
        }
        for expire in
            ["9999999999x", "1e400", "-1", "0x65", "９９９９９９９９９９", " 9999999999", "inf", "9999999999,1", "99999999999999999999"]
        {
            let pairs = [("api_key", "k"), ("expire", expire), ("type", "general")];
            let outcome = checked_at(3, &pairs, &signature(&query(&pairs), "s"));
            assert!(outcome.is_err(), "`{expire}`: {outcome:?}");
        }
    }

    /// MD5 of whole blocks that goes on from a state: what an attacker has who knows a digest and no secret.
    fn md5_onward(mut state: [u32; 4], blocks: &[u8]) -> [u32; 4] {
        const TURNS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
        for block in blocks.chunks_exact(64) {
            let word = |at: usize| u32::from_le_bytes(block[4 * at..4 * at + 4].try_into().unwrap());
            let [mut a, mut b, mut c, mut d] = state;
            for step in 0..64 {
                let (mixed, at) = match step / 16 {
                    0 => ((b & c) | (!b & d), step),
                    1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
                    2 => (b ^ c ^ d, (3 * step + 5) % 16),
                    _ => (c ^ (b | !d), 7 * step % 16),
                };
                let constant = (2_f64.powi(32) * f64::from(step as u32 + 1).sin().abs()) as u32;
                let turned = a.wrapping_add(mixed).wrapping_add(constant).wrapping_add(word(at)).rotate_left(TURNS[step / 16][step % 4]);
                (a, d, c, b) = (d, c, b, b.wrapping_add(turned));
            }
            state = [state[0].wrapping_add(a), state[1].wrapping_add(b), state[2].wrapping_add(c), state[3].wrapping_add(d)];
        }
        state
    }

    /// What MD5 puts behind a text of this length.
    fn md5_padding(len: usize) -> Vec<u8> {
        let mut padding = vec![0x80];
        padding.resize((119 - len % 64) % 64 + 1, 0);
        padding.extend((len as u64 * 8).to_le_bytes());
        padding
    }

    #[test]
    fn l06_length_extension_is_refused() {
        let (text, secret, more) = ("api_key=kexpire=4102444800type=general", "a secret of 26 characters!", "unit=day");
        let signed = sign(text, secret);
        let state: Vec<u32> = (0..4).map(|at| u32::from_str_radix(&signed[8 * at..8 * at + 8], 16).unwrap().swap_bytes()).collect();
        let glue = md5_padding(text.len() + secret.len());
        let before = text.len() + secret.len() + glue.len();
        let tail = [more.as_bytes(), &md5_padding(before + more.len())].concat();
        let forged: String = md5_onward(state.try_into().unwrap(), &tail).iter().map(|word| format!("{:08x}", word.swap_bytes())).collect();
        // The extension itself works, without the secret …
        let whole = [text.as_bytes(), secret.as_bytes(), &glue, more.as_bytes()].concat();
        let digest: String = Md5::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(forged, digest);
        // … and fits no request, because the secret stands at the end and not at the beginning: the text would have to hold it.
        let escaped: String = glue.iter().map(|byte| format!("%{byte:02X}")).collect();
        for query in [
            format!("api_key=k&expire=4102444800&type=general&unit=day&sig={forged}"),
            format!("api_key=k&expire=4102444800&type=general{escaped}&unit=day&sig={forged}"),
            format!("api_key=k&expire=4102444800&type=general{escaped}unit=day&sig={forged}"),
            format!("api_key=k&expire=4102444800{escaped}&type=general&unit=day&sig={forged}"),
        ] {
            let outcome = check(&Params::parse(&query, None), &Names::new(EVERY_ENDPOINT[3]), secret, NOW, None);
            assert_eq!(outcome, Err(SignatureError::Invalid), "{query}");
        }
    }

    #[test]
    fn l07_a_known_collision_signs_only_its_own_text() {
        let one = "TEXTCOLLBYfGiJUETHQ4hAcKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak";
        let other = one.replacen("4hA", "4hE", 1);
        assert_eq!(Md5::digest(one), Md5::digest(&other), "a published pair");
        let pairs = |event| [("api_key", "k"), ("event", event), ("expire", "4102444800")];
        let sig = |event| signature(&query(&pairs(event)), "s");
        assert_ne!(sig(one), sig(&other));
        assert_eq!(checked_at(3, &pairs(one), &sig(one)), Ok(()));
        assert_eq!(checked_at(3, &pairs(&other), &sig(&other)), Ok(()));
        assert_eq!(checked_at(3, &pairs(one), &sig(&other)), Err(SignatureError::Invalid));
        assert_eq!(checked_at(3, &pairs(&other), &sig(one)), Err(SignatureError::Invalid));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        /// The decoder that both the signature and the reports go through agrees with another one on every query.
        #[test]
        fn l17_the_decoder_agrees_with_another(
            pieces in proptest::collection::vec(select(&[
                "a", "event", "=", "=", "&", "&", "+", "%20", "%2B", "%2b", "%", "%4", "%zz", "%00", "%C0%AF", "%c3%a9", "%C3", "é", "?", "%3F",
                "%26", "%3D", ";", "%ED%A0%80", "%F4%90%80%80", "%FF", "\u{0}", "中", "[]", "#", "/",
            ][..]), 0..24),
        ) {
            let query = pieces.concat();
            // Two things are ours: a `?` before a name is not part of it, and nothing is no pair.
            let stripped: Vec<&str> = query.split('&').map(|piece| piece.strip_prefix('?').unwrap_or(piece)).collect();
            let expected: Vec<(String, String)> = form_urlencoded::parse(stripped.join("&").as_bytes())
                .into_owned()
                .filter(|(name, value)| !(name.is_empty() && value.is_empty()))
                .collect();
            let params = Params::parse(&query, None);
            prop_assert_eq!(params.pairs(), expected.as_slice(), "{}", query);
        }
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
        assert_eq!(check(&params, &Names::new(NAMES), "s", NOW, Some(86_400_000)), Ok(()));
    }
}
