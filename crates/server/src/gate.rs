//! What the public token of a project may bring, where its options say less than everything: quotas, origins, deletes, properties.
//! Whoever proves a secret is not asked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, Method, header};
use metastore::{Project, TokenOptions};
use model::time::DAY_MS;
use model::{Event, ProfileOp, ProfileUpdate, ProjectId, Reason, Timestamp, Value};

/// What the tokens of all projects brought of late.
pub(crate) struct Quotas(Mutex<HashMap<ProjectId, Brought>>);

#[derive(Debug, Clone, Copy)]
struct Brought {
    /// Events that may come at once; less than none after a large batch.
    left: f64,
    at: Timestamp,
    day: i64,
    bytes: u64,
}

/// What a request brings to a project.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub project: ProjectId,
    pub options: &'a TokenOptions,
    pub events: u64,
    pub bytes: u64,
}

/// Clients come back soon and find room, or come back again.
const RETRY_SECONDS_MAX: f64 = 60.0;

fn day_of(now: Timestamp) -> i64 {
    now.0.div_euclid(DAY_MS)
}

impl Quotas {
    /// Goes on with the bytes of a day that were counted before.
    pub(crate) fn new(day: i64, bytes: Vec<(ProjectId, u64)>) -> Self {
        let brought = |bytes| Brought { left: f64::MAX, at: Timestamp(day * DAY_MS), day, bytes };
        Self(Mutex::new(bytes.into_iter().map(|(project, bytes)| (project, brought(bytes))).collect()))
    }

    /// Takes a request whole, or says how long to wait. A second's worth may come at once. Whoever has any left may send a batch of any
    /// size, and makes good for it before the next: so the mean holds, and no batch is too large for ever.
    pub(crate) fn take(&self, loads: &[Load<'_>], now: Timestamp) -> Result<(), Duration> {
        let is_limited = |load: &&Load<'_>| load.options.events_per_second_max.is_some() || load.options.bytes_per_day_max.is_some();
        if !loads.iter().any(|load| is_limited(&load)) {
            return Ok(());
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = Vec::new();
        for load in loads.iter().filter(is_limited) {
            let fresh = Brought { left: f64::MAX, at: now, day: day_of(now), bytes: 0 };
            let mut brought = all.get(&load.project).copied().unwrap_or(fresh);
            if let Some(max) = load.options.events_per_second_max {
                let rate = f64::from(max);
                let since = (now.0 - brought.at.0).max(0) as f64 / 1000.0;
                brought.left = (brought.left + since * rate).min(rate);
                if brought.left < 1.0 {
                    let wait = (1.0 - brought.left) / rate.max(0.01);
                    return Err(Duration::from_secs_f64(wait.clamp(1.0, RETRY_SECONDS_MAX)));
                }
                brought.left -= load.events as f64;
            }
            brought.at = now;
            if brought.day != day_of(now) {
                (brought.day, brought.bytes) = (day_of(now), 0);
            }
            if load.options.bytes_per_day_max.is_some_and(|max| brought.bytes >= max) {
                return Err(Duration::from_secs_f64(RETRY_SECONDS_MAX));
            }
            brought.bytes += load.bytes;
            after.push((load.project, brought));
        }
        all.extend(after);
        Ok(())
    }

    /// The day and its bytes, to outlive a restart.
    pub(crate) fn of_day(&self, now: Timestamp) -> (i64, Vec<(ProjectId, u64)>) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let day = day_of(now);
        (day, all.iter().filter(|(_, brought)| brought.day == day).map(|(project, brought)| (*project, brought.bytes)).collect())
    }
}

/// The page that a request comes from: its origin, or for an image the origin of its referrer.
pub(crate) fn origin(method: &Method, headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).map(|value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let of_referrer = |url: String| {
        let (scheme, rest) = url.split_once("://")?;
        Some(format!("{scheme}://{}", rest.split(['/', '?', '#']).next().unwrap_or_default()))
    };
    let is_cross = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    // A page that hides where it is is no page that a project names.
    let hidden = || is_cross.then(|| "null".to_owned());
    text(header::ORIGIN).or_else(|| text(header::REFERER).filter(|_| *method == Method::GET).and_then(of_referrer)).or_else(hidden)
}

/// Says whether an event comes from an origin that its project names.
pub(crate) const ORIGIN_OK: &str = "$origin_ok";

/// Lets an event of the public in, changed as the project asks; else why not.
pub(crate) fn event(project: &Project, origin: Option<&str>, event: &mut Event) -> Result<(), (Reason, &'static str)> {
    let options = &project.token_options;
    if options.deletes_need_secret && event.name == "$merge" {
        return Err((Reason::SecretNeeded, "this project takes merges with a secret only"));
    }
    for name in &options.authenticated_properties {
        event.properties.shift_remove(name.as_str());
    }
    if !options.origins.is_empty() {
        // Nobody says it of itself.
        event.properties.shift_remove(ORIGIN_OK);
    }
    if let Some(origin) = origin.filter(|_| !options.origins.is_empty()) {
        let is_allowed = options.origins.allows(origin);
        if !is_allowed && options.enforces_origins {
            return Err((Reason::OriginRefused, "origin not allowed"));
        }
        event.properties.insert(ORIGIN_OK.into(), Value::Bool(is_allowed));
    }
    Ok(())
}

/// Lets profile updates of the public in, and says whether it left properties out; else why not.
pub(crate) fn updates(project: &Project, origin: Option<&str>, updates: &mut [ProfileUpdate]) -> Result<bool, (Reason, &'static str)> {
    let options = &project.token_options;
    if options.deletes_need_secret && updates.iter().any(|update| update.op.is_destructive()) {
        return Err((Reason::SecretNeeded, "this project takes deletes with a secret only"));
    }
    let is_refused = |origin: &str| options.enforces_origins && !options.origins.allows(origin);
    if origin.is_some_and(is_refused) {
        return Err((Reason::OriginRefused, "origin not allowed"));
    }
    let names = &options.authenticated_properties;
    let mut is_less = false;
    if !names.is_empty() {
        updates.iter_mut().for_each(|update| is_less |= without(&mut update.op, names));
    }
    Ok(is_less)
}

/// Leaves properties out of what an operation writes; whether there were any.
fn without(op: &mut ProfileOp, names: &[String]) -> bool {
    let mut is_less = false;
    let mut keeps = |name: &String| {
        let is_left_out = names.contains(name);
        is_less |= is_left_out;
        !is_left_out
    };
    if let Some(properties) = op.properties_mut() {
        properties.retain(|name, _| keeps(name));
    }
    if let ProfileOp::Unset(unset) = op {
        unset.retain(|name| keeps(name));
    }
    is_less
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProjectId = ProjectId(1);

    fn taken(quotas: &Quotas, options: &TokenOptions, events: u64, bytes: u64, at: i64) -> bool {
        quotas.take(&[Load { project: P, options, events, bytes }], Timestamp(at)).is_ok()
    }

    /// P2 of the security bar: a flood at ten times the quota gets in at the quota.
    #[test]
    fn p2_events_come_in_at_their_rate_however_many_knock() {
        let options = TokenOptions { events_per_second_max: Some(100), ..TokenOptions::default() };
        for batch in [1, 50, 2000] {
            let quotas = Quotas::new(0, Vec::new());
            let mut events = 0;
            for ms in 0..60_000 {
                events += if taken(&quotas, &options, batch, 0, ms) { batch } else { 0 };
            }
            let (least, most) = (60 * 100 - 2 * batch, 60 * 100 + 100 + 2 * batch);
            assert!((least..=most).contains(&events), "{events} in batches of {batch}");
        }
    }

    #[test]
    fn p2_a_day_has_so_many_bytes_and_the_next_day_has_them_again() {
        let options = TokenOptions { bytes_per_day_max: Some(1000), ..TokenOptions::default() };
        let quotas = Quotas::new(5, vec![(P, 600)]);
        let at = 5 * DAY_MS;
        assert!(taken(&quotas, &options, 1, 500, at) && !taken(&quotas, &options, 1, 1, at + 1));
        assert_eq!(quotas.of_day(Timestamp(at)), (5, vec![(P, 1100)]));
        assert!(taken(&quotas, &options, 1, 1, at + DAY_MS));
    }
}
