//! The environment, read here and nowhere else.

use std::path::PathBuf;

/// `SLUICE_DATA`: the data directory where `--data` is not given.
pub(crate) fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, String> {
    given
        .or_else(|| std::env::var_os("SLUICE_DATA").map(PathBuf::from))
        .ok_or_else(|| "name the data directory with --data or SLUICE_DATA".to_owned())
}

/// `SLUICE_LOG`: what is logged, `info` by default.
pub(crate) fn log_filter() -> String {
    std::env::var("SLUICE_LOG").unwrap_or_else(|_| "info".to_owned())
}
