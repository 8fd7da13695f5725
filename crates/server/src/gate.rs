//! What the public token of a project may bring, where its options say less than everything: quotas, origins, deletes, properties.
//! Whoever proves a secret is not asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, Method, header};
use metastore::{Project, TokenOptions};
use model::time::DAY_MS;
use model::{Event, ProfileOp, ProfileUpdate, ProjectId, Timestamp, Value};

/// What the tokens of all projects brought of late.
pub(crate) struct Quotas(Mutex<Of>);

#[derive(Default)]
struct Of {
    projects: HashMap<ProjectId, Brought>,
    addresses: HashMap<(ProjectId, IpAddr), Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Brought {
    events: Bucket,
    bytes: Bucket,
    day: i64,
    bytes_of_day: u64,
}

/// So much a second; a second's worth may come at once. Whoever has any left may send a batch of any size, and makes good for it before the
/// next: so the mean holds, and no batch is too large for ever.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Less than none after a large batch.
    left: f64,
    at: Timestamp,
}

impl Bucket {
    const FULL: Self = Self { left: f64::MAX, at: Timestamp(0) };

    fn refilled(self, rate: f64, at: Timestamp) -> Self {
        let since = (at.0 - self.at.0).max(0) as f64 / 1000.0;
        Self { left: (self.left + since * rate).min(rate), at }
    }

    /// Takes from it, or says how long to wait.
    fn take(self, rate: f64, amount: u64, at: Timestamp) -> Result<Self, Duration> {
        let full = self.refilled(rate, at);
        if full.left < 1.0 {
            let wait = (1.0 - full.left) / rate.max(0.01);
            return Err(Duration::from_secs_f64(wait.clamp(1.0, RETRY_SECONDS_MAX)));
        }
        Ok(Self { left: full.left - amount as f64, at })
    }
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
/// More senders are not remembered at a time; then those go whose second is over, and if that does not help, all.
const ADDRESSES_MAX: usize = 100_000;

fn day_of(now: Timestamp) -> i64 {
    now.0.div_euclid(DAY_MS)
}

fn is_limited(options: &TokenOptions) -> bool {
    let second = [options.events_per_second_max, options.address_events_per_second_max];
    second.iter().any(Option::is_some) || options.bytes_per_second_max.is_some() || options.bytes_per_day_max.is_some()
}

impl Quotas {
    /// Goes on with the bytes of a day that were counted before.
    pub(crate) fn new(day: i64, bytes: Vec<(ProjectId, u64)>) -> Self {
        let brought = |bytes_of_day| Brought { events: Bucket::FULL, bytes: Bucket::FULL, day, bytes_of_day };
        let projects = bytes.into_iter().map(|(project, bytes)| (project, brought(bytes))).collect();
        Self(Mutex::new(Of { projects, ..Of::default() }))
    }

    /// Takes a request of an address whole, or says how long to wait. Days are those of `now`, seconds those of the `steady` clock.
    pub(crate) fn take(&self, loads: &[Load<'_>], address: IpAddr, now: Timestamp, steady: Timestamp) -> Result<(), Duration> {
        if !loads.iter().any(|load| is_limited(load.options)) {
            return Ok(());
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut projects, mut addresses) = (Vec::new(), Vec::new());
        for load in loads.iter().filter(|load| is_limited(load.options)) {
            let fresh = Brought { events: Bucket::FULL, bytes: Bucket::FULL, day: day_of(now), bytes_of_day: 0 };
            let mut brought = all.projects.get(&load.project).copied().unwrap_or(fresh);
            if let Some(max) = load.options.events_per_second_max {
                brought.events = brought.events.take(f64::from(max), load.events, steady)?;
            }
            if let Some(max) = load.options.bytes_per_second_max {
                brought.bytes = brought.bytes.take(max as f64, load.bytes, steady)?;
            }
            if let Some(max) = load.options.address_events_per_second_max {
                let sender = (load.project, address);
                let bucket = all.addresses.get(&sender).copied().unwrap_or(Bucket::FULL);
                addresses.push((sender, bucket.take(f64::from(max), load.events, steady)?));
            }
            if brought.day != day_of(now) {
                (brought.day, brought.bytes_of_day) = (day_of(now), 0);
            }
            if load.options.bytes_per_day_max.is_some_and(|max| brought.bytes_of_day >= max) {
                return Err(Duration::from_secs_f64(RETRY_SECONDS_MAX));
            }
            brought.bytes_of_day += load.bytes;
            projects.push((load.project, brought));
        }
        all.projects.extend(projects);
        if all.addresses.len() >= ADDRESSES_MAX && !addresses.is_empty() {
            all.addresses.retain(|_, bucket| bucket.left < 0.0 || steady.0 - bucket.at.0 < 1000);
            if all.addresses.len() >= ADDRESSES_MAX {
                all.addresses.clear();
            }
        }
        all.addresses.extend(addresses);
        Ok(())
    }

    /// The day and its bytes, to outlive a restart.
    pub(crate) fn of_day(&self, now: Timestamp) -> (i64, Vec<(ProjectId, u64)>) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let day = day_of(now);
        let of_day = all.projects.iter().filter(|(_, brought)| brought.day == day);
        (day, of_day.map(|(project, brought)| (*project, brought.bytes_of_day)).collect())
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
pub(crate) fn event(project: &Project, origin: Option<&str>, event: &mut Event) -> Result<(), &'static str> {
    let options = &project.token_options;
    if options.deletes_need_secret && event.name == "$merge" {
        return Err("this project takes merges with a secret only");
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
            return Err("origin not allowed");
        }
        event.properties.insert(ORIGIN_OK.into(), Value::Bool(is_allowed));
    }
    Ok(())
}

/// Lets profile updates of the public in; else why not.
pub(crate) fn updates(project: &Project, origin: Option<&str>, updates: &mut [ProfileUpdate]) -> Result<(), &'static str> {
    let options = &project.token_options;
    if options.deletes_need_secret && updates.iter().any(|update| update.op.is_destructive()) {
        return Err("this project takes deletes with a secret only");
    }
    if !options.authenticated_properties.is_empty() {
        updates.iter_mut().for_each(|update| without(&mut update.op, &options.authenticated_properties));
    }
    let is_refused = |origin: &str| options.enforces_origins && !options.origins.allows(origin);
    if origin.is_some_and(is_refused) { Err("origin not allowed") } else { Ok(()) }
}

/// Leaves properties out of what an operation writes.
fn without(op: &mut ProfileOp, names: &[String]) {
    if let Some(properties) = op.properties_mut() {
        properties.retain(|name, _| !names.contains(name));
    }
    if let ProfileOp::Unset(unset) = op {
        unset.retain(|name| !names.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProjectId = ProjectId(1);

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn taken_from(address: IpAddr, quotas: &Quotas, options: &TokenOptions, events: u64, bytes: u64, at: i64) -> bool {
        quotas.take(&[Load { project: P, options, events, bytes }], address, Timestamp(at), Timestamp(at)).is_ok()
    }

    fn taken(quotas: &Quotas, options: &TokenOptions, events: u64, bytes: u64, at: i64) -> bool {
        taken_from(HOME, quotas, options, events, bytes, at)
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

    #[test]
    fn p2_bytes_come_in_at_their_rate() {
        let options = TokenOptions { bytes_per_second_max: Some(10_000), ..TokenOptions::default() };
        let quotas = Quotas::new(0, Vec::new());
        let bytes: u64 = (0..60_000).map(|ms| if taken(&quotas, &options, 1, 700, ms) { 700 } else { 0 }).sum();
        assert!((590_000..=612_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn p2_one_address_takes_nothing_from_the_others() {
        let options = TokenOptions { address_events_per_second_max: Some(10), ..TokenOptions::default() };
        let quotas = Quotas::new(0, Vec::new());
        let other: IpAddr = "203.0.113.7".parse().unwrap();
        let mut events = [0; 2];
        for ms in 0..60_000 {
            events[0] += u32::from(taken(&quotas, &options, 1, 0, ms));
            events[1] += u32::from(ms % 200 == 0 && taken_from(other, &quotas, &options, 1, 0, ms));
        }
        assert!((595..=615).contains(&events[0]) && events[1] == 300, "{events:?}");
    }

    #[test]
    fn p2_senders_are_remembered_within_bounds() {
        let options = TokenOptions { address_events_per_second_max: Some(1), ..TokenOptions::default() };
        let quotas = Quotas::new(0, Vec::new());
        for number in 0..3 * ADDRESSES_MAX as u32 {
            assert!(taken_from(std::net::Ipv4Addr::from(number).into(), &quotas, &options, 1, 0, i64::from(number)));
        }
        assert!(quotas.0.lock().unwrap().addresses.len() <= ADDRESSES_MAX);
    }

    /// T21 of the security bar: the limits of a second go by the steady clock, whatever the wall clock does.
    #[test]
    fn t21_no_limit_stalls_when_the_clock_jumps() {
        let options = TokenOptions { events_per_second_max: Some(10), ..TokenOptions::default() };
        for jump in [-DAY_MS, -1000, 1000, DAY_MS] {
            let quotas = Quotas::new(0, Vec::new());
            let mut events = 0;
            for ms in 0..60_000 {
                let wall = 20_000 * DAY_MS + ms + if ms > 30_000 { jump } else { 0 };
                let load = Load { project: P, options: &options, events: 1, bytes: 0 };
                events += u32::from(quotas.take(&[load], HOME, Timestamp(wall), Timestamp(ms)).is_ok());
            }
            assert!((595..=615).contains(&events), "{events} over a jump of {jump} ms");
        }
    }
}
