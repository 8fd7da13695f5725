//! What can go wrong in the store, by what the caller can do about it.

/// An error of the store. Cheap to clone: one failed sync answers many waiting writers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// More is waiting than the limits allow; try again shortly.
    #[error("the store is overloaded; try again shortly")]
    Overloaded,
    /// One event or update is longer than a record.
    #[error("an item of {bytes} bytes is longer than {bytes_max}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The longest there may be.
        bytes_max: usize,
    },
    /// The log could not be written or synced. Nothing of what was to be written counts; nothing is acknowledged until it can be again.
    #[error("the log cannot be written: {0}")]
    LogFailed(String),
    /// There is less room on the disk than is kept free. Nothing was written; try again once there is more.
    #[error("the disk is nearly full: {free_bytes} bytes are free, {free_bytes_min} are kept free")]
    DiskFull {
        /// What is free.
        free_bytes: u64,
        /// What is kept free.
        free_bytes_min: u64,
    },
    /// A file could not be read or written.
    #[error("store: {0}")]
    Io(String),
    /// A file does not hold what was written to it.
    #[error("`{path}` is corrupt: {reason}")]
    Corrupt {
        /// Which file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server stops: the work is done again later.
    #[error("the server stops")]
    Stopped,
    /// The metastore failed.
    #[error("{0}")]
    Metastore(String),
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl From<metastore::MetaError> for StoreError {
    fn from(error: metastore::MetaError) -> Self {
        Self::Metastore(error.to_string())
    }
}

impl From<parquet::errors::ParquetError> for StoreError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::Io(error.to_string())
    }
}

impl From<arrow::error::ArrowError> for StoreError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Io(error.to_string())
    }
}
