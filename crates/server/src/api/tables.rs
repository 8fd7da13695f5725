//! Group keys and lookup tables of a project.

use metastore::{LookupTableChange, NewGroupKey, NewLookupTable};
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::ApiError;
use super::{Call, Nothing};
use crate::views::{DONE, Done, GroupKey, LookupProperty, LookupTable};

/// Queries that begin after the answer see the change.
fn follow(call: &Call) -> Result<(), ApiError> {
    call.app.store.follow_joins(call.project()?).map_err(ApiError::internal)
}

/// The project's group keys.
pub(crate) fn list_group_keys(call: &Call, _: Nothing) -> Result<Vec<GroupKey>, ApiError> {
    Ok(call.app.metastore.group_keys(call.project()?)?.into_iter().map(GroupKey::from).collect())
}

/// What a group key is made from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupKeyAsked {
    /// The property, exactly as events bring it.
    key: String,
    /// What you call it; by default what the property is called.
    name: Option<String>,
    /// An id to keep from elsewhere, digits with or without a sign.
    data_group_id: Option<String>,
}

/// Declares a group key.
pub(crate) fn add_group_key(call: &Call, asked: GroupKeyAsked) -> Result<GroupKey, ApiError> {
    let parsed = |text: &String| text.parse().map_err(|_| ApiError::invalid("`data_group_id` is a whole number of 64 bits"));
    let data_group_id = asked.data_group_id.as_ref().map(parsed).transpose()?;
    let new = NewGroupKey { key: &asked.key, name: asked.name.as_deref(), data_group_id };
    let made = call.app.metastore.add_group_key(call.project()?, &new, &call.by)?;
    follow(call)?;
    Ok(made.into())
}

/// Ends a group key; profiles of its groups and properties of events stay.
pub(crate) fn remove_group_key(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.remove_group_key(call.project()?, call.id("group")?, &call.by)?;
    follow(call)?;
    Ok(DONE)
}

/// The project's lookup tables.
pub(crate) fn list_lookup_tables(call: &Call, _: Nothing) -> Result<Vec<LookupTable>, ApiError> {
    Ok(call.app.metastore.lookup_tables(call.project()?)?.into_iter().map(LookupTable::from).collect())
}

/// What a lookup table is made from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookupTableAsked {
    /// What you call it.
    name: String,
    /// A UUID to keep from elsewhere.
    id: Option<String>,
    /// The properties whose values are its keys.
    #[serde(default)]
    properties: Vec<LookupProperty>,
}

/// Makes a lookup table without content.
pub(crate) fn create_lookup_table(call: &Call, asked: LookupTableAsked) -> Result<LookupTable, ApiError> {
    let properties = asked.properties.into_iter().map(Into::into).collect();
    let new = NewLookupTable { name: asked.name, id: asked.id, properties };
    let made = call.app.metastore.create_lookup_table(call.project()?, &new, &call.by)?;
    follow(call)?;
    Ok(made.into())
}

/// What is to change; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookupTableSettings {
    name: Option<String>,
    /// All properties whose values are its keys.
    properties: Option<Vec<LookupProperty>>,
}

/// Changes what a lookup table is called, and what leads to it.
pub(crate) fn change_lookup_table(call: &Call, asked: LookupTableSettings) -> Result<Done, ApiError> {
    let properties = asked.properties.map(|properties| properties.into_iter().map(Into::into).collect());
    let change = LookupTableChange { name: asked.name, properties };
    call.app.metastore.change_lookup_table(call.project()?, call.text("table"), &change, &call.by)?;
    follow(call)?;
    Ok(DONE)
}

/// Ends a lookup table with its content.
pub(crate) fn delete_lookup_table(call: &Call, _: Nothing) -> Result<Done, ApiError> {
    call.app.metastore.delete_lookup_table(call.project()?, call.text("table"), &call.by)?;
    follow(call)?;
    Ok(DONE)
}
