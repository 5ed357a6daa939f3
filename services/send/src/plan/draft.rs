//! A conversation while a batch is being decided.

use std::collections::HashMap;

use flaghoist_runtime::names::UserId;

use crate::conversation::{Head, Member};

/// A conversation as the batch leaves it.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The conversation.
    pub(crate) head: Head,
    /// Whether the batch begins it.
    pub(crate) created: bool,
    /// Whether more changed than the counters that the log tells as well.
    pub(crate) changed: bool,
    /// People whose rows change; the flag says whether more did than the counter of what they sent.
    pub(crate) members: HashMap<UserId, (Member, bool)>,
    /// The events of the batch in this conversation, by their place in the plan.
    pub(crate) events: Vec<usize>,
}

impl Draft {
    pub(crate) fn of(head: &Head) -> Self {
        Self { head: head.clone(), created: false, changed: false, members: HashMap::new(), events: Vec::new() }
    }
}
