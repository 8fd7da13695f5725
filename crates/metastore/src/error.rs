//! What can go wrong, by what the caller can do about it.

/// An error of the metastore.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// Only an owner of the project may do this.
    #[error("only the project's owner may {0}")]
    NotOwner(&'static str),
    /// Only an admin or an owner of the project may do this.
    #[error("only an admin or owner of the project may {0}")]
    NotAdmin(&'static str),
    /// Only an operator of the instance may do this.
    #[error("only an operator may {0}")]
    NotOperator(&'static str),
    /// Nobody signed in.
    #[error("sign in to {0}")]
    NotSignedIn(&'static str),
    /// A second factor is needed.
    #[error("a code of the authenticator app, or a recovery code, is needed")]
    NeedsCode,
    /// A password, a code or a second factor does not fit.
    #[error("{0}")]
    NotProven(&'static str),
    /// A project is never left without an owner.
    #[error("this is the project's last owner: transfer the project first")]
    LastOwner,
    /// A key may never do more than who makes it.
    #[error("your role has not the right `{0}`, so no key of yours can have it")]
    BeyondRole(&'static str),
    /// There is no such thing.
    #[error("unknown {0}")]
    Unknown(&'static str),
    /// The value is taken.
    #[error("this {0} is already in use")]
    Taken(&'static str),
    /// The value breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// The key file is gone.
    #[error("the key file is missing: secrets can be neither made nor verified; put it back and restart")]
    KeyFileMissing,
    /// The key file is not one.
    #[error("the key file is unreadable: {0}")]
    KeyFile(String),
    /// A stored secret does not open with the key file.
    #[error("a stored secret does not open with this key file")]
    Sealed,
    /// The database was written by a newer release.
    #[error("the metastore has schema {0}, which is newer than this release")]
    NewerSchema(i64),
    /// The database failed.
    #[error("metastore: {0}")]
    Database(#[from] rusqlite::Error),
    /// A file failed.
    #[error("metastore: {0}")]
    Io(#[from] std::io::Error),
}
