//! Identifiers, each its own type so that one cannot stand where another belongs.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// One project: a token, its keys, its events and profiles.
    ProjectId
}
id! {
    /// The organisation that a project belongs to.
    OrganizationId
}
id! {
    /// A person who can sign in.
    AccountId
}
