//! The OpenAPI document of the management API, made from the table of operations. `docs/openapi.json` is a snapshot of it.

use axum::http::Method;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::error::ErrorBody;
use super::{Operation, Who};
use crate::routes;

/// The document.
pub(crate) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut schemas = SchemaGenerator::new(settings);
    // What is answered is always there, be it null; what is asked for may be left out.
    let answers = SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut answers = SchemaGenerator::new(answers);
    let error = answers.subschema_for::<ErrorBody>();
    let mut paths: Map<String, Value> = Map::new();
    for operation in routes::operations() {
        let described = describe(&operation, &mut schemas, &mut answers, &error);
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        methods[operation.method.as_str().to_ascii_lowercase()] = described;
    }
    let mut definitions = schemas.take_definitions(true);
    definitions.extend(answers.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice management API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Accounts, projects and credentials. Every answer is JSON; a refusal has `error` for people and `code` for programs. \
                Sign in for a session cookie, or send a bearer token; operations that need a fresh proof take a session only.",
        },
        "servers": [{ "url": routes::MANAGEMENT }],
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "session": { "type": "apiKey", "in": "cookie", "name": "__Host-sluice_session" },
                "bearer": { "type": "http", "scheme": "bearer" },
            },
        },
        "paths": paths,
    })
}

/// The policy of an operation as it stands in the document.
fn policy(who: Who) -> String {
    match who {
        Who::Anyone => "anyone".to_owned(),
        Who::Account => "account".to_owned(),
        Who::Member(role) => role.as_str().to_owned(),
        Who::Operator => "operator".to_owned(),
        Who::Founder => "founder".to_owned(),
    }
}

fn describe(operation: &Operation, schemas: &mut SchemaGenerator, answers: &mut SchemaGenerator, error: &schemars::Schema) -> Value {
    let answer = (operation.response)(answers);
    let refusal = json!({ "description": "Refused.", "content": { "application/json": { "schema": error } } });
    let names = operation.path.split(['{', '}']).skip(1).step_by(2);
    let mut parameters: Vec<Value> =
        names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind(name) } })).collect();
    let request = (operation.request)(schemas);
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "x-who": policy(operation.who),
        "x-fresh-proof": operation.needs.fresh_proof,
        "responses": {
            "200": { "description": "Done.", "content": { "application/json": { "schema": answer } } },
            "default": refusal,
        },
    });
    described["security"] = match (operation.who, operation.needs.fresh_proof || operation.needs.session) {
        // What an existing account does here too, it does signed in.
        (Who::Anyone, _) => json!([{}, { "session": [] }, { "bearer": [] }]),
        (_, true) => json!([{ "session": [] }]),
        (_, false) => json!([{ "session": [] }, { "bearer": [] }]),
    };
    let schema = resolved(request.as_value(), schemas);
    let fields = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if operation.method == Method::GET {
        parameters
            .extend(fields.into_iter().map(|(name, schema)| json!({ "name": name, "in": "query", "required": false, "schema": schema })));
    } else if !fields.is_empty() {
        let is_needed = schema.get("required").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
        described["requestBody"] = json!({ "required": is_needed, "content": { "application/json": { "schema": request } } });
    }
    if !parameters.is_empty() {
        described["parameters"] = Value::Array(parameters);
    }
    described
}

/// What a name in a path is: an id, but for what has names.
fn kind(name: &str) -> &'static str {
    if ["key", "username", "group", "table"].contains(&name) { "string" } else { "integer" }
}

/// What a schema refers to.
fn resolved(schema: &Value, schemas: &SchemaGenerator) -> Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    name.and_then(|name| schemas.definitions().get(name)).unwrap_or(schema).clone()
}

#[cfg(test)]
mod tests {
    /// `UPDATE_EXPECT=1` writes the snapshot anew.
    #[test]
    fn the_snapshot_is_what_the_server_answers() {
        let mut text = serde_json::to_string_pretty(&super::document()).unwrap();
        text.push('\n');
        expect_test::expect_file!["../../../../docs/openapi.json"].assert_eq(&text);
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_a_policy() {
        let operations = crate::routes::operations();
        let mut names: Vec<&str> = operations.iter().map(|operation| operation.id).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for operation in &operations {
            let has_project = operation.path.starts_with("/projects/{project}");
            let is_member = matches!(operation.who, super::Who::Member(_));
            assert_eq!(has_project, is_member, "{}: a path below a project is for its members", operation.id);
            assert!(operation.summary.ends_with('.'), "{}", operation.id);
        }
    }
}
