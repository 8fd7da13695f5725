//! The legacy signature, attack by attack: each is tried, most of them against the real binary.
//!
//! | row | attack | proof |
//! |---|---|---|
//! | L1 | two requests with one text | `signature::tests::no_signed_text_is_accepted_in_two_readings`, `no_text_is_two_requests_over_the_real_names` |
//! | L2 | a filter cut off | `signature::tests::a_recut_request_is_refused`; case R17 of `tests/cases/auth/signatures.md` |
//! | L3 | the expiry stretched | `signature::tests::l03_an_expiry_is_not_stretched` |
//! | L4 | the signer signs an attacker's text | no server can tell (docs/decisions/0002-one-reading-rule.md); `key legacy --legacy off` ends it |
//! | L5 | the border of name and value | `signature::tests::no_text_is_two_requests_over_the_real_names` |
//! | L6 | length extension | `signature::tests::l06_length_extension_is_refused` |
//! | L7 | a collision of MD5 | `signature::tests::l07_a_known_collision_signs_only_its_own_text` |
//! | L8 | another endpoint | `l08_a_signed_request_is_of_no_use_elsewhere` |
//! | L9 | a parameter twice | `l09_parameters_stand_once` |
//! | L10 | replay | `l10_a_replay_is_counted_and_ends_with_the_expiry` |
//! | L11 | `callback` | `l11_callback_names` |
//! | L12 | timing of the comparison | `signature::tests::l12_a_wrong_digit_anywhere_is_refused`; the comparison is `subtle`'s |
//! | L13 | which keys exist | `l13_unknown_key_and_wrong_signature_answer_the_same_bytes` |
//! | L14 | logs | `logs::nothing_private_is_logged`, `wire::error::tests::a_secret_is_hidden_however_it_is_spelled` |
//! | L15 | plain HTTP | `l15_plain_http_is_refused_and_never_redirected` |
//! | L16 | the old secret after a rotation | `credentials::a_rotation_has_no_gap_and_ends_when_it_should`, `resets::a_rotation_under_load_has_no_gap_and_ends` |
//! | L17 | spellings that parsers read apart | `l17_one_decoder`, `signature::tests::l17_the_decoder_agrees_with_another` |

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use e2e::{TestServer, basic, field, get, post};
use wire::params::{Params, encode};
use wire::signature::{base, sign};

/// A signed request for every read endpoint.
const READS: [(&str, &str); 12] = [
    ("export", "from_date=2020-01-01&to_date=2020-01-02&event=[\"A\"]&time_in_ms=true"),
    ("engage", "page_size=100&include_all_users=true"),
    ("events", "event=[\"A\"]&type=general&unit=day&interval=3"),
    ("events/names", "type=general&limit=3"),
    ("events/top", "type=unique&limit=3"),
    ("events/properties", "event=A&name=p&type=general&unit=day&interval=3"),
    ("events/properties/top", "event=A&limit=3"),
    ("events/properties/values", "event=A&name=p"),
    ("segmentation", "event=A&from_date=2020-01-01&to_date=2020-01-02&on=properties[\"p\"]&type=unique"),
    ("segmentation/numeric", "event=A&from_date=2020-01-01&to_date=2020-01-02&on=properties[\"p\"]&buckets=3"),
    ("segmentation/sum", "event=A&from_date=2020-01-01&to_date=2020-01-02&on=properties[\"p\"]"),
    ("segmentation/average", "event=A&from_date=2020-01-01&to_date=2020-01-02&on=properties[\"p\"]&unit=week"),
];

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The query with `api_key`, `expire` and a signature.
fn signed(query: &str, key: &str, secret: &str) -> String {
    let query = format!("{query}&api_key={key}&expire={}", now() + 600);
    format!("{query}&sig={}", sign(&base(&Params::parse(&query, None)), secret))
}

fn ask(server: &TestServer, endpoint: &str, query: &str) -> (u16, String) {
    get(&format!("{}/api/2.0/{endpoint}?{}", server.base, query.replace('"', "%22").replace(' ', "%20")), None)
}

#[test]
fn l08_a_signed_request_is_of_no_use_elsewhere() {
    let server = TestServer::start();
    let event = r#"[{"event":"A","properties":{"time":1577836800,"distinct_id":"u","$insert_id":"1","p":1}}]"#;
    assert_eq!(post(&format!("{}/import?strict=1", server.base), event, Some(&basic("test_secret", ""))).0, 200);
    // Counts of one kind may be had from their neighbours; events and profiles come from nowhere but their own endpoint.
    let kind = |endpoint: &str| match endpoint {
        "export" => "events",
        "engage" => "profiles",
        _ => "counts",
    };
    for (made_for, query) in READS {
        for (endpoint, _) in READS {
            let (status, body) = ask(&server, endpoint, &signed(query, "test_key", "test_secret"));
            if endpoint == made_for {
                assert_eq!(status, 200, "{endpoint} {query}: {body}");
            } else {
                assert!(
                    status == 400 || (status == 200 && kind(endpoint) == kind(made_for)),
                    "{query} of {made_for} on {endpoint}: {status} {body}"
                );
            }
        }
        // What writes takes no signature for a proof.
        for endpoint in ["import", "track", "engage", "groups"] {
            let url = format!("{}/{endpoint}?{}", server.base, signed(query, "test_key", "test_secret").replace('"', "%22"));
            let (status, body) = get(&url, None);
            assert!(status >= 400 || body == "0", "{query} on /{endpoint}: {status} {body}");
        }
    }
    // A key opens what its rights say, whatever is signed with it.
    for (right, own) in [("query", "counts"), ("export", "events"), ("profiles-read", "profiles")] {
        let key = ["key", "create", "--rights", right, "--legacy", "on", "--project", "1", "--as", "o@example.com"];
        let key: serde_json::Value = serde_json::from_str(&server.cli(&key, "")).unwrap();
        for (endpoint, query) in READS {
            let (status, body) = ask(&server, endpoint, &signed(query, &field(&key, "api_key"), &field(&key, "api_secret")));
            assert_eq!(status, if kind(endpoint) == own { 200 } else { 403 }, "{right} on {endpoint}: {body}");
        }
    }
}

#[test]
fn l09_parameters_stand_once() {
    let server = TestServer::start();
    let honest = format!("event=A&from_date=2020-01-01&to_date=2020-01-02&api_key=test_key&expire={}", now() + 600);
    let sig_of = |query: &str| sign(&base(&Params::parse(query, None)), "test_secret");
    let url = format!("{}/api/2.0/segmentation", server.base);
    assert_eq!(get(&format!("{url}?{honest}&sig={}", sig_of(&honest)), None).0, 200);
    let mut tried = 0;
    let names = ["event", "from_date", "to_date", "api_key", "expire", "sig"];
    for name in names {
        let value = Params::parse(&honest, None).get(name).map_or_else(|| sig_of(&honest), str::to_owned);
        let upper = format!("{}{}", name[..1].to_ascii_uppercase(), &name[1..]);
        let escaped = format!("%{:02x}{}", name.as_bytes()[0], &name[1..]);
        let spellings = [
            name.to_owned(),
            upper.clone(),
            name.to_ascii_uppercase(),
            escaped,
            format!("{name}[]"),
            format!("{name}[0]"),
            format!("+{name}"),
            format!("{name}%00"),
            format!("?{name}"),
        ];
        for (at, spelling) in spellings.iter().enumerate() {
            for other in [value.as_str(), "2020-01-02", ""] {
                let more = format!("{spelling}={other}");
                // Signed as if it were not there, and as whatever a server may make of both.
                let first_wins = format!("{more}&{honest}");
                for sig in [sig_of(&honest), sig_of(&format!("{honest}&{more}")), sig_of(&first_wins)] {
                    let forms = [
                        (format!("{honest}&{more}&sig={sig}"), None),
                        (format!("{more}&{honest}&sig={sig}"), None),
                        (format!("{honest}&sig={sig}"), Some(more.clone())),
                        (more.clone(), Some(format!("{honest}&sig={sig}"))),
                        (format!("{honest}&sig={sig}"), Some(format!(r#"{{"{}":"{other}"}}"#, ["event", "Event", name][at % 3]))),
                    ];
                    for (query, body) in forms {
                        let (status, text) = match &body {
                            None => get(&format!("{url}?{query}"), None),
                            Some(body) => post(&format!("{url}?{query}"), body, None),
                        };
                        assert!((400..402).contains(&status), "?{query} with {body:?}: {status} {text}");
                        tried += 1;
                    }
                }
            }
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn l10_a_replay_is_counted_and_ends_with_the_expiry() {
    let server = TestServer::start();
    let at = |expire: i64| {
        let query = format!("type=general&api_key=test_key&expire={expire}");
        let sig = sign(&base(&Params::parse(&query, None)), "test_secret");
        ask(&server, "events/names", &format!("{query}&sig={sig}"))
    };
    let soon = now() + 2;
    for _ in 0..3 {
        assert_eq!(at(soon).0, 200, "there is no nonce: a signed URL may be called again until it ends");
    }
    let (status, body) = at(now() + 25 * 3600);
    assert!(status == 400 && body.contains("24 hours ahead"), "{body}");
    let (status, body) = at(now() - 5);
    assert!(status == 400 && body.contains("Expired request"), "{body}");
    while now() <= soon {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(at(soon).0, 400);
    let callers: serde_json::Value = serde_json::from_str(&server.cli(&["credentials", "callers", "--project", "1"], "")).unwrap();
    let signed = callers.as_array().unwrap().iter().find(|caller| caller["scheme"] == "signature").unwrap();
    assert_eq!((&signed["outcome"], &signed["count"]), (&"accepted".into(), &3.into()), "every call is counted");
}

#[test]
fn l11_callback_names() {
    let server = TestServer::start();
    let query = signed("type=general", "test_key", "test_secret");
    let mut names: Vec<String> = ["cb", "jQuery.cb_1$", "a.b.c.d.e", "_", "$", "A9", &"a".repeat(64)].map(str::to_owned).into();
    let fits = names.len();
    names.extend(
        [
            "",
            "a b",
            "a-b",
            "a;b",
            "alert(1)",
            "alert(1)//",
            "</script>",
            "a\nb",
            "a\r\nX: y",
            "a\u{2028}b",
            "a\u{0}",
            "é",
            "ａ",
            "а",
            "\\u0061",
            "%61",
            "a/*",
            "*/a",
            "a=b",
            "a&b",
            "a\tb",
            "`a`",
            "a'b",
            "a\"b",
            "{a}",
            "a,b",
            "a+b",
            "a?b",
            "a:b",
            "a|b",
            "a!b",
            "a#b",
            "a@b",
            "a\\b",
            "a^b",
            "a~b",
            "a[0]",
            "\u{feff}a",
            "a\u{200d}",
        ]
        .map(str::to_owned),
    );
    names.push("a".repeat(65));
    // Every other character of Latin 1 and some beyond, in the middle and at the ends.
    for char in (0_u8..=255).map(char::from).filter(|char| !char.is_ascii_alphanumeric() && !"_.$".contains(*char)) {
        names.extend([format!("a{char}b"), format!("{char}ab")]);
    }
    assert!(names.len() > 300, "{}", names.len());
    for (at, name) in names.iter().enumerate() {
        let url = format!("{}/api/2.0/events/names?{query}&callback={}", server.base, encode(name));
        let mut response = e2e::agent().get(&url).call().unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, kind, sniff) = (response.status().as_u16(), header("content-type").unwrap(), header("x-content-type-options"));
        let body = response.body_mut().read_to_string().unwrap();
        if at < fits {
            assert_eq!((status, kind.as_str(), sniff.as_deref()), (200, "text/javascript", Some("nosniff")), "{name:?}");
            assert_eq!(body, format!("/**/{name}([]);"));
        } else {
            assert_eq!((status, kind.as_str()), (400, "application/json"), "{name:?}: {body}");
            assert!(body.ends_with(r#""error": "invalid callback, expected a name of letters, digits, `_`, `.` and `$`"}"#), "{body}");
        }
        // No other credential makes a call of a function: a page of another site has none of its own.
        let (status, body) =
            get(&format!("{}/api/2.0/events/names?type=general&callback={}", server.base, encode(name)), Some(&basic("test_secret", "")));
        assert_eq!((status, body.as_str()), (200, "[]"), "{name:?}");
    }
}

/// Everything that comes back, as bytes; the date left out.
fn raw(server: &TestServer, request: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(server.base.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    answer.split("\r\n").filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\r\n")
}

#[test]
fn l13_unknown_key_and_wrong_signature_answer_the_same_bytes() {
    let server = TestServer::start();
    let key: serde_json::Value =
        serde_json::from_str(&server.cli(&["key", "create", "--rights", "query", "--project", "1", "--as", "o@example.com"], "")).unwrap();
    server.cli(
        &[
            "project",
            "create",
            "--owner",
            "o@example.com",
            "--name",
            "Q",
            "--api-key",
            "other_key",
            "--api-secret",
            "other_secret",
            "--allow-weak",
        ],
        "",
    );
    let (hashed_key, hashed_secret) = (field(&key, "api_key"), field(&key, "api_secret"));
    let unknown = "0123456789abcdef0123456789abcdef";
    for (endpoint, query) in READS.iter().copied().chain([
        ("nothing", "a=b"),
        ("events/names", "type=general&callback=cb"),
        ("events/names", "colour=red"),
        ("segmentation", "type=general&unit=daywhere%3Dx"),
    ]) {
        let query = query.replace('"', "%22");
        let expire = now() + 600;
        let request = |key: &str, secret: &str, is_form: bool, expire: &str| {
            let query = format!("{query}&api_key={key}{expire}");
            let query = format!("{query}&sig={}", sign(&base(&Params::parse(&query, None)), secret));
            let head =
                format!("HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", if is_form { query.len() } else { 0 });
            if is_form { format!("POST /api/2.0/{endpoint} {head}{query}") } else { format!("GET /api/2.0/{endpoint}?{query} {head}") }
        };
        for is_form in [false, true] {
            for expire in [format!("&expire={expire}"), "&expire=1".to_owned(), "&expire=9999999999".to_owned(), String::new()] {
                let reference = raw(&server, &request(unknown, "whatever", is_form, &expire));
                assert!(reference.starts_with("HTTP/1.1 400 ") && reference.contains("Invalid API signature"), "{reference}");
                for (case, key, secret) in [
                    ("a wrong signature", "test_key", "wrong_secret"),
                    ("another project's secret", "test_key", "other_secret"),
                    ("the API key for a secret", "test_key", "test_key"),
                    ("a key that takes no signatures", hashed_key.as_str(), hashed_secret.as_str()),
                    ("the token for a key", "test_token", "test_secret"),
                    ("no key", "", "test_secret"),
                ] {
                    assert_eq!(
                        raw(&server, &request(key, secret, is_form, &expire)),
                        reference,
                        "{case} on {endpoint}, a form: {is_form}, {expire}"
                    );
                }
            }
        }
    }
}

#[test]
fn l15_plain_http_is_refused_and_never_redirected() {
    let server = TestServer::start_with("[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n");
    let url = |secret: &str| format!("{}/api/2.0/events/names?{}", server.base, signed("type=general", "test_key", secret));
    let from = |url: String, proto: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
        let request = agent.get(url).header("x-forwarded-for", "192.0.2.7").header("x-forwarded-proto", proto);
        request.call().unwrap().status().as_u16()
    };
    assert_eq!(from(url("test_secret"), "http"), 200, "allowed until it is not");
    server.cli(&["project", "set", "--project", "1", "--as", "o@example.com", "--require-tls"], "");
    assert_eq!(from(url("test_secret"), "http"), 403);
    assert_eq!(from(url("test_secret"), "https"), 200);
    assert_eq!(from(url("wrong"), "http"), 400, "only who proved itself is told");
    assert_eq!(get(&url("test_secret"), None).0, 200, "this machine is exempt");
}

#[test]
fn l17_one_decoder() {
    let server = TestServer::start();
    let event =
        |name: &str, id: usize| format!(r#"{{"event":{name},"properties":{{"time":1577836800,"distinct_id":"u","$insert_id":"n-{id}"}}}}"#);
    let odd = [r#""A b+c""#, r#""A%20b""#, r#""é=&""#, r#""a/b""#, r#""\ufffd""#];
    let events: Vec<String> = odd.iter().enumerate().map(|(id, name)| event(name, id)).collect();
    let (status, body) =
        post(&format!("{}/import?strict=1", server.base), &format!("[{}]", events.join(",")), Some(&basic("test_secret", "")));
    assert_eq!(status, 200, "{body}");
    let count = |spelled: &str, sig: &str, expire: i64| {
        let rest = format!("&from_date=2020-01-01&to_date=2020-01-01&api_key=test_key&expire={expire}&sig={sig}");
        (
            ask(&server, "segmentation", &format!("event={spelled}{rest}")),
            post(&format!("{}/api/2.0/segmentation", server.base), &format!("event={spelled}{rest}"), None),
        )
    };
    for (name, spellings) in [
        ("A b+c", &["A+b%2Bc", "A%20b%2bc", "%41%20%62%2B%63", "A%20b%2Bc"][..]),
        ("A%20b", &["A%2520b", "%41%2520%62"]),
        ("é=&", &["%C3%A9=%26", "%c3%a9%3d%26", "%C3%A9%3D%26"]),
        ("a/b", &["a/b", "a%2Fb", "a%2fb"]),
        // Over-long, cut and lone bytes are no text: they are read as one mark, and can be signed as that only.
        ("\u{fffd}", &["%FF", "%EF%BF%BD", "%C3"]),
    ] {
        let expire = now() + 600;
        let sig = |name: &str| {
            let pairs = [
                ("event", name),
                ("from_date", "2020-01-01"),
                ("to_date", "2020-01-01"),
                ("api_key", "test_key"),
                ("expire", &expire.to_string()),
            ];
            let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
            sign(&base(&Params::parse(&query.join("&"), None)), "test_secret")
        };
        for spelled in spellings {
            // The signature and the report read one name: it is found, once.
            let (by_get, by_post) = count(spelled, &sig(name), expire);
            assert!(by_get.0 == 200 && by_get.1.contains("\"2020-01-01\": 1"), "{spelled}: {by_get:?}");
            assert_eq!(by_get, by_post, "{spelled}");
        }
        // What was signed as it is spelled, not as it is meant, is another text.
        for spelled in spellings.iter().filter(|spelled| **spelled != name) {
            let (by_get, by_post) = count(spelled, &sig(spelled), expire);
            assert_eq!((by_get.0, by_post.0), (400, 400), "{spelled}");
        }
    }
    for (spelled, meant) in
        [("%C0%AF", "/"), ("%00A", "A"), ("A%00", "A"), ("%u0041", "A"), ("%E2%84%AA", "K"), ("%EF%BC%A1", "A"), ("e%CC%81", "é")]
    {
        let expire = now() + 600;
        let pairs = format!("event={}&from_date=2020-01-01&to_date=2020-01-01&api_key=test_key&expire={expire}", encode(meant));
        let sig = sign(&base(&Params::parse(&pairs, None)), "test_secret");
        assert_eq!(count(spelled, &sig, expire).0.0, 400, "{spelled} is not {meant}");
    }
}
