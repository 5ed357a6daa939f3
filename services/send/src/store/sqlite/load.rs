//! What a batch needs to know before it can be decided, gathered with one statement for each kind of question.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use flaghoist_runtime::names::{ConversationId, UserId};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::SqliteStore;
use super::commit::{Writer, request_key};
use super::rows::{
    self, MembersByConversation, hex, hex_array, json, member_columns, select_events, select_heads, signed,
};
use crate::conversation::Known;
use crate::event::{Action, Event, EventKind, Op};
use crate::plan::{ReadPoint, Target};

/// Reads conversations and everyone in them.
pub(super) async fn known(
    connection: &mut SqliteConnection,
    ids: &[ConversationId],
) -> Result<Vec<Known>, sqlx::Error> {
    let ids = hex_array(ids.iter().map(|id| &id.0));
    const HEADS: &str = select_heads!("", "json_each(?1) j CROSS JOIN conversations c ON c.id = unhex(j.value)");
    let heads = sqlx::query(HEADS).bind(ids).fetch_all(&mut *connection).await?;
    let heads = heads.iter().map(rows::head).collect::<Result<Vec<_>, _>>()?;
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    const MEMBERS: &str = concat!(
        "SELECT ",
        member_columns!(),
        ", m.conversation_no FROM json_each(?1) j CROSS JOIN members m ON m.conversation_no = j.value"
    );
    let numbers: Vec<i64> = heads.iter().map(|head| head.no).collect();
    let mut members = MembersByConversation::new();
    for row in sqlx::query(MEMBERS).bind(json(&numbers)).fetch_all(connection).await? {
        let (person, member) = rows::member(&row, 0)?;
        members.entry(row.try_get(12)?).or_default().insert(person, member);
    }
    let known = heads.into_iter().map(|head| Known { members: members.remove(&head.no).unwrap_or_default(), head });
    Ok(known.collect())
}

impl SqliteStore {
    /// Brings the conversations of a batch into memory.
    pub(super) async fn load_conversations(
        &self,
        connection: &mut SqliteConnection,
        ops: &[Op],
    ) -> Result<(), sqlx::Error> {
        let mut missing = HashSet::new();
        {
            let mut shared = self.live.write();
            let batch = shared.next_batch();
            let mut touch = |id: ConversationId| match shared.conversations.get_mut(&id) {
                Some(entry) => entry.used = batch,
                None => {
                    missing.insert(id);
                }
            };
            for op in ops {
                match op {
                    Op::Write(write) => touch(write.conversation),
                    Op::Raise(watermarks) => watermarks.iter().for_each(|watermark| touch(watermark.conversation)),
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<ConversationId> = missing.into_iter().collect();
        let found = known(connection, &missing).await?;
        let mut shared = self.live.write();
        for known in found {
            shared.insert(known);
        }
        Ok(())
    }

    /// The events that requests of the batch became earlier, by the place of the call.
    pub(super) async fn repeated(
        &self,
        connection: &mut SqliteConnection,
        writer: &Writer,
        ops: &[Op],
    ) -> Result<HashMap<usize, Arc<Event>>, sqlx::Error> {
        let mut places = Vec::with_capacity(ops.len());
        let mut keys: Vec<u8> = Vec::with_capacity(ops.len() * 16);
        let mut candidates: Vec<(usize, i64)> = Vec::new();
        {
            let shared = self.live.read();
            for (place, op) in ops.iter().enumerate() {
                let Op::Write(write) = op else { continue };
                let Some(entry) = shared.conversations.get(&write.conversation) else { continue };
                let key = request_key(entry.known.head.no, write.request_hash);
                if let Some(numbers) = writer.requests.get(&key) {
                    candidates.extend(numbers.iter().map(|no| (place, *no)));
                }
                places.push(place);
                keys.extend_from_slice(&key);
            }
        }
        if places.is_empty() {
            return Ok(HashMap::new());
        }
        let found: Vec<(i64, i64)> = sqlx::query_as(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
             SELECT n.i, r.log_no FROM n CROSS JOIN requests r ON r.key = substr(?1, n.i * 16 + 1, 16)",
        )
        .bind(keys)
        .bind(signed(places.len() as u64 - 1))
        .fetch_all(&mut *connection)
        .await?;
        candidates.extend(found.into_iter().filter_map(|(i, no)| Some((*places.get(usize::try_from(i).ok()?)?, no))));
        if candidates.is_empty() {
            return Ok(HashMap::new());
        }
        self.same_requests(connection, ops, &candidates).await
    }

    /// Those of the candidates that are the request itself, and not only share its key.
    async fn same_requests(
        &self,
        connection: &mut SqliteConnection,
        ops: &[Op],
        candidates: &[(usize, i64)],
    ) -> Result<HashMap<usize, Arc<Event>>, sqlx::Error> {
        const EVENTS: &str =
            select_events!("json_each(?1) j CROSS JOIN log l ON l.no = j.value LEFT JOIN log e ON e.no = l.edit_no");
        let numbers: Vec<i64> = candidates.iter().map(|(_, no)| *no).collect();
        let fetched = sqlx::query(EVENTS).bind(json(&numbers)).fetch_all(connection).await?;
        let mut by_number: HashMap<i64, &SqliteRow> = HashMap::with_capacity(fetched.len());
        for row in &fetched {
            by_number.insert(row.try_get(13)?, row);
        }
        let mut same = HashMap::new();
        for (place, no) in candidates {
            let (Some(Op::Write(write)), Some(row)) = (ops.get(*place), by_number.get(no)) else { continue };
            let event = rows::event(row, write.conversation)?;
            if event.actor == write.actor && event.request_id == write.request_id {
                same.insert(*place, Arc::new(event));
            }
        }
        Ok(same)
    }

    /// The messages that calls of the batch want to change.
    pub(super) async fn targets(
        &self,
        connection: &mut SqliteConnection,
        ops: &[Op],
    ) -> Result<HashMap<(ConversationId, u64), Target>, sqlx::Error> {
        let mut wanted: HashMap<(i64, u64), (ConversationId, Option<i64>)> = HashMap::new();
        {
            let shared = self.live.read();
            for op in ops {
                let Op::Write(write) = op else { continue };
                let (Action::Edit { target, .. } | Action::Erase { target } | Action::Expunge { target }) =
                    write.action
                else {
                    continue;
                };
                let Some(entry) = shared.conversations.get(&write.conversation) else { continue };
                if target <= entry.known.head.last_seq {
                    let no = entry.tail_no(target);
                    wanted.insert((entry.known.head.no, target), (write.conversation, no));
                }
            }
        }
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let asked: Vec<_> = wanted.iter().map(|((no, seq), (_, log_no))| (no, signed(*seq), log_no)).collect();
        let rows = sqlx::query(
            "SELECT l.conversation_no, l.seq, l.no, l.sender_id, l.message_no, l.created_at, l.deleted_at, l.edit_no
             FROM json_each(?1) j CROSS JOIN log l ON l.no = coalesce(j.value ->> 2,
                 (SELECT log_no FROM places WHERE conversation_no = j.value ->> 0 AND seq = j.value ->> 1))
             WHERE l.kind = 1",
        )
        .bind(json(&asked))
        .fetch_all(connection)
        .await?;
        let mut targets = HashMap::with_capacity(rows.len());
        for row in &rows {
            let place = (row.try_get(0)?, rows::unsigned(row, 1)?);
            let Some((id, _)) = wanted.get(&place) else { continue };
            let target = Target {
                log_no: row.try_get(2)?,
                sender: UserId(rows::uuid(row, 3)?),
                message_no: rows::unsigned(row, 4)?,
                created_at: row.try_get(5)?,
                deleted: row.try_get::<Option<i64>, _>(6)?.is_some(),
                edit_no: row.try_get(7)?,
            };
            targets.insert((*id, place.1), target);
        }
        Ok(targets)
    }

    /// How many conversations those are in whom the batch adds somewhere.
    pub(super) async fn people(
        &self,
        connection: &mut SqliteConnection,
        ops: &[Op],
    ) -> Result<HashMap<UserId, u32>, sqlx::Error> {
        let mut people: HashSet<UserId> = HashSet::new();
        for op in ops {
            let Op::Write(write) = op else { continue };
            match &write.action {
                Action::BeginDirect { peer, .. } => people.extend([*peer, write.actor]),
                Action::BeginGroup { people: added, .. } => people.extend(added.iter().chain([&write.actor])),
                Action::Add { people: added, .. } => people.extend(added),
                _ => {}
            }
        }
        if people.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = sqlx::query(
            "SELECT p.user_id, p.conversation_count FROM json_each(?1) j CROSS JOIN people p ON p.user_id = unhex(j.value)",
        )
        .bind(hex_array(people.iter().map(|person| &person.0)))
        .fetch_all(connection)
        .await?;
        rows.iter().map(|row| Ok((UserId(rows::uuid(row, 0)?), row.try_get(1)?))).collect()
    }

    /// What lies before the places that watermarks rise to, where these are not the end of the log.
    pub(super) async fn read_points(
        &self,
        connection: &mut SqliteConnection,
        ops: &[Op],
    ) -> Result<HashMap<(ConversationId, UserId, u64), ReadPoint>, sqlx::Error> {
        let mut points = HashMap::new();
        let mut asked = Vec::new();
        let mut askers = Vec::new();
        {
            let shared = self.live.read();
            let watermarks = ops.iter().flat_map(|op| if let Op::Raise(all) = op { &all[..] } else { &[] });
            for watermark in watermarks.filter(|watermark| watermark.epoch == self.epoch) {
                let (id, person, seq) = (watermark.conversation, watermark.member, watermark.read_seq);
                let Some(entry) = shared.conversations.get(&id) else { continue };
                let Some(member) = entry.known.members.get(&person) else { continue };
                let head = &entry.known.head;
                if seq <= member.read_seq || seq >= head.last_public_seq {
                    continue;
                }
                if let Some(point) = entry.tail_point(person, member.sent_no, seq) {
                    points.insert((id, person, seq), point);
                    continue;
                }
                // Somebody who sent nothing since then needs no search for their own messages.
                let searched = (member.sent_no > member.read_sent_no).then(|| hex(&person.0));
                asked.push((head.no, searched, signed(member.read_seq), signed(seq)));
                askers.push((id, person, seq, member.read_sent_no));
            }
        }
        if asked.is_empty() {
            return Ok(points);
        }
        let rows: Vec<(i64, i64, Option<i64>)> = sqlx::query_as(
            "SELECT j.key, l.message_no, CASE WHEN j.value ->> 1 IS NOT NULL THEN
                 (SELECT o.sent_no FROM places q CROSS JOIN log o ON o.no = q.log_no
                  WHERE q.conversation_no = j.value ->> 0 AND q.seq > j.value ->> 2 AND q.seq <= j.value ->> 3
                      AND o.sender_id = unhex(j.value ->> 1) AND o.kind = 1
                  ORDER BY q.seq DESC LIMIT 1) END
             FROM json_each(?1) j CROSS JOIN places p ON p.conversation_no = j.value ->> 0 AND p.seq = j.value ->> 3
             CROSS JOIN log l ON l.no = p.log_no",
        )
        .bind(json(&asked))
        .fetch_all(connection)
        .await?;
        for (key, message_no, sent_no) in rows {
            let Some((id, person, seq, before)) = usize::try_from(key).ok().and_then(|key| askers.get(key)) else {
                continue;
            };
            let sent_no = sent_no.map_or(*before, i64::unsigned_abs);
            points.insert((*id, *person, *seq), ReadPoint { message_no: message_no.unsigned_abs(), sent_no });
        }
        Ok(points)
    }
}

impl super::live::Entry {
    /// Where in the log an event lies that the indexes do not know yet.
    pub(super) fn tail_no(&self, seq: u64) -> Option<i64> {
        let first = self.tail.front()?.event.seq;
        // The tail is dense, like the log.
        self.tail.get(usize::try_from(seq.checked_sub(first)?).ok()?).map(|tail| tail.log_no)
    }

    /// Where in the log those of the events from `low` to `high` lie that the indexes do not know yet.
    pub(super) fn tail_from(&self, low: u64, high: u64) -> Vec<i64> {
        let Some(first) = self.tail.front().map(|tail| tail.event.seq) else { return Vec::new() };
        let at = |seq: u64| usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX).min(self.tail.len());
        self.tail.range(at(low)..at(high + 1)).map(|tail| tail.log_no).collect()
    }

    /// What lies before `seq`, if everything after it is in memory.
    fn tail_point(&self, person: UserId, sent_no: u64, seq: u64) -> Option<ReadPoint> {
        let first = &self.tail.front()?.event;
        let message = |event: &Event| u64::from(event.kind == EventKind::MessageCreated);
        let beyond = usize::try_from((seq + 1).checked_sub(first.seq)?).ok()?;
        let message_no = match beyond.checked_sub(1) {
            Some(at) => self.tail.get(at)?.event.message_no,
            None => first.message_no - message(first),
        };
        let own = self.tail.range(beyond.min(self.tail.len())..).filter(|tail| tail.event.actor == person);
        let own: u64 = own.map(|tail| message(&tail.event)).sum();
        Some(ReadPoint { message_no, sent_no: sent_no - own })
    }
}
