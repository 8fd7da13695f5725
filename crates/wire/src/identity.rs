//! Signed identity: with a secret that only the project's own server knows, it says which user a client may speak for, for a few minutes.
//! A record carries `$identity_signature`, lower-case hex of HMAC-SHA256 over `USER|SECONDS`, and `$identity_signed_at`, those seconds.

use hmac::{Hmac, Mac};
use model::identity::Claim;
use model::profile::{ProfileKey, ProfileUpdate};
use model::value::{Number, Properties};
use model::{Event, Timestamp, Value};
use sha2::Sha256;

use crate::track::{DEVICE, text_of};

/// The property with the signature.
pub const SIGNATURE: &str = "$identity_signature";
/// The property with the second at which it was made.
pub const SIGNED_AT: &str = "$identity_signed_at";

/// A signature holds for so long, and a clock may be so far ahead.
const LIFETIME_MS: i64 = 5 * 60_000;

/// Why a record may not speak for its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityError {
    /// It brings no signature, or no time that is one.
    Missing,
    /// Another user, another time or another secret.
    Wrong,
    /// It was made too long ago, or by a clock that is ahead.
    NotNow,
}

impl IdentityError {
    /// What the client is told.
    pub fn text(self) -> &'static str {
        match self {
            Self::Missing => "this project takes known users with `$identity_signature` and `$identity_signed_at` only",
            Self::Wrong => "`$identity_signature` does not fit",
            Self::NotNow => "`$identity_signed_at` is more than 5 minutes away",
        }
    }
}

/// What a record brings as a proof.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    signature: Option<String>,
    signed_at: Option<i64>,
}

fn mac(secret: &str, user: &str, signed_at: i64) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(secret.as_bytes()).expect("a key of any length is taken");
    mac.update(user.as_bytes());
    mac.update(format!("|{signed_at}").as_bytes());
    mac
}

/// Signs a user for the next minutes.
pub fn sign(secret: &str, user: &str, signed_at: i64) -> String {
    mac(secret, user, signed_at).finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads 64 lower-case hex digits: a signature has one spelling.
fn bytes_of(signature: &str) -> Option<[u8; 32]> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if signature.len() != 64 || !signature.bytes().all(is_digit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&signature[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Whole seconds; a number in a string counts too, spelled as numbers are.
fn seconds_of(value: &Value) -> Option<i64> {
    match value {
        Value::Number(Number::Int(seconds)) => Some(*seconds),
        Value::String(text) => text.parse().ok().filter(|seconds: &i64| seconds.to_string() == *text),
        _ => None,
    }
}

impl Proof {
    fn of(signature: Option<&Value>, signed_at: Option<&Value>) -> Self {
        Self { signature: signature.and_then(Value::as_str).map(str::to_owned), signed_at: signed_at.and_then(seconds_of) }
    }

    /// Takes the proof out of properties, so that it is not stored.
    pub fn take(properties: &mut Properties) -> Self {
        let (signature, signed_at) = (properties.shift_remove(SIGNATURE), properties.shift_remove(SIGNED_AT));
        Self::of(signature.as_ref(), signed_at.as_ref())
    }

    /// Takes the proof of a profile record: it stands beside `$token`, or where an SDK lets nothing in there, among the properties of an
    /// operation.
    pub fn take_of_profile(record: &Value, updates: &mut [ProfileUpdate]) -> Self {
        let mut proof = match record {
            Value::Object(record) => Self::of(record.get(SIGNATURE), record.get(SIGNED_AT)),
            _ => Self::default(),
        };
        for update in updates {
            if let Some(properties) = update.op.properties_mut() {
                let inside = Self::take(properties);
                proof = if proof == Self::default() { inside } else { proof };
            }
        }
        proof
    }

    /// Whether it lets a record speak for all of these users, of whom there may be none.
    pub fn check(&self, secret: &str, users: &[String], now: Timestamp) -> Result<(), IdentityError> {
        for user in users {
            let (Some(signature), Some(signed_at)) = (&self.signature, self.signed_at) else { return Err(IdentityError::Missing) };
            let given = bytes_of(signature).ok_or(IdentityError::Wrong)?;
            mac(secret, user, signed_at).verify_slice(&given).map_err(|_| IdentityError::Wrong)?;
            let age_ms = i128::from(now.0) - i128::from(signed_at) * 1000;
            if age_ms.abs() > i128::from(LIFETIME_MS) {
                return Err(IdentityError::NotNow);
            }
        }
        Ok(())
    }
}

/// Whether an id is somebody's, rather than a device's or nobody's.
fn is_known(id: &str) -> bool {
    !id.is_empty() && !id.starts_with(DEVICE)
}

/// The known users that an event speaks for: whose it is, and those that an identity verb joins. What was sent as `$user_id` or
/// `distinct_id` was resolved before; who the client was until now is joined where the project's rules say so.
pub fn users_of_event(event: &Event) -> Vec<String> {
    let joined = match event.name.as_str() {
        "$identify" => event.properties.get("$identified_id"),
        "$create_alias" => event.properties.get("alias"),
        "$merge" => event.properties.get("$distinct_ids"),
        _ => None,
    };
    let mut users = vec![event.distinct_id.clone()];
    match joined {
        Some(Value::List(ids)) => users.extend(ids.iter().map(text_of)),
        Some(id) => users.push(text_of(id)),
        None => {}
    }
    if let Some(Claim::Identify { anonymous, .. }) = event.claim() {
        users.push(anonymous.into_owned());
    }
    users.retain(|id| is_known(id));
    users.dedup();
    users
}

/// The known user whose profile changes. A group is no user.
pub fn users_of_updates(updates: &[ProfileUpdate]) -> Vec<String> {
    let user = |update: &ProfileUpdate| match &update.key {
        ProfileKey::User(id) if is_known(id) => Some(id.clone()),
        ProfileKey::User(_) | ProfileKey::Group { .. } => None,
    };
    let mut users: Vec<String> = updates.iter().filter_map(user).collect();
    users.dedup();
    users
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "slci_0123456789ABCDEFGHIJKLMNOPQRST_000000";
    const AT: i64 = 1_700_000_000;

    fn properties(pairs: &[(&str, Value)]) -> Properties {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn proof(signature: &str, signed_at: &str) -> Proof {
        Proof::take(&mut properties(&[(SIGNATURE, Value::from(signature)), (SIGNED_AT, Value::from(signed_at))]))
    }

    fn checked(signature: &str, signed_at: &str, user: &str, now_ms: i64) -> Result<(), IdentityError> {
        proof(signature, signed_at).check(SECRET, &[user.to_owned()], Timestamp(now_ms))
    }

    fn event(name: &str, distinct_id: &str, more: &[(&str, Value)]) -> Event {
        Event {
            name: name.to_owned(),
            distinct_id: distinct_id.to_owned(),
            time: Timestamp(0),
            insert_id: String::new(),
            received_at: Timestamp(0),
            authenticated: false,
            linking: None,
            properties: properties(more),
        }
    }

    /// Computed with another program: `printf 'alice|1700000000' | openssl dgst -sha256 -hmac SECRET`.
    #[test]
    fn a_signature_is_what_every_server_can_compute() {
        assert_eq!(sign(SECRET, "alice", AT), "bf4c7954165e831bbc3b2b0033674a34382bda8aa25e79541c95f2fe4381d40d");
    }

    #[test]
    fn a_signature_holds_for_five_minutes_either_way() {
        let signature = sign(SECRET, "alice", AT);
        let at = |ms: i64| checked(&signature, &AT.to_string(), "alice", AT * 1000 + ms);
        for ms in [0, 1, 300_000, -300_000] {
            assert_eq!(at(ms), Ok(()), "{ms}");
        }
        for ms in [300_001, -300_001, 86_400_000, i64::MAX - AT * 1000, i64::MIN] {
            assert_eq!(at(ms), Err(IdentityError::NotNow), "{ms}");
        }
        let of_the_end = sign(SECRET, "alice", i64::MAX);
        assert_eq!(checked(&of_the_end, &i64::MAX.to_string(), "alice", 0), Err(IdentityError::NotNow));
    }

    #[test]
    fn a_signature_and_its_time_have_one_spelling() {
        let signature = sign(SECRET, "alice", AT);
        let now = AT * 1000;
        assert_eq!(checked(&signature.to_uppercase(), &AT.to_string(), "alice", now), Err(IdentityError::Wrong));
        assert_eq!(checked(&format!(" {signature}"), &AT.to_string(), "alice", now), Err(IdentityError::Wrong));
        for time in ["+1700000000", "01700000000", "1700000000.0", "1.7e9", "", " 1700000000"] {
            assert_eq!(checked(&signature, time, "alice", now), Err(IdentityError::Missing), "{time}");
        }
        let number = properties(&[(SIGNATURE, Value::from(signature.as_str())), (SIGNED_AT, Value::from(AT))]);
        assert_eq!(Proof::take(&mut number.clone()).check(SECRET, &["alice".to_owned()], Timestamp(now)), Ok(()));
    }

    #[test]
    fn a_proof_is_for_one_user_and_leaves_no_trace() {
        let signature = sign(SECRET, "alice", AT);
        let mut sent =
            properties(&[("a", 1.into()), (SIGNATURE, Value::from(signature.as_str())), ("b", 2.into()), (SIGNED_AT, AT.into())]);
        let proof = Proof::take(&mut sent);
        assert_eq!(sent, properties(&[("a", 1.into()), ("b", 2.into())]));
        let check = |users: &[&str]| {
            let users: Vec<String> = users.iter().map(|user| (*user).to_owned()).collect();
            proof.check(SECRET, &users, Timestamp(AT * 1000))
        };
        assert_eq!((check(&["alice"]), check(&[])), (Ok(()), Ok(())));
        assert_eq!((check(&["bob"]), check(&["alice", "bob"])), (Err(IdentityError::Wrong), Err(IdentityError::Wrong)));
        assert_eq!(Proof::default().check(SECRET, &["alice".to_owned()], Timestamp(0)), Err(IdentityError::Missing));
        assert_eq!(Proof::default().check(SECRET, &[], Timestamp(0)), Ok(()));
    }

    #[test]
    fn who_is_known_and_who_is_a_device() {
        let users = |event: Event| users_of_event(&event);
        assert_eq!(users(event("E", "alice", &[])), ["alice"]);
        assert!(users(event("E", "$device:1", &[])).is_empty() && users(event("E", "", &[])).is_empty());
        let before = ("$anon_distinct_id", Value::from("bob"));
        assert_eq!(users(event("$identify", "alice", &[("$identified_id", "alice".into()), before])), ["alice"]);
        assert_eq!(users(event("$identify", "$device:1", &[("$identified_id", "alice".into())])), ["alice"]);
        assert_eq!(users(event("$create_alias", "alice", &[("alias", "bob".into())])), ["alice", "bob"]);
        let both = Value::List(vec!["$device:1".into(), "bob".into()]);
        assert_eq!(users(event("$merge", "", &[("$distinct_ids", both)])), ["bob"]);
        assert_eq!(users(event("E", "alice", &[("alias", "bob".into())])), ["alice"], "a property like any other");
        // Where verbs link, who somebody was until now is joined: it may be a user's id that looks made up.
        let original = |anonymous: &str| {
            let event = event("$identify", "alice", &[("$anon_distinct_id", anonymous.into())]);
            users(Event { linking: Some(model::IdentityMode::Original), ..event })
        };
        assert_eq!((original("bob"), original("$device:1")), (vec!["alice".to_owned(), "bob".to_owned()], vec!["alice".to_owned()]));
    }

    proptest! {
        #[test]
        fn no_byte_of_signature_user_or_time_may_be_bent(
            user in "\\PC{1,20}",
            signed_at in 1_000_000_000i64..4_000_000_000,
            at in any::<prop::sample::Index>(),
            bend in 1u8..=255,
        ) {
            let (signature, time) = (sign(SECRET, &user, signed_at), signed_at.to_string());
            let now = signed_at * 1000;
            prop_assert_eq!(checked(&signature, &time, &user, now), Ok(()));
            let whole = [signature.as_bytes(), user.as_bytes(), time.as_bytes()].concat();
            let mut bent = whole.clone();
            bent[at.index(whole.len())] ^= bend;
            let pieces = (&bent[..64], &bent[64..64 + user.len()], &bent[64 + user.len()..]);
            let text = |piece: &[u8]| String::from_utf8_lossy(piece).into_owned();
            let (signature, user, time) = (text(pieces.0), text(pieces.1), text(pieces.2));
            prop_assert!(checked(&signature, &time, &user, now).is_err(), "{} {} {}", signature, user, time);
            // Nor may a byte go from the user to the time.
            let moved = format!("{user}|1");
            prop_assert!(checked(&sign(SECRET, &moved, signed_at), &signed_at.to_string(), &user, now).is_err());
        }
    }
}
