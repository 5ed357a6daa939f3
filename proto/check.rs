//! Field checks: what a message says that its contract does not allow, all of it at once.
//!
//! The checks themselves are generated from the `buf.validate` rules by `proto/build/checks.rs`.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::Hash;

/// How many violations are collected; the rest is not looked at.
pub const VIOLATIONS_MAX: usize = 20;

/// A message whose fields have rules.
pub trait Check {
    /// Adds what breaks the rules to `found`.
    fn check_into(&self, found: &mut Violations);

    /// All that breaks the rules, [`VIOLATIONS_MAX`] at most; empty when nothing does.
    fn check(&self) -> Vec<Violation> {
        let mut found = Violations::default();
        self.check_into(&mut found);
        found.list
    }
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, for example `group.members[3]`.
    pub field: String,
    /// What is wrong with it, for example `is longer than 64 characters`.
    pub description: String,
}

/// The violations found so far and the place that is being looked at.
#[derive(Debug, Default)]
pub struct Violations {
    list: Vec<Violation>,
    place: Vec<Step>,
}

/// One step on the way to a field. Names are kept as they are and written out only for a violation.
#[derive(Debug)]
enum Step {
    Field(&'static str),
    Index(usize),
    Key(String),
}

impl Violations {
    /// Looks at the field `name` of the message that is being looked at.
    pub fn at(&mut self, name: &'static str, look: impl FnOnce(&mut Self)) {
        self.place.push(Step::Field(name));
        look(self);
        self.place.pop();
    }

    /// Looks at one item of the list that is being looked at.
    pub fn at_index(&mut self, index: usize, look: impl FnOnce(&mut Self)) {
        self.place.push(Step::Index(index));
        look(self);
        self.place.pop();
    }

    /// Looks at one entry of the map that is being looked at.
    pub fn at_key(&mut self, key: &str, look: impl FnOnce(&mut Self)) {
        self.place.push(Step::Key(key.chars().take(32).collect()));
        look(self);
        self.place.pop();
    }

    /// Adds a violation at the field that is being looked at.
    pub fn add(&mut self, description: impl Into<String>) {
        if self.list.len() < VIOLATIONS_MAX {
            let mut field = String::new();
            for step in &self.place {
                let written = match step {
                    Step::Field(name) if field.is_empty() => write!(field, "{name}"),
                    Step::Field(name) => write!(field, ".{name}"),
                    Step::Index(index) => write!(field, "[{index}]"),
                    Step::Key(key) => write!(field, "[{key:?}]"),
                };
                debug_assert!(written.is_ok(), "writing to a string does not fail");
            }
            self.list.push(Violation { field, description: description.into() });
        }
    }

    pub(crate) fn missing(&mut self, oneof: &'static str) {
        self.at(oneof, |found| found.add("is required"));
    }

    pub(crate) fn min_len(&mut self, text: &str, bound: usize) {
        // Bytes bound characters from above, so most texts need no counting.
        if text.len() < bound || (text.len() < bound * 4 && text.chars().count() < bound) {
            self.add(if bound == 1 { "is empty".into() } else { format!("is shorter than {bound} characters") });
        }
    }

    pub(crate) fn max_len(&mut self, text: &str, bound: usize) {
        if text.len() > bound && text.chars().count() > bound {
            self.add(format!("is longer than {bound} characters"));
        }
    }

    pub(crate) fn max_bytes(&mut self, text: &str, bound: usize) {
        if text.len() > bound {
            self.add(format!("is longer than {bound} bytes"));
        }
    }

    pub(crate) fn pattern(&mut self, text: &str, pattern: &Pattern) {
        if !pattern.is_match(text) {
            self.add(format!("does not match {}", pattern.as_str()));
        }
    }

    pub(crate) fn gte(&mut self, number: i32, bound: i32) {
        if number < bound {
            self.add(format!("is below {bound}"));
        }
    }

    pub(crate) fn one_of(&mut self, number: i32, known: &[i32]) {
        if !known.contains(&number) {
            self.add("is not a known value");
        }
    }

    pub(crate) fn not(&mut self, number: i32, refused: i32) {
        if number == refused {
            self.add("is required");
        }
    }

    pub(crate) fn min_items(&mut self, count: usize, bound: usize) {
        if count < bound {
            self.add(format!("has fewer than {bound} entries"));
        }
    }

    pub(crate) fn max_items(&mut self, count: usize, bound: usize) {
        if count > bound {
            self.add(format!("has more than {bound} entries"));
        }
    }

    pub(crate) fn unique<T: Hash + Eq>(&mut self, items: &[T]) {
        let mut seen = HashSet::with_capacity(items.len());
        if !items.iter().all(|item| seen.insert(item)) {
            self.add("has an entry twice");
        }
    }
}

/// A pattern that is compiled at its first use.
pub(crate) type Pattern = std::sync::LazyLock<regex::Regex>;
