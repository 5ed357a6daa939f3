//! The bus of a receiver that is alone: there is nobody to tell.

use std::sync::Arc;

use async_trait::async_trait;
use flaghoist_runtime::Drain;
use flaghoist_runtime::names::ConversationId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Bus, Events, Listener, State, Subject, Word};

/// The bus of a receiver that is alone.
#[derive(Debug)]
pub(crate) struct LocalBus(watch::Sender<State>);

impl LocalBus {
    /// Nobody to tell.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State::Up(Instant::now())))
    }
}

#[async_trait]
impl Bus for LocalBus {
    fn shared(&self) -> bool {
        false
    }

    fn start(&self, _listener: Arc<dyn Listener>, _drain: Drain) {}

    fn tell(&self, _subject: Subject, _word: &Word) {}

    fn tell_events(&self, _conversation: ConversationId, _events: &Events<'_>) {}

    fn interest_changed(&self, _subject: Subject) {}

    async fn settled(&self) {}

    fn state(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }
}
