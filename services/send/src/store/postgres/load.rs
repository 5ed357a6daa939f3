//! What a batch needs to know before it can be decided, read under its lanes' locks: nothing of it comes from memory, for another
//! pod may have written a moment ago.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use flaghoist_runtime::names::{ConversationId, UserId};
use sqlx::Row as _;
use sqlx::postgres::{PgBindIterExt as _, PgConnection};

use super::rows::{self, HEAD_COLUMNS, Id, MEMBER_COLUMNS, signed};
use super::sql;
use crate::conversation::{Kind, Known, Role};
use crate::event::{Action, Event, EventKind, Op, Write};
use crate::plan::{Facts, ReadPoint, Target};

/// The kind of the locks of people's counters: they are taken after the lanes', and the lower ones first.
const PEOPLE_LOCKS: i32 = 0x7365_6e65;

/// How many locks there are for people's counters.
const PEOPLE_LANES: i32 = 64;

/// What is known before a batch. Of each conversation only the people that the batch concerns are known.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) known: HashMap<ConversationId, Known>,
    pub(super) facts: Facts,
    /// When the time of the batch was read.
    pub(super) timed_at: Instant,
}

pub(super) async fn load(connection: &mut PgConnection, ops: &[Op], epoch: u64) -> Result<Loaded, sqlx::Error> {
    let mut timed_at = Instant::now();
    let (mut known, time) = actors(connection, ops, epoch).await?;
    let repeated = repeated(connection, ops).await?;
    let writes = ops.iter().enumerate().filter_map(|(place, op)| match op {
        Op::Write(write) if !repeated.contains_key(&place) => Some(write),
        _ => None,
    });
    // Most batches hold nothing but messages.
    let rest: Vec<&Write> = writes.filter(|write| !matches!(write.action, Action::Send { .. })).collect();
    others(connection, &rest, &mut known).await?;
    let targets = targets(connection, &rest).await?;
    let people = people(connection, &rest, &known).await?;
    let begins = rest.iter().any(|write| {
        let begin = matches!(write.action, Action::BeginDirect { .. } | Action::BeginGroup { .. });
        begin && !known.contains_key(&write.conversation)
    });
    let next_conversation_no =
        if begins { sqlx::query_scalar(sql::NUMBERS).fetch_one(&mut *connection).await? } else { 0 };
    let read_points = read_points(connection, ops, epoch, &known).await?;
    let now = match time {
        // The time of a batch that had to wait for people's counters is taken after that.
        Some(time) if people.is_empty() => time,
        _ => {
            timed_at = Instant::now();
            clock(connection).await?
        }
    };
    // The log has no numbers of its own here: a row is found by its conversation and `seq`.
    let facts = Facts { epoch, now, next_log_no: 0, next_conversation_no, repeated, targets, people, read_points };
    Ok(Loaded { known, facts, timed_at })
}

pub(super) async fn clock(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(sql::CLOCK).fetch_one(connection).await
}

/// The conversations with those who act in them, and the time if there was anything to read.
async fn actors(
    connection: &mut PgConnection,
    ops: &[Op],
    epoch: u64,
) -> Result<(HashMap<ConversationId, Known>, Option<i64>), sqlx::Error> {
    let mut pairs: HashSet<(ConversationId, UserId)> = HashSet::with_capacity(ops.len());
    for op in ops {
        match op {
            Op::Write(write) => {
                pairs.insert((write.conversation, write.actor));
            }
            Op::Raise(watermarks) => {
                let current = watermarks.iter().filter(|watermark| watermark.epoch == epoch);
                pairs.extend(current.map(|watermark| (watermark.conversation, watermark.member)));
            }
        }
    }
    let query = sqlx::query(sql::ACTORS)
        .bind(pairs.iter().map(|(id, _)| Id::from(*id)).bind_iter())
        .bind(pairs.iter().map(|(_, person)| Id::from(*person)).bind_iter());
    let fetched = query.fetch_all(connection).await?;
    let mut known: HashMap<ConversationId, Known> = HashMap::with_capacity(fetched.len());
    for row in &fetched {
        let (person, member) = rows::member(row, HEAD_COLUMNS)?;
        let id = rows::conversation(row, 1)?;
        let entry = match known.entry(id) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Known { head: rows::head(row)?, members: HashMap::new() })
            }
        };
        entry.members.insert(person, member);
    }
    let time = fetched.first().map(|row| row.try_get(HEAD_COLUMNS + MEMBER_COLUMNS)).transpose()?;
    Ok((known, time))
}

/// The events that requests of the batch became earlier, by the place of the call.
async fn repeated(connection: &mut PgConnection, ops: &[Op]) -> Result<HashMap<usize, Arc<Event>>, sqlx::Error> {
    let writes: Vec<(usize, &Write)> = ops
        .iter()
        .enumerate()
        .filter_map(|(place, op)| if let Op::Write(write) = op { Some((place, write)) } else { None })
        .collect();
    if writes.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sqlx::query_as(sql::REQUESTS)
        .bind(writes.iter().map(|(_, write)| Id::from(write.conversation)).bind_iter())
        .bind(writes.iter().map(|(_, write)| Id::from(write.actor)).bind_iter())
        .bind(writes.iter().map(|(_, write)| write.request_id.as_bytes()).bind_iter());
    let found: Vec<(i64, i64)> = query.fetch_all(&mut *connection).await?;
    let found = found.into_iter().filter_map(|(number, seq)| {
        let (place, write) = writes.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
        Some((*place, (write.conversation, seq.unsigned_abs())))
    });
    let places: HashMap<usize, (ConversationId, u64)> = found.collect();
    let wanted: HashSet<(ConversationId, u64)> = places.values().copied().collect();
    let events = events_at(connection, &wanted).await?;
    let events: HashMap<_, Arc<Event>> =
        events.into_iter().map(|(event, _)| ((event.conversation, event.seq), Arc::new(event))).collect();
    Ok(places.into_iter().filter_map(|(place, at)| Some((place, events.get(&at)?.clone()))).collect())
}

/// Events at given places, each with the place of its newest edit.
async fn events_at(
    connection: &mut PgConnection,
    places: &HashSet<(ConversationId, u64)>,
) -> Result<Vec<(Event, Option<i64>)>, sqlx::Error> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let query = sqlx::query(sql::EVENTS_AT)
        .bind(places.iter().map(|(id, _)| Id::from(*id)).bind_iter())
        .bind(places.iter().map(|(_, seq)| signed(*seq)).bind_iter());
    let fetched = query.fetch_all(connection).await?;
    fetched.iter().map(|row| Ok((rows::event(row)?, row.try_get(rows::EVENT_COLUMNS - 1)?))).collect()
}

/// Completes what is known by the people whom calls name, or whose roles they depend on.
async fn others(
    connection: &mut PgConnection,
    writes: &[&Write],
    known: &mut HashMap<ConversationId, Known>,
) -> Result<(), sqlx::Error> {
    let (mut named, mut owned, mut ended) = (HashSet::new(), HashSet::new(), HashSet::new());
    for write in writes {
        let id = write.conversation;
        let Some(conversation) = known.get(&id) else { continue };
        match &write.action {
            Action::Add { people, .. } => named.extend(people.iter().map(|person| (id, *person))),
            Action::Remove { person } => {
                named.insert((id, *person));
            }
            Action::Promote { person, .. } => {
                named.insert((id, *person));
                owned.insert(id);
            }
            Action::Leave | Action::Depart => {
                owned.insert(id);
            }
            Action::End if conversation.head.kind == Kind::Group => {
                ended.insert(id);
            }
            _ => {}
        }
    }
    let mut fetched = Vec::new();
    if !named.is_empty() {
        let query = sqlx::query(sql::NAMED)
            .bind(named.iter().map(|(id, _)| Id::from(*id)).bind_iter())
            .bind(named.iter().map(|(_, person)| Id::from(*person)).bind_iter());
        fetched.extend(query.fetch_all(&mut *connection).await?);
    }
    for (ids, least) in [(owned, Role::Owner), (ended, Role::Member)] {
        if !ids.is_empty() {
            fetched.extend(everyone(connection, &ids, i16::try_from(least.number()).unwrap_or(0)).await?);
        }
    }
    for row in &fetched {
        let (person, member) = rows::member(row, 0)?;
        if let Some(conversation) = known.get_mut(&rows::conversation(row, MEMBER_COLUMNS)?) {
            conversation.members.insert(person, member);
        }
    }
    Ok(())
}

async fn everyone(
    connection: &mut PgConnection,
    ids: &HashSet<ConversationId>,
    least: i16,
) -> Result<Vec<sqlx::postgres::PgRow>, sqlx::Error> {
    let query = sqlx::query(sql::EVERYONE).bind(ids.iter().map(|id| Id::from(*id)).bind_iter()).bind(least);
    query.fetch_all(connection).await
}

/// The messages that calls want to change.
async fn targets(
    connection: &mut PgConnection,
    writes: &[&Write],
) -> Result<HashMap<(ConversationId, u64), Target>, sqlx::Error> {
    let wanted = writes.iter().filter_map(|write| match write.action {
        Action::Edit { target, .. } | Action::Erase { target } | Action::Expunge { target } => {
            Some((write.conversation, target))
        }
        _ => None,
    });
    let events = events_at(connection, &wanted.collect()).await?;
    let messages = events.into_iter().filter(|(event, _)| event.kind == EventKind::MessageCreated);
    let targets = messages.map(|(event, edit_no)| {
        let target = Target {
            log_no: 0,
            sender: event.actor,
            message_no: event.message_no,
            created_at: event.created_at,
            deleted: event.deleted_at.is_some(),
            edit_no,
        };
        ((event.conversation, event.seq), target)
    });
    Ok(targets.collect())
}

/// Locks the counters of those who come and go, and reads them: a person's conversations are in many lanes.
async fn people(
    connection: &mut PgConnection,
    writes: &[&Write],
    known: &HashMap<ConversationId, Known>,
) -> Result<HashMap<UserId, u32>, sqlx::Error> {
    let mut people: HashSet<UserId> = HashSet::new();
    for write in writes {
        let there = known.get(&write.conversation);
        match &write.action {
            Action::BeginDirect { peer, .. } if there.is_none() => people.extend([*peer, write.actor]),
            Action::BeginGroup { people: added, .. } if there.is_none() => {
                people.extend(added.iter().chain([&write.actor]));
            }
            Action::Add { people: added, .. } if there.is_some() => people.extend(added),
            Action::Remove { person } if there.is_some() => {
                people.insert(*person);
            }
            Action::Leave | Action::Depart if there.is_some() => {
                people.insert(write.actor);
            }
            Action::End => people.extend(there.into_iter().flat_map(|known| known.members.keys())),
            _ => {}
        }
    }
    if people.is_empty() {
        return Ok(HashMap::new());
    }
    let lanes: BTreeSet<i32> = people.iter().map(|person| people_lane(*person)).collect();
    sqlx::query(sql::LOCK_PEOPLE)
        .bind(PEOPLE_LOCKS)
        .bind(lanes.into_iter().collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    let query = sqlx::query(sql::PEOPLE).bind(people.iter().map(|person| Id::from(*person)).bind_iter());
    let fetched = query.fetch_all(connection).await?;
    let mut counts: HashMap<UserId, u32> = people.into_iter().map(|person| (person, 0)).collect();
    for row in &fetched {
        counts.insert(rows::person(row, 0)?, row.try_get::<i32, _>(1)?.unsigned_abs());
    }
    Ok(counts)
}

fn people_lane(person: UserId) -> i32 {
    // The same on every pod. The last bytes of an id are as good as random in every version of ids that is in use.
    i32::from(*person.0.as_bytes().last().unwrap_or(&0)) % PEOPLE_LANES
}

/// What lies before the places that watermarks rise to, where these are not the end of the log.
async fn read_points(
    connection: &mut PgConnection,
    ops: &[Op],
    epoch: u64,
    known: &HashMap<ConversationId, Known>,
) -> Result<HashMap<(ConversationId, UserId, u64), ReadPoint>, sqlx::Error> {
    let mut asked = Vec::new();
    let watermarks = ops.iter().flat_map(|op| if let Op::Raise(all) = op { &all[..] } else { &[] });
    for watermark in watermarks.filter(|watermark| watermark.epoch == epoch) {
        let Some(conversation) = known.get(&watermark.conversation) else { continue };
        let Some(member) = conversation.members.get(&watermark.member) else { continue };
        if watermark.read_seq > member.read_seq && watermark.read_seq < conversation.head.last_public_seq {
            asked.push((watermark, member));
        }
    }
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sqlx::query_as(sql::READ_POINTS)
        .bind(asked.iter().map(|(watermark, _)| Id::from(watermark.conversation)).bind_iter())
        .bind(asked.iter().map(|(watermark, _)| Id::from(watermark.member)).bind_iter())
        .bind(asked.iter().map(|(_, member)| signed(member.read_seq)).bind_iter())
        .bind(asked.iter().map(|(watermark, _)| signed(watermark.read_seq)).bind_iter())
        // Somebody who sent nothing since then needs no search for their own messages.
        .bind(asked.iter().map(|(_, member)| member.sent_no > member.read_sent_no).bind_iter());
    let found: Vec<(i64, i64, Option<i64>)> = query.fetch_all(connection).await?;
    let points = found.into_iter().filter_map(|(number, message_no, sent_no)| {
        let (watermark, member) = asked.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
        let sent_no = sent_no.map_or(member.read_sent_no, i64::unsigned_abs);
        let point = ReadPoint { message_no: message_no.unsigned_abs(), sent_no };
        Some(((watermark.conversation, watermark.member, watermark.read_seq), point))
    });
    Ok(points.collect())
}
