#![doc = include_str!("../README.md")]

pub mod labels;
pub mod mtls;
pub mod policy;
pub mod route;
pub mod served;

use serde_json::Value;

/// The texts of a list; none if there is no list.
pub fn texts(list: &Value) -> Vec<&str> {
    items(list).iter().filter_map(Value::as_str).collect()
}

/// The items of a list; none if there is no list.
pub fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}
