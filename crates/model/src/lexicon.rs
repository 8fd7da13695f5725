//! What the lexicon knows of a name: what it names, which types its values had.

use crate::time::Timestamp;
use crate::value::Value;

/// What a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NameKind {
    /// An event.
    Event,
    /// A property of events.
    EventProperty,
    /// A property of profiles, of users and groups.
    ProfileProperty,
}

impl NameKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Event, Self::EventProperty, Self::ProfileProperty];

    /// The words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::EventProperty => "event property",
            Self::ProfileProperty => "profile property",
        }
    }

    /// Reads the words back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The types of values that a property had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ValueTypes(u8);

impl ValueTypes {
    /// A text.
    pub const STRING: Self = Self(1);
    /// A number.
    pub const NUMBER: Self = Self(2);
    /// True or false.
    pub const BOOLEAN: Self = Self(4);
    /// A list.
    pub const LIST: Self = Self(8);
    /// An object.
    pub const OBJECT: Self = Self(16);
    /// An explicit null.
    pub const NULL: Self = Self(32);

    /// The type of a value.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::String(_) => Self::STRING,
            Value::Number(_) => Self::NUMBER,
            Value::Bool(_) => Self::BOOLEAN,
            Value::List(_) => Self::LIST,
            Value::Object(_) => Self::OBJECT,
            Value::Null => Self::NULL,
        }
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The words for them.
    pub fn names(self) -> Vec<&'static str> {
        const NAMES: [&str; 6] = ["string", "number", "boolean", "list", "object", "null"];
        (0..NAMES.len()).filter(|bit| self.0 & 1 << bit != 0).map(|bit| NAMES[bit]).collect()
    }

    /// As a number, to be stored.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// From such a number.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 63)
    }
}

/// How often a name was seen, with what, and when the server first and last took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The types of its values; none for an event.
    pub types: ValueTypes,
    /// When the server first took one.
    pub first_at: Timestamp,
    /// When the server last took one.
    pub last_at: Timestamp,
    /// How many events or profile updates, duplicates included.
    pub count: u64,
}

impl Seen {
    /// Seen so often at one time.
    pub fn new(types: ValueTypes, at: Timestamp, count: u64) -> Self {
        Self { types, first_at: at, last_at: at, count }
    }

    /// Adds what was seen elsewhere.
    pub fn add(&mut self, other: Self) {
        self.types = self.types.and(other.types);
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
        self.count += other.count;
    }
}
