//! Who may do what: roles of members and service accounts, access rights of API keys (design F3, F9).

/// What a member or a service account is in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Sees reports.
    Consumer,
    /// Reads everything and writes through authenticated calls where granted.
    Analyst,
    /// Manages the project, reveals secrets.
    Admin,
    /// Owns the project; alone resets its API key and API secret.
    Owner,
}

impl Role {
    /// The word for it on the wire and in the metastore.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Analyst => "analyst",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// What the role may do through a service account or a bearer token, and the most that it may give to an API key.
    pub fn rights(self) -> &'static [AccessRight] {
        use AccessRight::{Annotations, Export, Import, ProfilesRead, ProfilesWrite, Query, Schema};
        match self {
            Self::Consumer => &[Query],
            Self::Analyst => &[Query, Export, ProfilesRead, Annotations],
            Self::Admin => &[Query, Export, ProfilesRead, Annotations, Import, ProfilesWrite, Schema],
            Self::Owner => &AccessRight::ALL,
        }
    }

    /// Reads the word back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Consumer, Self::Analyst, Self::Admin, Self::Owner].into_iter().find(|role| role.as_str() == text)
    }
}

/// One thing that an API key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessRight {
    /// Raw export of events.
    Export,
    /// Reports over events.
    Query,
    /// `/import` as an authenticated writer.
    Import,
    /// Reading profiles.
    ProfilesRead,
    /// Writing profiles as an authenticated writer.
    ProfilesWrite,
    /// Annotations.
    Annotations,
    /// The lexicon.
    Schema,
    /// Deleting what is stored of people.
    DataDeletion,
}

impl AccessRight {
    /// All of them: what a project's first key carries.
    pub const ALL: [Self; 8] = [
        Self::Export,
        Self::Query,
        Self::Import,
        Self::ProfilesRead,
        Self::ProfilesWrite,
        Self::Annotations,
        Self::Schema,
        Self::DataDeletion,
    ];

    /// The word for it on the command line and in the metastore.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Query => "query",
            Self::Import => "import",
            Self::ProfilesRead => "profiles-read",
            Self::ProfilesWrite => "profiles-write",
            Self::Annotations => "annotations",
            Self::Schema => "schema",
            Self::DataDeletion => "data-deletion",
        }
    }

    /// Reads the word back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.as_str() == text)
    }
}
