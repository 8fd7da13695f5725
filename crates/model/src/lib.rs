//! The nouns of Sluice and the rules that hold for them: events, profiles, projects, filters, reports.
//!
//! Nothing here does I/O, knows JSON, looks at a clock or draws a random number; time and chance
//! come in as values. Every other crate speaks in these types.

pub mod access;
pub mod event;
pub mod filter;
pub mod id;
pub mod identity;
pub mod lookup;
pub mod network;
pub mod profile;
pub mod report;
pub mod time;
pub mod value;

pub use access::{AccessRight, Role};
pub use event::{Event, EventRef};
pub use filter::Expr;
pub use id::{AccountId, OrganizationId, ProjectId};
pub use identity::IdentityMode;
pub use lookup::LookupTable;
pub use network::Networks;
pub use profile::{Profile, ProfileKey, ProfileOp, ProfileUpdate};
pub use time::{TimeRange, Timestamp};
pub use value::{Number, Value, ValueRef};
