//! The shape of the config as JSON Schemas, for editors. Made from the same declarations that
//! read the files, so that the two cannot disagree on a key.
//!
//! Draft-07: the YAML language server reads no later one reliably. The schemas are a help while
//! writing; what `towpath validate` says counts, and it checks much more.

use serde_json::{Map, Value, json};

use super::raw;
use super::reader::{Field, Read, Shape};

/// Every schema with the name of its file.
pub fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("towpath.schema.json", schema::<raw::Root>("Towpath: towpath.yaml")),
        ("environment.schema.json", schema::<raw::Environment>("Towpath: environments/*.yaml")),
        ("service.schema.json", schema::<raw::Service>("Towpath: services/**/*.yaml")),
        ("recipe.schema.json", schema::<raw::Recipe>("Towpath: recipes/*.yaml")),
        ("pipeline.schema.json", schema::<raw::Pipeline>("Towpath: pipelines/*.yaml")),
    ]
}

fn schema<T: Read>(title: &str) -> Value {
    let Value::Object(shape) = value(&T::shape()) else { return Value::Null };
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!(title));
    schema.extend(shape);
    Value::Object(schema)
}

fn value(shape: &Shape) -> Value {
    match shape {
        Shape::Text(None) => json!({ "type": ["string", "number", "boolean"] }),
        // Plain `17` is a fine name for an environment; only a JSON schema calls it a number.
        Shape::Text(Some(pattern)) => json!({ "type": "string", "pattern": pattern }),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Number(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Shape::Words(words) => json!({ "enum": words }),
        Shape::List(item) => json!({ "type": "array", "items": value(item) }),
        Shape::Map(pattern, item) => json!({
            "type": "object",
            "propertyNames": { "pattern": pattern },
            "additionalProperties": value(item),
        }),
        Shape::Record(about, fields) => record(about, fields),
        Shape::OneKeyOf(keys, inner) => {
            let mut inner = value(inner);
            let choices: Vec<Value> = keys.iter().map(|it| json!({ "required": [it] })).collect();
            if let Value::Object(inner) = &mut inner {
                inner.insert("oneOf".to_owned(), Value::Array(choices));
            }
            inner
        }
        Shape::Any(shapes) => {
            json!({ "anyOf": shapes.iter().map(value).collect::<Vec<_>>() })
        }
    }
}

fn record(about: &str, fields: &[Field]) -> Value {
    let property = |field: &Field| {
        let mut inner = value(&field.shape);
        if let Value::Object(inner) = &mut inner {
            inner.insert("description".to_owned(), json!(prose(field.docs)));
        }
        (field.key.to_owned(), inner)
    };
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    let required: Vec<&str> = fields.iter().filter(|it| it.required).map(|it| it.key).collect();
    let mut object = json!({
        "type": "object",
        "description": prose(about),
        "additionalProperties": false,
        "properties": properties,
    });
    if let (false, Value::Object(object)) = (required.is_empty(), &mut object) {
        object.insert("required".to_owned(), json!(required));
    }
    object
}

/// Joins the lines of a doc comment.
fn prose(docs: &str) -> String {
    docs.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
