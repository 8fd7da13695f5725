//! Why a report could not be answered, by what the caller can do about it.

/// Why a report could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The question cannot be answered as it was put; the text says what to change.
    #[error("{0}")]
    BadRequest(String),
    /// The session of a paged answer is unknown or older than 30 minutes: start again at page 0.
    #[error("request for page in uncached query for params")]
    UnknownSession,
    /// The store failed to read.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The process is going down and took the answer with it.
    #[error("the answer was interrupted")]
    Interrupted,
}
