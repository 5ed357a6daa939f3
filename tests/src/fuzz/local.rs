//! What can be called in this process: the checks of tokens and page tokens, and the parsers of names.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use flaghoist_runtime::Verifier;
use flaghoist_runtime::names::{
    ConversationId, SessionId, UserId, message_name, parse_device, parse_message, parse_session, session_name,
};
use flaghoist_runtime::page::PageKey;
use rand::Rng;
use uuid::Uuid;

use super::Tried;
use super::mutation::mutate_text;
use crate::http1;
use crate::world::{ISSUER, World};

/// How many inputs each target gets at a time.
const INPUTS: usize = 200;

pub(super) struct Targets {
    verifier: Arc<Verifier>,
    token: String,
    pages: PageKey,
    page_token: String,
}

impl Targets {
    pub(super) async fn new(world: &World) -> Self {
        let verifier = Verifier::new(ISSUER);
        let jwks = http1::get(world.http(), "/oauth2/jwks").await.text();
        verifier.set_keys(&jwks).expect("the server's own keys can be read");
        let token = world.person("fuzz").await.token();
        verifier.verify(&token).expect("the server's own token is good");
        let pages = PageKey::new(b"a key of thirty-two bytes length");
        let page_token = pages.seal("ListMessages/conversations/x", &(1_u64, "cursor"));
        Self { verifier, token, pages, page_token }
    }

    pub(super) fn try_some(&self, random: &mut impl Rng, tried: &mut Tried) -> Result<(), String> {
        let id = Uuid::from_u128(random.random());
        let names = [
            format!("conversations/{id}"),
            format!("conversations/{id}/messages/{}", random.random::<u32>()),
            format!("users/{id}"),
            format!("users/{id}/devices/phone"),
            "users/me/devices/a.b-c_d".to_owned(),
            format!("users/{id}/sessions/{id}"),
        ];
        for _ in 0..INPUTS {
            let token = mutate_text(random, &self.token, 10_000);
            calmly("a token", &token, || (token == self.token || self.verifier.verify(&token).is_err()).then_some(()))?;
            tried.tokens += 1;

            let page = mutate_text(random, &self.page_token, 2_000);
            calmly("a page token", &page, || {
                let opened = self.pages.open::<(u64, String)>("ListMessages/conversations/x", &page);
                (page == self.page_token || opened.is_err()).then_some(())
            })?;
            tried.page_tokens += 1;

            let name = &names[random.random_range(0..names.len())];
            let name = mutate_text(random, name, 300);
            calmly("a name", &name, || written_the_same(&name, id))?;
            tried.names += 1;
        }
        Ok(())
    }
}

/// A name that is read must be written the same: one thing has one name.
fn written_the_same(name: &str, me: Uuid) -> Option<()> {
    let same = |written: String| (written == name).then_some(());
    if let Ok(id) = ConversationId::parse(name) {
        same(id.name())?;
    }
    if let Ok(id) = UserId::parse(name) {
        same(id.name())?;
    }
    if let Ok((conversation, seq)) = parse_message(name) {
        same(message_name(conversation, seq))?;
    }
    if let Ok((user, session)) = parse_session(name) {
        let session: SessionId = session;
        same(session_name(user, session))?;
    }
    if let Ok((user, device)) = parse_device(name, UserId(me)) {
        let written = flaghoist_runtime::names::device_name(user, &device);
        same(if name.starts_with("users/me/") { written.replacen(&me.to_string(), "me", 1) } else { written })?;
    }
    Some(())
}

/// Runs a target; a panic or `None` is what is looked for.
fn calmly(kind: &str, input: &str, target: impl FnOnce() -> Option<()>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(target)) {
        Ok(Some(())) => Ok(()),
        Ok(None) => Err(format!("{kind} was accepted that must not be: {input:?}")),
        Err(_) => Err(format!("{kind} made it panic: {input:?}")),
    }
}
