//! The one place that looks at clocks. The wall clock may jump, forwards and back: it dates events and tells whether a signature's `expire`
//! is over. What ends goes by [`latest`], what waits by [`steady`].

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use model::Timestamp;
use model::time::DAY_MS;

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the one place that looks at a clock")]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as i64)
}

/// A clock that is further ahead than this of what is known of the past was not late: it was wrong.
const WRONG_BY_MS: i64 = 2 * DAY_MS;

static LATEST: AtomicI64 = AtomicI64::new(i64::MIN);

/// The latest time that was ever now: what ended stays ended where the wall clock goes back. A clock that goes back by more than two days
/// was wrong before, and is believed.
pub(crate) fn latest() -> Timestamp {
    Timestamp(later(&LATEST, now().0))
}

/// Tells of a time that was now before this process began.
pub(crate) fn remember(past: Timestamp) {
    LATEST.fetch_max(past.0, Ordering::Relaxed);
}

fn later(latest: &AtomicI64, now: i64) -> i64 {
    let before = latest.fetch_max(now, Ordering::Relaxed).max(now);
    if before - now <= WRONG_BY_MS {
        return before;
    }
    latest.store(now, Ordering::Relaxed);
    now
}

/// How long the process runs, as a time whose day and hour mean nothing: it never jumps. For limits and waits.
pub(crate) fn steady() -> Timestamp {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    // A day that has begun: what refills from nothing is full.
    Timestamp(DAY_MS + BEGAN.elapsed().as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T21 of the security bar.
    #[test]
    fn t21_what_ended_stays_ended_unless_the_clock_was_wrong() {
        let latest = AtomicI64::new(i64::MIN);
        let noon = 20_000 * DAY_MS;
        assert_eq!(later(&latest, noon), noon);
        assert_eq!(later(&latest, noon + DAY_MS), noon + DAY_MS, "a day ahead");
        assert_eq!(later(&latest, noon), noon + DAY_MS, "and back");
        assert_eq!(later(&latest, noon + DAY_MS + 1), noon + DAY_MS + 1);
        assert_eq!(later(&latest, noon + 90 * 365 * DAY_MS), noon + 90 * 365 * DAY_MS, "a clock of another century");
        assert_eq!(later(&latest, noon), noon, "is not believed once it is put right");
    }
}
