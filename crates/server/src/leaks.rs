//! Live secrets in places that are not for secrets: a URL, a body, a token's place, a property. Such a request is refused and the owner told;
//! the secret itself is written down nowhere.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use metastore::{CredentialTable, Leaked, MetaError, Metastore};
use model::{Timestamp, Value};
use wire::params::Params;

use crate::clock;

/// Where a secret was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Url,
    Body,
    Token,
    Property,
}

impl Place {
    /// What a refusal says.
    pub(crate) fn refusal(self) -> &'static str {
        match self {
            Self::Url => "an API secret stands in the URL: it belongs into the header `Authorization` alone, and has to be reset now",
            Self::Body => "an API secret stands in the body: it belongs into the header `Authorization` alone, and has to be reset now",
            Self::Token => "an API secret stands in the place of the project token",
            Self::Property => "an API secret stands in a property",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Url => "a URL",
            Self::Body => "a body",
            Self::Token => "a token's place",
            Self::Property => "a property",
        }
    }
}

/// What was found and not written yet, and when each credential was last written of.
#[derive(Default)]
pub(crate) struct Leaks {
    found: Mutex<HashMap<(Leaked, Place), (IpAddr, Timestamp)>>,
    told: Mutex<HashMap<(Leaked, Place), Timestamp>>,
}

/// Findings that are held between two writes.
const FOUND_MAX: usize = 1000;
/// The owner is told of a credential in a place at most so often.
const TELL_EVERY_MS: i64 = 3_600_000;

impl Leaks {
    /// Keeps a finding until it is written.
    pub(crate) fn note(&self, leaked: Leaked, place: Place, address: IpAddr, now: Timestamp) {
        tracing::warn!(project.id = ?leaked.project, credential = leaked.credential, "a live secret was sent in {}", place.name());
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() < FOUND_MAX {
            found.insert((leaked, place), (address, now));
        }
    }

    /// Writes the findings into the audit log, from which the owners are told.
    pub(crate) fn write(&self, metastore: &Metastore) -> Result<(), MetaError> {
        let found = std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for ((leaked, place), (address, at)) in found {
            let key = (leaked, place);
            if told.get(&key).is_some_and(|last| at.0 - last.0 < TELL_EVERY_MS) {
                continue;
            }
            let (Leaked { project, credential }, place) = &key;
            let detail = format!("{credential} in {}", place.name());
            metastore.note_of("visitor", &address.to_string(), at, *project, "secret leaked", &detail)?;
            told.insert(key, at);
        }
        let now = clock::now();
        told.retain(|_, at| now.0 - at.0 < TELL_EVERY_MS);
        Ok(())
    }
}

/// The live secret that stands where an API key belongs.
pub(crate) fn as_api_key(table: &CredentialTable, api_key: Option<&str>, now: Timestamp) -> Option<Leaked> {
    api_key.and_then(|api_key| table.leaked(api_key, now))
}

/// The live secret in a record, however deep.
pub(crate) fn in_value(table: &CredentialTable, value: &Value, now: Timestamp) -> Option<Leaked> {
    match value {
        Value::String(text) => table.leaked(text, now),
        Value::List(items) => items.iter().find_map(|item| in_value(table, item, now)),
        Value::Object(object) => object.iter().find_map(|(name, value)| table.leaked(name, now).or_else(|| in_value(table, value, now))),
        _ => None,
    }
}

/// The live secret among parameters, as a name or a value. In the place of an API key it is a wrong key, and answered as one.
pub(crate) fn in_params(table: &CredentialTable, params: &Params, now: Timestamp) -> Option<Leaked> {
    let others = params.pairs().iter().filter(|(name, _)| name != "api_key");
    others.into_iter().find_map(|(name, value)| table.leaked(name, now).or_else(|| table.leaked(value, now)))
}
