//! Conversations, members and the event log of every conversation.
