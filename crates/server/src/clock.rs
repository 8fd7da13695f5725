//! The one place that looks at a clock.

use model::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the one place that looks at a clock")]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as i64)
}
