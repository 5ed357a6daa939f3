//! A log in memory behind the real contract of `send`, with a switch that makes it fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use flaghoist_proto::receiver::v1::Delivery;
use flaghoist_proto::send::v1::event::Change as What;
use flaghoist_proto::send::v1::log_service_server::LogService;
use flaghoist_proto::send::v1::*;
use flaghoist_runtime::names::{ConversationId, UserId};
use flaghoist_runtime::time::{from_timestamp, timestamp};
use parking_lot::Mutex;
use tonic::{Request, Response, Status};

#[derive(Clone, Debug, Default)]
pub(super) struct FakeLog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    book: Mutex<Book>,
    failing: AtomicBool,
    reads: AtomicUsize,
}

#[derive(Debug, Default)]
struct Book {
    epoch: u64,
    rooms: BTreeMap<ConversationId, Room>,
}

#[derive(Clone, Debug, Default)]
struct Room {
    events: Vec<(Event, Option<UserId>)>,
    /// The intervals in which each person may read; an open one has no end.
    members: BTreeMap<UserId, Vec<(u64, Option<u64>)>>,
    receipts: BTreeMap<UserId, (u64, u64, Option<SystemTime>)>,
    added: Vec<UserId>,
    removed: Vec<UserId>,
    changed_at: Option<SystemTime>,
}

impl Room {
    fn sees(&self, user: UserId, seq: u64) -> bool {
        let only_for = self.events[usize::try_from(seq).unwrap() - 1].1;
        let within = |&(from, to): &(u64, Option<u64>)| seq >= from && to.is_none_or(|to| seq <= to);
        only_for.is_none_or(|only| only == user) && self.members.get(&user).is_some_and(|all| all.iter().any(within))
    }

    fn visible(&self, user: UserId) -> Vec<u64> {
        (1..=self.events.len() as u64).filter(|seq| self.sees(user, *seq)).collect()
    }

    fn member(&self, user: UserId) -> bool {
        self.members.get(&user).and_then(|all| all.last()).is_some_and(|(_, to)| to.is_none())
    }
}

impl FakeLog {
    pub(super) fn new() -> Self {
        let log = Self::default();
        log.0.book.lock().epoch = 7;
        log
    }

    /// From now on every call fails, or none.
    pub(super) fn fails(&self, failing: bool) {
        self.0.failing.store(failing, Ordering::SeqCst);
    }

    pub(super) fn epoch(&self) -> u64 {
        self.0.book.lock().epoch
    }

    /// How often events were read.
    pub(super) fn reads(&self) -> usize {
        self.0.reads.load(Ordering::SeqCst)
    }

    /// The store is restored from a backup in which each conversation had at most `length` events.
    pub(super) fn restored(&self, length: usize) {
        let mut book = self.0.book.lock();
        book.epoch += 1;
        book.rooms.values_mut().for_each(|room| {
            room.events.truncate(length);
            room.receipts.clear();
        });
        let epoch = book.epoch;
        book.rooms.values_mut().flat_map(|room| &mut room.events).for_each(|(event, _)| event.epoch = epoch);
    }

    /// The newest events are gone, and the epoch is the same.
    pub(super) fn truncated(&self, length: usize) {
        self.0.book.lock().rooms.values_mut().for_each(|room| room.events.truncate(length));
    }

    pub(super) fn begin(&self, members: &[UserId]) -> (ConversationId, Delivery) {
        let id = ConversationId(uuid::Uuid::now_v7());
        let names = members.iter().map(UserId::name).collect::<Vec<_>>();
        let created = ConversationCreated { members: names.clone(), ..ConversationCreated::default() };
        self.0.book.lock().rooms.entry(id).or_default().added = members.to_vec();
        for user in members {
            self.0.book.lock().rooms.get_mut(&id).unwrap().members.insert(*user, vec![(1, None)]);
        }
        let event = self.commit(id, members[0], What::ConversationCreated(created), None);
        (id, Delivery { added_members: names, ..event })
    }

    pub(super) fn message(&self, id: ConversationId, sender: UserId, text: &str) -> Delivery {
        let message = Message {
            sender: sender.name(),
            text: text.to_owned(),
            request_id: "request".into(),
            ..Message::default()
        };
        self.commit(id, sender, What::MessageCreated(message), None)
    }

    /// An event that only `user` may see.
    pub(super) fn private(&self, id: ConversationId, user: UserId) -> Delivery {
        self.commit(id, user, What::ConversationHidden(ConversationHidden {}), Some(user))
    }

    pub(super) fn add(&self, id: ConversationId, actor: UserId, user: UserId) -> Delivery {
        {
            let mut book = self.0.book.lock();
            let room = book.rooms.get_mut(&id).unwrap();
            let from = room.events.len() as u64 + 1;
            room.members.entry(user).or_default().push((from, None));
            room.added.push(user);
        }
        let added = MembersAdded { members: vec![user.name()] };
        let event = self.commit(id, actor, What::MembersAdded(added), None);
        Delivery { added_members: vec![user.name()], ..event }
    }

    pub(super) fn remove(&self, id: ConversationId, actor: UserId, user: UserId) -> Delivery {
        let event = self.commit(id, actor, What::MemberRemoved(MemberRemoved { member: user.name() }), None);
        let mut book = self.0.book.lock();
        let room = book.rooms.get_mut(&id).unwrap();
        let to = room.events.len() as u64;
        room.members.get_mut(&user).unwrap().last_mut().unwrap().1 = Some(to);
        room.removed.push(user);
        Delivery { removed_members: vec![user.name()], ..event }
    }

    fn commit(&self, id: ConversationId, actor: UserId, change: What, only_for: Option<UserId>) -> Delivery {
        let mut book = self.0.book.lock();
        let epoch = book.epoch;
        let room = book.rooms.get_mut(&id).unwrap();
        let event = Event {
            conversation: id.name(),
            epoch,
            seq: room.events.len() as u64 + 1,
            create_time: Some(timestamp(SystemTime::now())),
            actor: actor.name(),
            change: Some(change),
            ..Event::default()
        };
        room.events.push((event.clone(), only_for));
        room.changed_at = Some(SystemTime::now());
        let only_for = only_for.map(|user| user.name()).unwrap_or_default();
        Delivery { event: Some(event), only_for, ..Delivery::default() }
    }

    /// The recorded watermarks of a member: delivered and read.
    pub(super) fn watermarks(&self, id: ConversationId, user: UserId) -> (u64, u64) {
        let book = self.0.book.lock();
        book.rooms[&id].receipts.get(&user).map_or((0, 0), |(delivered, read, _)| (*delivered, *read))
    }

    fn up(&self) -> Result<parking_lot::MutexGuard<'_, Book>, Status> {
        if self.0.failing.load(Ordering::SeqCst) {
            return Err(Status::unavailable("the log is down"));
        }
        Ok(self.0.book.lock())
    }
}

fn receipt(id: ConversationId, user: UserId, epoch: u64, room: &Room) -> Receipt {
    let (delivered_seq, read_seq, _) = room.receipts.get(&user).copied().unwrap_or_default();
    Receipt { conversation: id.name(), member: user.name(), epoch, delivered_seq, read_seq }
}

/// The receipts of a room that rose since then.
fn risen(id: ConversationId, epoch: u64, room: &Room, since: SystemTime) -> Vec<Receipt> {
    let rose = room.receipts.iter().filter(|(_, (_, _, at))| at.is_some_and(|at| at >= since));
    rose.map(|(user, _)| receipt(id, *user, epoch, room)).collect()
}

#[tonic::async_trait]
impl LogService for FakeLog {
    async fn list_heads(&self, request: Request<ListHeadsRequest>) -> Result<Response<ListHeadsResponse>, Status> {
        let request = request.into_inner();
        flaghoist_runtime::fault::check(&request, "send.flaghoist")?;
        let book = self.up()?;
        let user = UserId::parse(&request.user).unwrap();
        let asked =
            |id: &ConversationId| request.conversations.is_empty() || request.conversations.contains(&id.name());
        let mine = book.rooms.iter().filter(|(id, room)| asked(id) && !room.visible(user).is_empty());
        let from = request.page_token.parse::<usize>().unwrap_or(0);
        let size = if request.page_size == 0 { 1000 } else { usize::try_from(request.page_size).unwrap() };
        let count = mine.clone().count();
        let heads = mine.skip(from).take(size).map(|(id, room)| {
            let visible = room.visible(user);
            let read_seq = room.receipts.get(&user).map_or(0, |receipt| receipt.1);
            let others = room.events.iter().filter(|(event, _)| {
                let message = matches!(event.change, Some(What::MessageCreated(_)));
                message && event.seq > read_seq && event.actor != user.name() && room.sees(user, event.seq)
            });
            let since = request.receipts_since_time.as_ref().map(from_timestamp);
            let mut receipts = since.map(|since| risen(*id, book.epoch, room, since)).unwrap_or_default();
            receipts.retain(|receipt| receipt.member != user.name());
            Head {
                conversation: id.name(),
                last_seq: *visible.last().unwrap(),
                member: room.member(user),
                unread_count: others.count() as u64,
                own: Some(receipt(*id, user, book.epoch, room)),
                receipts,
                first_seq: visible[0],
                member_count: 2,
            }
        });
        let next_page_token = if from + size < count { (from + size).to_string() } else { String::new() };
        Ok(Response::new(ListHeadsResponse { epoch: book.epoch, heads: heads.collect(), next_page_token }))
    }

    async fn list_recent_changes(
        &self,
        request: Request<ListRecentChangesRequest>,
    ) -> Result<Response<ListRecentChangesResponse>, Status> {
        let book = self.up()?;
        let since = from_timestamp(&request.into_inner().since_time.unwrap());
        let names = |people: &[UserId]| people.iter().map(UserId::name).collect();
        let lately = |at: Option<SystemTime>| at.is_some_and(|at| at >= since);
        let changed = book
            .rooms
            .iter()
            .filter(|(_, room)| lately(room.changed_at) || room.receipts.values().any(|receipt| lately(receipt.2)));
        let changes = changed.map(|(id, room)| Change {
            conversation: id.name(),
            last_seq: room.events.len() as u64,
            added_members: names(&room.added),
            removed_members: names(&room.removed),
            receipts: risen(*id, book.epoch, room, since),
        });
        let read_time = Some(timestamp(SystemTime::now()));
        let changes = changes.collect();
        Ok(Response::new(ListRecentChangesResponse {
            epoch: book.epoch,
            changes,
            next_page_token: String::new(),
            read_time,
        }))
    }

    async fn list_events(&self, request: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        let request = request.into_inner();
        let book = self.up()?;
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        let user = UserId::parse(&request.user).unwrap();
        let room = book.rooms.get(&ConversationId::parse(&request.conversation).unwrap());
        let room = room.filter(|room| room.members.contains_key(&user)).ok_or_else(|| Status::not_found("no room"))?;
        let visible = room.visible(user);
        let size = usize::try_from(request.page_size).unwrap();
        let after = visible.iter().filter(|seq| **seq > request.after_seq).take(size);
        let events = after.map(|seq| Event {
            previous_seq: visible.iter().rev().find(|other| *other < seq).copied().unwrap_or(0),
            ..room.events[usize::try_from(*seq).unwrap() - 1].0.clone()
        });
        let events = events.collect::<Vec<_>>();
        let last_seq = visible.last().copied().unwrap_or(0);
        let read_through_seq = events.last().map_or(last_seq.max(request.after_seq), |event| event.seq);
        Ok(Response::new(ListEventsResponse { epoch: book.epoch, events, read_through_seq, last_seq }))
    }

    async fn record_receipts(
        &self,
        request: Request<RecordReceiptsRequest>,
    ) -> Result<Response<RecordReceiptsResponse>, Status> {
        let request = request.into_inner();
        flaghoist_runtime::fault::check(&request, "send.flaghoist")?;
        let mut book = self.up()?;
        let epoch = book.epoch;
        let mut raised = Vec::new();
        for asked in &request.receipts {
            let (id, user) =
                (ConversationId::parse(&asked.conversation).unwrap(), UserId::parse(&asked.member).unwrap());
            let Some(room) = book.rooms.get_mut(&id).filter(|_| asked.epoch == epoch) else { continue };
            let kept = room.receipts.entry(user).or_default();
            if asked.delivered_seq > kept.0 || asked.read_seq > kept.1 {
                *kept = (kept.0.max(asked.delivered_seq), kept.1.max(asked.read_seq), Some(SystemTime::now()));
                raised.push(receipt(id, user, epoch, room));
            }
        }
        Ok(Response::new(RecordReceiptsResponse { raised }))
    }
}
