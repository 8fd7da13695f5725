//! How often a password or code may be tried: an account waits longer after each failure and rests after a hundred of a day; an address has
//! a bucket of tries. A browser that the account signed in from before has tries of its own, so that guesses lock nobody out.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::Timestamp;
use model::time::DAY_MS;

/// Tries of accounts and addresses. Every `now` is a time of [`crate::clock::steady`]: a clock that jumps neither locks out nor lets in.
#[derive(Default)]
pub(crate) struct Throttle {
    accounts: Mutex<HashMap<[u8; 32], Tries>>,
    addresses: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Clone, Copy)]
struct Tries {
    failed: u32,
    day: i64,
    not_before: Timestamp,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Timestamp,
}

/// Failures of a day after which an account rests until the day ends (NIST SP 800-63B allows a hundred).
const FAILURES_OF_DAY_MAX: u32 = 100;
/// Seconds to wait after the first failures; the last holds for all that follow.
const WAITS_SECONDS: [i64; 4] = [1, 3, 5, 10];
/// Tries that an address has at once, and how soon one comes back.
const BURST: f64 = 30.0;
const REFILL_PER_MS: f64 = 1.0 / 2000.0;
/// More accounts and addresses are not remembered; the stalest goes.
const REMEMBERED_MAX: usize = 20_000;

/// A try that may be made; it counts as failed until [`Try::succeeded`].
#[must_use]
pub(crate) struct Try<'a> {
    throttle: &'a Throttle,
    account: [u8; 32],
}

impl Throttle {
    /// Whether an account may be tried from an address now; otherwise how long to wait. `is_known` says that the browser is one that the
    /// account signed in from.
    pub(crate) fn admit(&self, account: &str, is_known: bool, address: IpAddr, now: Timestamp) -> Result<Try<'_>, Duration> {
        self.admit_address(address, now)?;
        let account = name_of(account, is_known);
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let day = now.0.div_euclid(DAY_MS);
        let fresh = Tries { failed: 0, day, not_before: Timestamp(0) };
        let mut tries = accounts.get(&account).copied().filter(|tries| tries.day == day).unwrap_or(fresh);
        if tries.not_before > now {
            return Err(Duration::from_millis((tries.not_before.0 - now.0) as u64));
        }
        // It counts before it is made: tries at the same time are tries too.
        let wait = WAITS_SECONDS[(tries.failed as usize).min(WAITS_SECONDS.len() - 1)];
        tries.failed += 1;
        let rests = tries.failed >= FAILURES_OF_DAY_MAX;
        tries.not_before = if rests { Timestamp((day + 1) * DAY_MS) } else { now.plus_ms(wait * 1000) };
        remember(&mut accounts, account, tries, |tries| tries.not_before);
        Ok(Try { throttle: self, account })
    }

    /// Forgets the failures of an account whose owner proved itself in another way.
    pub(crate) fn forgive(&self, account: &str) {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).remove(&name_of(account, false));
    }

    /// Whether an address may try anything now.
    pub(crate) fn admit_address(&self, address: IpAddr, now: Timestamp) -> Result<(), Duration> {
        // Whoever is on this machine has other ways.
        if address.is_loopback() {
            return Ok(());
        }
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bucket = addresses.get(&address).copied().unwrap_or(Bucket { left: BURST, at: now });
        bucket.left = (bucket.left + (now.0 - bucket.at.0).max(0) as f64 * REFILL_PER_MS).min(BURST);
        bucket.at = now;
        let admitted = bucket.left >= 1.0;
        bucket.left -= f64::from(u8::from(admitted));
        let wait = Duration::from_secs_f64((1.0 - bucket.left).max(0.0) / REFILL_PER_MS / 1000.0);
        remember(&mut addresses, address, bucket, |bucket| bucket.at);
        if admitted { Ok(()) } else { Err(wait) }
    }
}

fn remember<K: Eq + Hash + Copy, V>(all: &mut HashMap<K, V>, key: K, value: V, age: impl Fn(&V) -> Timestamp) {
    if all.len() >= REMEMBERED_MAX && !all.contains_key(&key) {
        let stalest = all.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| *key);
        stalest.map(|key| all.remove(&key));
    }
    all.insert(key, value);
}

impl Try<'_> {
    /// Everything that was asked for was right: earlier failures are forgotten.
    pub(crate) fn succeeded(self) {
        self.throttle.accounts.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.account);
    }

    /// It was neither right nor wrong: it does not count, and earlier failures stand.
    pub(crate) fn undecided(self) {
        if let Some(tries) = self.throttle.accounts.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&self.account) {
            tries.failed = tries.failed.saturating_sub(1);
            tries.not_before = Timestamp(0);
        }
    }
}

/// Under which name the tries of an account are counted.
fn name_of(account: &str, is_known: bool) -> [u8; 32] {
    metastore::sha256(format!("{is_known} {}", account.trim().to_lowercase()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// T17 of the security bar: however fast somebody guesses, an account is tried a hundred times a day.
    #[test]
    fn t17_an_account_is_tried_a_hundred_times_a_day() {
        let throttle = Throttle::default();
        let start = 20_000 * DAY_MS;
        let mut tried = 0;
        for step in 0..100_000 {
            tried += u32::from(throttle.admit("o@example.com", false, HOME, Timestamp(start + step * 800)).is_ok());
        }
        assert_eq!(tried, 100);
        let later = Timestamp(start + 90_000_000 - 1);
        assert!(throttle.admit("o@example.com", false, HOME, Timestamp(start + DAY_MS - 1)).is_err());
        assert!(throttle.admit("O@example.com ", true, HOME, Timestamp(start + 5000)).is_ok(), "a known browser has its own tries");
        assert!(throttle.admit("o@example.com", false, HOME, later).is_ok(), "the next day is another");
    }

    #[test]
    fn the_waits_grow_and_success_forgets_them() {
        let throttle = Throttle::default();
        let mut now = Timestamp(DAY_MS);
        for wait in [1, 3, 5, 10, 10] {
            assert!(throttle.admit("a", false, HOME, now).is_ok());
            assert_eq!(throttle.admit("a", false, HOME, now).err(), Some(Duration::from_secs(wait)));
            now = now.plus_ms(wait as i64 * 1000);
        }
        throttle.admit("a", false, HOME, now).ok().unwrap().succeeded();
        assert!(throttle.admit("a", false, HOME, now).is_ok());
    }

    #[test]
    fn t18_what_is_undecided_forgives_nothing() {
        let throttle = Throttle::default();
        let (mut now, mut evaluated) = (Timestamp(20_000 * DAY_MS), 0);
        // Somebody knows the password and guesses codes, with the password alone between: neither right nor wrong.
        while now.0 < 20_001 * DAY_MS - 60_000 {
            if let Ok(alone) = throttle.admit("a", false, HOME, now) {
                alone.undecided();
            }
            evaluated += u32::from(throttle.admit("a", false, HOME, now).is_ok());
            now = now.plus_ms(1000);
        }
        assert!(evaluated <= 100, "{evaluated}");
    }

    #[test]
    fn an_address_has_a_bucket_of_tries() {
        let throttle = Throttle::default();
        let address: IpAddr = "203.0.113.7".parse().unwrap();
        let now = Timestamp(DAY_MS);
        let tried = (0..1000).filter(|at| throttle.admit(&format!("{at}"), false, address, now).is_ok()).count();
        assert_eq!(tried, 30);
        assert!(throttle.admit_address(address, now.plus_ms(2000)).is_ok() && throttle.admit_address(address, now.plus_ms(2000)).is_err());
    }
}
