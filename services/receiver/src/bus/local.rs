//! No bus: a receiver that is alone has nobody to tell, and pods without one find everything in the store, a little later.

use std::sync::Arc;

use async_trait::async_trait;
use flaghoist_runtime::Drain;
use flaghoist_runtime::names::ConversationId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Bus, Events, Listener, State, Subject, Word};

/// No bus.
#[derive(Debug)]
pub(crate) struct LocalBus(watch::Sender<State>);

impl LocalBus {
    /// Nobody to tell if the receiver is `alone`; else they cannot be told.
    pub(crate) fn new(alone: bool) -> Self {
        Self(watch::Sender::new(if alone { State::Up(Instant::now()) } else { State::Down }))
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
