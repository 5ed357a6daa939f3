//! Which pods and namespaces a selector chooses.

use serde_json::Value;

use crate::{items, texts};

/// The labels of a pod or a namespace, as a selector compares them.
pub type Labels = Vec<(String, String)>;

/// The labels in a resource's metadata, or in those of a pod template.
pub fn labels(metadata: &Value) -> Labels {
    let labels = metadata["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The value of a label.
pub fn label<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    labels.iter().find(|(of, _)| of == key).map(|(_, value)| value.as_str())
}

/// Whether `matchLabels` and `matchExpressions` choose what has these labels; a selector that says nothing chooses everything.
pub fn chosen(selector: &Value, labels: &Labels) -> bool {
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    wanted.into_iter().all(|(key, value)| label(labels, key) == value.as_str())
        && items(&selector["matchExpressions"]).iter().all(|expression| holds(expression, labels))
}

fn holds(expression: &Value, labels: &Labels) -> bool {
    let is = label(labels, expression["key"].as_str().unwrap_or_default());
    let listed = is.is_some_and(|is| texts(&expression["values"]).contains(&is));
    match expression["operator"].as_str() {
        Some("In") => listed,
        Some("NotIn") => !listed,
        Some("Exists") => is.is_some(),
        Some("DoesNotExist") => is.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_chooses_by_labels_and_by_expressions() {
        let pod = labels(&json!({ "labels": { "app": "send", "track": "stable" } }));
        let says = |selector: Value| chosen(&selector, &pod);
        assert!(says(Value::Null) && says(json!({})) && says(json!({ "matchLabels": { "app": "send" } })));
        assert!(!says(json!({ "matchLabels": { "app": "login" } })));
        let expression = |key: &str, operator: &str, values: &[&str]| {
            says(json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }))
        };
        assert!(expression("app", "In", &["login", "send"]) && !expression("app", "NotIn", &["send"]));
        assert!(expression("none", "NotIn", &["send"]) && !expression("none", "In", &["send"]));
        assert!(expression("track", "Exists", &[]) && !expression("track", "DoesNotExist", &[]));
    }
}
