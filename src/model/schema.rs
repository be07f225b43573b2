//! JSON Schemas of what is printed for programs.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, RestrictFormats};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use super::Digest;

/// The JSON Schema (draft-07) of a document as it is printed. Objects stay open: a reader skips
/// fields that it does not know, so that later versions can have more.
#[must_use]
pub fn schema_of<T: JsonSchema>() -> Value {
    let schema = SchemaSettings::draft07()
        .for_serialize()
        // `uint64` and the like are Rust's words; strict validators refuse formats they do not know.
        .with_transform(RestrictFormats::default())
        .with_transform(RecursiveTransform(unwrap_lines))
        .into_generator()
        .into_root_schema_for::<T>();
    // What it is comes before what is in it.
    let mut rest = schema.as_object().cloned().unwrap_or_default();
    let mut whole = Map::new();
    for name in ["$schema", "title", "description"] {
        if let Some((name, value)) = rest.shift_remove_entry(name) {
            whole.insert(name, value);
        }
    }
    whole.extend(rest);
    Value::Object(whole)
}

/// The lines of a doc comment are no lines of the text.
fn unwrap_lines(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
}

impl JsonSchema for Digest {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
    }
}
