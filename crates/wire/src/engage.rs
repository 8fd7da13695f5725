//! Records of `/engage` and `/groups` to profile updates (`contract/write.md` 1.3, 1.4).

use model::profile::{ProfileKey, ProfileOp, ProfileUpdate};
use model::value::Properties;
use model::{Timestamp, Value};

use crate::body::{PROFILE_VALUE_BYTES_MAX, RECORD_BYTES_MAX};
use crate::json;
use crate::track::{Record, Rejection, text_of, time_of};

/// How the records of a request are read.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// `/groups` rather than `/engage`.
    pub groups: bool,
    /// Beyond the public token.
    pub authenticated: bool,
    /// The time of receipt.
    pub now: Timestamp,
    /// Records are measured: one of them may be too long.
    pub is_long: bool,
}

/// Reads one record, which may hold several operations.
pub fn updates(index: usize, record: &Value, rules: Rules) -> Record<Vec<ProfileUpdate>> {
    let Rules { groups, authenticated, now, is_long } = rules;
    let refused = |field: &str, message: &str, verbose: &'static str| {
        let message = format!("'{field}' is invalid: {message}");
        Record::Refused(Rejection { index, insert_id: String::new(), field: field.to_owned(), message, verbose })
    };
    let refuse = |field: &str, verbose: &'static str| refused(field, "must not be missing", verbose);
    if is_long && json::len(record) > RECORD_BYTES_MAX {
        return refused("$set", "must not be longer than 1000000 bytes", "update, longer than 1000000 bytes");
    }
    let Value::Object(record) = record else { return refuse("$token", "data, missing or empty") };
    let text = |name: &str| record.get(name).map(text_of).filter(|text| !text.is_empty());
    let Some(token) = text("$token") else { return refuse("$token", "$token, missing or empty") };
    let key = if groups {
        let Some(key) = text("$group_key") else { return refuse("$group_key", "$group_key, missing or empty") };
        let Some(id) = text("$group_id") else { return refuse("$group_id", "$group_id, missing or empty") };
        if record.contains_key("$distinct_id") {
            return refuse("$distinct_id", "$distinct_id, not allowed on a group");
        }
        ProfileKey::Group { key, id }
    } else {
        let Some(id) = text("$distinct_id") else { return refuse("$distinct_id", "$distinct_id, missing or empty") };
        ProfileKey::User(id)
    };
    let flag = |name: &str| match record.get(name) {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::Number(number)) => number.as_f64() != 0.0,
        Some(Value::String(text)) => text == "true" || text == "1",
        _ => false,
    };
    let dedup_id = match record.get("$mp_metadata") {
        Some(Value::Object(metadata)) => metadata.get("$mp_event_id").map(text_of).filter(|id| !id.is_empty()),
        _ => None,
    };
    let time = record.get("$time").and_then(time_of).filter(|time| *time <= now).unwrap_or(now);
    let mut updates = Vec::new();
    for (name, argument) in record {
        let Some(op) = operation(name, argument) else { continue };
        let mut values = argument.as_object().into_iter().flat_map(|values| values.values());
        if is_long && values.any(|value| json::len(value) > PROFILE_VALUE_BYTES_MAX) {
            return refused(name, "no property may be longer than 262144 bytes", "property, longer than 262144 bytes");
        }
        // Several operations of one record are told apart, so that a resend of the record repeats none of them.
        let dedup_id = dedup_id.as_ref().map(|id| format!("{id}{name}"));
        let (key, ignore_time, ignore_alias) = (key.clone(), flag("$ignore_time"), flag("$ignore_alias"));
        updates.push(ProfileUpdate { key, op, time, received_at: now, ignore_time, ignore_alias, dedup_id, authenticated });
    }
    if updates.is_empty() {
        return refuse("$set", "data, missing or empty");
    }
    Record::Good { token, item: updates }
}

fn operation(name: &str, argument: &Value) -> Option<ProfileOp> {
    // `$ip` inside `$set` is a modifier that one SDK puts there; addresses are never stored.
    let object = || match argument {
        Value::Object(object) => Some(
            object.iter().filter(|(name, _)| *name != "$ip").map(|(name, value)| (name.clone(), value.clone())).collect::<Properties>(),
        ),
        _ => None,
    };
    Some(match name {
        "$set" => ProfileOp::Set(object()?),
        "$set_once" => ProfileOp::SetOnce(object()?),
        "$add" => ProfileOp::Add(object()?),
        "$append" => ProfileOp::Append(object()?),
        "$remove" => ProfileOp::Remove(object()?),
        "$union" => ProfileOp::Union(object()?),
        "$merge" => ProfileOp::Merge(object()?),
        "$unset" => ProfileOp::Unset(match argument {
            Value::List(names) => names.iter().map(text_of).collect(),
            Value::String(name) => vec![name.clone()],
            _ => return None,
        }),
        "$delete" => ProfileOp::Delete,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(authenticated: bool, sent: &[(&str, Value)]) -> Vec<ProfileUpdate> {
        let ids = [("$token", Value::from("t")), ("$distinct_id", Value::from("u"))];
        let record = ids.iter().chain(sent).map(|(name, value)| ((*name).to_owned(), value.clone()));
        let rules = Rules { groups: false, authenticated, now: Timestamp(2_000), is_long: false };
        match updates(0, &Value::Object(record.collect()), rules) {
            Record::Good { item, .. } => item,
            _ => panic!("it is good"),
        }
    }

    #[test]
    fn an_update_says_who_wrote_it() {
        assert!(!check(false, &[("$delete", Value::from(""))])[0].authenticated);
        assert!(check(true, &[("$delete", Value::from(""))])[0].authenticated);
    }

    #[test]
    fn the_time_of_receipt_is_the_servers() {
        let update = &check(false, &[("$time", Value::from(1)), ("$delete", Value::from(""))])[0];
        assert_eq!((update.time, update.received_at), (Timestamp(1_000), Timestamp(2_000)));
    }

    #[test]
    fn no_record_restores() {
        let sent = [("$restore", Value::from(0)), ("$set", Value::Object(Properties::default()))];
        assert!(check(true, &sent).iter().all(|update| matches!(update.op, ProfileOp::Set(_))));
    }
}
