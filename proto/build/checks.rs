//! Generates the field checks of the messages from their `buf.validate` rules.
//!
//! Only the rules that the contracts use are known; another one stops the build, so that no rule is written and not kept.
//! Written here because the ready-made generator asks for `protoc` and cannot check a message inside a `oneof`.

use std::fmt::Write as _;

use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

type Error = Box<dyn std::error::Error>;

/// The Rust source with one `impl Check` for every message of the contracts.
pub(crate) fn generate(pool: &DescriptorPool) -> Result<String, Error> {
    let mut source = String::new();
    for message in pool.all_messages().filter(|message| ours(message) && !message.is_map_entry()) {
        let mut body = String::new();
        for oneof in message.oneofs().filter(|oneof| oneof.fields().len() > 1) {
            let options = oneof.options();
            let required = match options.get_extension_by_name(pool, "buf.validate.oneof") {
                Some(rules) => rules.get_field_by_name("required").is_some_and(|value| value.as_bool() == Some(true)),
                None => false,
            };
            let type_path = format!("{}::{}", module(&message), camel(oneof.name()));
            writeln!(body, "match &self.{} {{", oneof.name())?;
            for field in oneof.fields() {
                let inner = of_value(pool, &field, "inner")?;
                let pattern = if inner.is_empty() { "_" } else { "inner" };
                writeln!(
                    body,
                    "Some({type_path}::{}({pattern})) => {{ found.at(\"{}\", |found| {{ let _ = &found; {inner} }}); }}",
                    camel(field.name()),
                    field.name()
                )?;
            }
            let missing = if required { format!("found.missing({:?})", oneof.name()) } else { "()".into() };
            writeln!(body, "None => {missing},\n}}")?;
        }
        for field in message.fields() {
            if field.containing_oneof().is_some_and(|oneof| oneof.fields().len() > 1) {
                continue;
            }
            let checks = of_field(pool, &field)?;
            if !checks.is_empty() {
                writeln!(body, "found.at({:?}, |found| {{ {checks} }});", field.name())?;
            }
        }
        writeln!(
            source,
            "impl Check for {} {{\n fn check_into(&self, found: &mut Violations) {{ let _ = &found;\n{body} }}\n}}",
            path(&message)
        )?;
    }
    Ok(source)
}

/// The extensions of `buf.validate`, by name.
trait Extension {
    fn get_extension_by_name(&self, pool: &DescriptorPool, name: &str) -> Option<DynamicMessage>;
}

impl Extension for DynamicMessage {
    fn get_extension_by_name(&self, pool: &DescriptorPool, name: &str) -> Option<DynamicMessage> {
        let extension = pool.get_extension_by_name(name)?;
        self.has_extension(&extension).then(|| self.get_extension(&extension).as_message().cloned()).flatten()
    }
}

/// The checks of a field that stands outside a `oneof`.
fn of_field(pool: &DescriptorPool, field: &FieldDescriptor) -> Result<String, Error> {
    let name = field.name();
    let rules = field.options().get_extension_by_name(pool, "buf.validate.field");
    let required = rules.as_ref().and_then(|rules| rules.get_field_by_name("required")?.as_bool()).unwrap_or(false);
    if field.is_map() {
        return of_map(field, rules.as_ref());
    }
    if field.is_list() {
        return of_list(pool, field, rules.as_ref());
    }
    let optional = field.supports_presence();
    let own = format!("(&self.{name})");
    let inner = of_value(pool, field, if optional { "value" } else { &own })?;
    Ok(match (optional, required) {
        (true, true) => format!(
            "match &self.{name} {{ Some(value) => {{ let _ = value; {inner} }} None => found.add(\"is required\") }}"
        ),
        (true, false) if inner.is_empty() => String::new(),
        (true, false) => format!("if let Some(value) = &self.{name} {{ {inner} }}"),
        (false, true) => return Err(format!("{}: `required` is for messages", field.full_name()).into()),
        (false, false) => inner,
    })
}

/// The checks of one value, which `value` borrows.
fn of_value(pool: &DescriptorPool, field: &FieldDescriptor, value: &str) -> Result<String, Error> {
    let rules = field.options().get_extension_by_name(pool, "buf.validate.field");
    if let Kind::Message(message) = field.kind() {
        return Ok(if ours(&message) { format!("{value}.check_into(found);") } else { String::new() });
    }
    rules.as_ref().map_or(Ok(String::new()), |rules| of_scalar(field, rules, value))
}

/// The checks of a scalar by `rules`, a `buf.validate.FieldRules`.
fn of_scalar(field: &FieldDescriptor, rules: &DynamicMessage, value: &str) -> Result<String, Error> {
    let mut checks = String::new();
    for (kind, kind_rules) in rules.fields() {
        let Some(kind_rules) = kind_rules.as_message() else { continue };
        for (rule, bound) in kind_rules.fields() {
            match (kind.name(), rule.name(), bound) {
                ("string", "pattern", Value::String(pattern)) => write!(
                    checks,
                    "{{ static PATTERN: Pattern = Pattern::new(|| Regex::new({pattern:?}).expect(\"the build tried it\")); found.pattern({value}, &PATTERN); }}"
                )?,
                ("string", "min_len" | "max_len" | "max_bytes", Value::U64(bound)) => {
                    write!(checks, "found.{}({value}, {bound});", rule.name())?;
                }
                ("int32", "gte", Value::I32(bound)) => write!(checks, "found.gte(*{value}, {bound});")?,
                ("enum", "defined_only", Value::Bool(true)) => {
                    let Kind::Enum(descriptor) = field.kind() else {
                        return Err("an enum rule on another kind".into());
                    };
                    let numbers: Vec<i32> = descriptor.values().map(|value| value.number()).collect();
                    write!(checks, "found.one_of(*{value}, &{numbers:?});")?;
                }
                ("enum", "not_in", Value::List(numbers)) => {
                    for number in numbers.iter().filter_map(Value::as_i32) {
                        write!(checks, "found.not(*{value}, {number});")?;
                    }
                }
                (kind, rule, _) => return Err(format!("{}: {kind}.{rule} is not known", field.full_name()).into()),
            }
        }
    }
    Ok(checks)
}

/// The checks of a repeated field.
fn of_list(pool: &DescriptorPool, field: &FieldDescriptor, rules: Option<&DynamicMessage>) -> Result<String, Error> {
    let name = field.name();
    let mut checks = String::new();
    let mut items = if field.kind().as_message().is_some() { of_value(pool, field, "item")? } else { String::new() };
    let rules = rules.map(|rules| rules.get_field_by_name("repeated").and_then(|rules| rules.as_message().cloned()));
    for (rule, bound) in rules.flatten().iter().flat_map(DynamicMessage::fields) {
        match (rule.name(), bound) {
            ("min_items" | "max_items", Value::U64(bound)) => {
                write!(checks, "found.{}(self.{name}.len(), {bound});", rule.name())?
            }
            ("unique", Value::Bool(true)) => write!(checks, "found.unique(&self.{name});")?,
            ("items", Value::Message(rules)) => items = of_scalar(field, rules, "item")?,
            (rule, _) => return Err(format!("{}: repeated.{rule} is not known", field.full_name()).into()),
        }
    }
    if !items.is_empty() {
        write!(
            checks,
            "for (index, item) in self.{name}.iter().enumerate() {{ found.at_index(index, |found| {{ {items} }}); }}"
        )?;
    }
    Ok(checks)
}

/// The checks of a map from text to text.
fn of_map(field: &FieldDescriptor, rules: Option<&DynamicMessage>) -> Result<String, Error> {
    let name = field.name();
    let mut checks = String::new();
    let rules = rules.map(|rules| rules.get_field_by_name("map").and_then(|rules| rules.as_message().cloned()));
    for (rule, bound) in rules.flatten().iter().flat_map(DynamicMessage::fields) {
        match (rule.name(), bound) {
            ("max_pairs", Value::U64(bound)) => write!(checks, "found.max_items(self.{name}.len(), {bound});")?,
            ("keys", Value::Message(rules)) => {
                let inner = of_scalar(field, rules, "key")?;
                write!(checks, "for key in self.{name}.keys() {{ found.at_key(key, |found| {{ {inner} }}); }}")?;
            }
            ("values", Value::Message(rules)) => {
                let inner = of_scalar(field, rules, "value")?;
                write!(checks, "for (key, value) in &self.{name} {{ found.at_key(key, |found| {{ {inner} }}); }}")?;
            }
            (rule, _) => return Err(format!("{}: map.{rule} is not known", field.full_name()).into()),
        }
    }
    Ok(checks)
}

fn ours(message: &MessageDescriptor) -> bool {
    message.package_name().starts_with("flaghoist.")
}

/// The Rust path of a message: `flaghoist.send.v1.Event` is `crate::send::v1::Event`.
fn path(message: &MessageDescriptor) -> String {
    let package = message.package_name().trim_start_matches("flaghoist.").replace('.', "::");
    format!("crate::{package}::{}", message.name())
}

/// The Rust module that holds the `oneof` types of a message.
fn module(message: &MessageDescriptor) -> String {
    let package = message.package_name().trim_start_matches("flaghoist.").replace('.', "::");
    let mut name = String::new();
    for (index, letter) in message.name().chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    format!("crate::{package}::{name}")
}

/// `message_created` as `MessageCreated`.
fn camel(name: &str) -> String {
    name.split('_')
        .flat_map(|word| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)))
        .collect()
}
