//! The suite that every store passes: one function for each promise, and one macro that makes tests of them for a store. A
//! promise that is missing in the macro is an unused function, and the build says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use flaghoist_proto::send::v1 as pb;
use flaghoist_runtime::names::{ConversationId, UserId};
use futures_util::future::BoxFuture;
use prost::Message as _;
use uuid::Uuid;

use super::Store;
use crate::conversation::{Role, direct_id, group_id};
use crate::error::Error;
use crate::event::{Action, Answer, DigestKey, Event, EventKind, Op, Watermark, Write, Written};
use crate::plan::Limits;
use crate::render;

pub(crate) mod erasing;
pub(crate) mod promises;
pub(crate) mod random;
pub(crate) mod reading;

/// The bounds that the suite works with.
pub(crate) const LIMITS: Limits = Limits { group_members_max: 100, conversations_max: 5 };

/// A store that can be closed and opened again.
pub(crate) struct World {
    open: Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Store>> + Send + Sync>,
    pub(crate) store: Arc<dyn Store>,
    key: DigestKey,
}

/// A world that has begun, or one that this machine cannot have: that was said then.
pub(crate) trait Begun {
    /// What lives as long as the world.
    type Place;

    fn there(self) -> Option<(Self::Place, World)>;
}

impl<P> Begun for (P, World) {
    type Place = P;

    fn there(self) -> Option<(P, World)> {
        Some(self)
    }
}

impl<P> Begun for Option<(P, World)> {
    type Place = P;

    fn there(self) -> Option<(P, World)> {
        self
    }
}

pub(crate) fn person(number: u128) -> UserId {
    UserId(Uuid::from_u128(number + (1 << 100)))
}

impl World {
    pub(crate) async fn new(open: impl Fn() -> BoxFuture<'static, Arc<dyn Store>> + Send + Sync + 'static) -> Self {
        let store = open().await;
        Self { open: Box::new(open), store, key: DigestKey::new(b"secret") }
    }

    pub(crate) async fn reopen(&mut self) {
        self.store = (self.open)().await;
    }

    pub(crate) fn op(&self, who: UserId, id: ConversationId, request: &str, action: Action) -> Op {
        let digest = self.key.digest("test", &[format!("{action:?}").as_bytes()]);
        Op::Write(Write::new(who, id, request, digest, action))
    }

    pub(crate) async fn commit(&self, ops: Vec<Op>) -> Vec<Result<Written, Error>> {
        let answers = self.store.commit(ops).await;
        let written = |answer| if let Answer::Written(written) = answer { written } else { panic!("not written") };
        answers.into_iter().map(written).collect()
    }

    pub(crate) async fn one(
        &self,
        who: UserId,
        id: ConversationId,
        request: &str,
        action: Action,
    ) -> Result<Written, Error> {
        self.commit(vec![self.op(who, id, request, action)]).await.remove(0)
    }

    pub(crate) async fn group(&self, owner: UserId, people: &[UserId]) -> ConversationId {
        let id = group_id(owner, "group");
        let action = Action::BeginGroup { title: "title".into(), people: people.to_vec(), refused: None };
        self.one(owner, id, "group", action).await.unwrap();
        id
    }

    pub(crate) async fn direct(&self, one: UserId, other: UserId) -> ConversationId {
        let id = direct_id(one, other);
        self.one(one, id, "direct", Action::BeginDirect { peer: other, refused: None }).await.unwrap();
        id
    }

    pub(crate) async fn sends(&self, who: UserId, id: ConversationId, text: &str) -> Arc<Event> {
        self.one(who, id, &format!("send {text}"), send(text)).await.unwrap().event.unwrap()
    }

    pub(crate) async fn raise(
        &self,
        who: UserId,
        id: ConversationId,
        delivered_seq: u64,
        read_seq: u64,
    ) -> Vec<Watermark> {
        let epoch = self.store.epoch();
        let watermark = Watermark { conversation: id, member: who, epoch, delivered_seq, read_seq };
        let answer = self.store.commit(vec![Op::Raise(vec![watermark])]).await.remove(0);
        if let Answer::Raised(raised) = answer { raised.unwrap() } else { panic!("not raised") }
    }

    /// `(unread, delivered, read, last)` of a person.
    pub(crate) async fn counts(&self, who: UserId, id: ConversationId) -> (u64, u64, u64, u64) {
        let view = self.store.conversation(who, id).await.unwrap().unwrap();
        let member = &view.member;
        (member.unread(&view.head), member.delivered_seq, member.read_seq, member.last_seq(&view.head))
    }

    /// All that a person may see, by pages of `limit`: `(seq, previous_seq, kind)`.
    pub(crate) async fn log(&self, who: UserId, id: ConversationId, limit: usize) -> Vec<(u64, u64, EventKind)> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let slice = self.store.events(who, id, after, limit, usize::MAX).await.unwrap().unwrap();
            all.extend(slice.events.iter().map(|(event, previous)| (event.seq, *previous, event.kind)));
            assert!(slice.read_through_seq > after || slice.events.is_empty(), "the reading gets on");
            after = slice.read_through_seq;
            if after == slice.last_seq {
                return all;
            }
        }
    }
}

pub(crate) fn send(text: &str) -> Action {
    Action::Send { body: render::body(text, &BTreeMap::new()) }
}

pub(crate) fn edit(target: u64, text: &str) -> Action {
    Action::Edit { target, text: text.into(), metadata: BTreeMap::new() }
}

pub(crate) fn text(body: &Bytes) -> String {
    pb::Message::decode(&body[..]).unwrap().text
}

/// Makes a test of each promise for the store that `$world` opens.
macro_rules! store_keeps_its_promises {
    ($world:path) => {
        store_keeps_its_promises!($world;
            promises::promise_2_one_request_one_effect_in_one_batch_in_many_and_after_a_restart,
            promises::promise_2_the_first_answer_is_a_tombstone_after_the_deletion,
            promises::promise_3_a_refused_call_leaves_no_gap,
            promises::promise_3_each_event_names_the_visible_one_before_it,
            promises::promise_6_watermarks_only_rise_and_not_beyond_the_end,
            promises::promise_8_members_and_conversations_have_a_bound,
            promises::promise_11_what_is_deleted_leaves_a_tombstone_everywhere,
            promises::fault_4_a_request_id_belongs_to_sender_and_conversation,
            promises::fault_7_unread_counts_messages_of_others_after_joining,
            promises::fault_14_a_send_is_one_event_whatever_the_size,
            promises::roles_decide_who_may_do_what,
            reading::fault_3_no_reader_sees_a_later_event_before_an_earlier_one,
            reading::messages_are_read_both_ways_with_their_newest_content,
            reading::events_come_in_pages_bounded_by_bytes,
            reading::a_hidden_conversation_returns_with_the_next_message,
            reading::heads_carry_watermarks_and_receipts,
            reading::recent_changes_miss_nothing_also_after_a_restart,
            reading::progress_counts_the_other_members,
            erasing::promise_11_who_is_erased_leaves_tombstones_in_order,
            erasing::what_is_written_until_the_membership_ends_is_overwritten_with_it,
            erasing::of_two_owners_who_are_erased_at_once_neither_leaves_the_group_to_nobody,
            erasing::who_comes_back_during_an_erasure_is_erased_again,
            erasing::the_title_of_a_group_goes_with_the_only_one_who_ever_was_in_it,
            random::any_batches_do_what_a_simple_model_does,
        );
    };
    ($world:path; $($module:ident::$promise:ident,)*) => {$(
        #[tokio::test]
        async fn $promise() {
            let Some((_place, world)) = $crate::store::conformance::Begun::there($world().await) else { return };
            $crate::store::conformance::$module::$promise(world).await;
        }
    )*};
}
pub(crate) use store_keeps_its_promises;

pub(crate) fn remove(who: UserId) -> Action {
    Action::Remove { person: who }
}

pub(crate) fn add(who: UserId) -> Action {
    Action::Add { people: vec![who], refused: None }
}

pub(crate) fn promote(who: UserId, role: Role) -> Action {
    Action::Promote { person: who, role }
}
