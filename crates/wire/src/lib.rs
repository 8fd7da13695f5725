//! Mixpanel's public formats, both directions, and request signatures. Pure functions; JSON lives here.

pub mod app;
pub mod archive;
pub mod body;
pub mod dates;
pub mod dialect;
pub mod engage;
pub mod error;
pub mod export;
pub mod expression;
pub mod identity;
pub mod json;
pub mod location;
pub mod lookup_tables;
pub mod params;
pub mod profiles;
pub mod properties;
pub mod segmentation;
pub mod signature;
pub mod top_events;
pub mod track;
