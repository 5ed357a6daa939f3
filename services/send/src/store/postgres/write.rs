//! Carries a plan out: a statement for each table and kind of change, whatever the number of rows. What a batch does not change
//! costs nothing.

use std::collections::{HashMap, HashSet};

use flaghoist_runtime::names::{ConversationId, UserId};
use sqlx::postgres::{PgBindIterExt as _, PgConnection};

use super::commit::Failure;
use super::rows::{Id, past_text, signed};
use super::sql;
use crate::conversation::{Known, Member, Role};
use crate::event::{Answer, EventKind};
use crate::plan::{Draft, Plan};

/// Whether there is nothing to write.
pub(super) fn nothing(plan: &Plan) -> bool {
    plan.events.is_empty() && !plan.drafts.values().any(|draft| draft.members.values().any(|(_, stored)| *stored))
}

pub(super) async fn write(
    connection: &mut PgConnection,
    plan: &Plan,
    known: &HashMap<ConversationId, Known>,
    now: i64,
) -> Result<(), Failure> {
    reserve(connection, plan, known).await?;
    conversations(connection, plan).await?;
    members(connection, plan, known).await?;
    people(connection, plan).await?;
    append(connection, plan, now).await?;
    edits(connection, plan).await?;
    erasures(connection, plan, now).await?;
    receipts(connection, plan, now).await?;
    Ok(())
}

/// Takes the numbers of the events.
async fn reserve(
    connection: &mut PgConnection,
    plan: &Plan,
    known: &HashMap<ConversationId, Known>,
) -> Result<(), Failure> {
    let grown = plan.drafts.iter().filter(|(_, draft)| !draft.created && !draft.events.is_empty());
    let grown: Vec<(Id, i64, &Draft)> =
        grown.filter_map(|(id, draft)| Some((Id::from(*id), signed(known.get(id)?.head.last_seq), draft))).collect();
    if grown.is_empty() {
        return Ok(());
    }
    let done = sqlx::query(sql::RESERVE)
        .bind(grown.iter().map(|(id, ..)| *id).bind_iter())
        .bind(grown.iter().map(|(_, before, _)| *before).bind_iter())
        .bind(grown.iter().map(|(.., draft)| signed(draft.head.last_seq)).bind_iter())
        .bind(grown.iter().map(|(.., draft)| signed(draft.head.last_public_seq)).bind_iter())
        .bind(grown.iter().map(|(.., draft)| signed(draft.head.last_message_no)).bind_iter())
        .execute(connection)
        .await?;
    if done.rows_affected() != grown.len() as u64 {
        // Nobody may who does not hold the lane; should it happen all the same, no number is given out twice.
        return Err(Failure::Undone("its numbers were taken"));
    }
    Ok(())
}

/// New conversations, and what changes seldom in others.
async fn conversations(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let begun: Vec<_> = plan.drafts.values().filter(|draft| draft.created).map(|draft| &draft.head).collect();
    if !begun.is_empty() {
        sqlx::query(sql::BEGIN)
            .bind(begun.iter().map(|head| Id::from(head.id)).bind_iter())
            .bind(begun.iter().map(|head| head.no).bind_iter())
            .bind(begun.iter().map(|head| small(head.kind.number())).bind_iter())
            .bind(begun.iter().map(|head| head.title.as_bytes()).bind_iter())
            .bind(begun.iter().map(|head| signed(head.last_seq)).bind_iter())
            .bind(begun.iter().map(|head| signed(head.last_public_seq)).bind_iter())
            .bind(begun.iter().map(|head| signed(head.last_message_no)).bind_iter())
            .bind(begun.iter().map(|head| head.member_count.cast_signed()).bind_iter())
            .bind(begun.iter().map(|head| head.deleted).bind_iter())
            .bind(begun.iter().map(|head| head.created_at).bind_iter())
            .execute(&mut *connection)
            .await?;
    }
    let changed: Vec<_> =
        plan.drafts.values().filter(|draft| draft.changed && !draft.created).map(|draft| &draft.head).collect();
    if !changed.is_empty() {
        sqlx::query(sql::SETTLE)
            .bind(changed.iter().map(|head| Id::from(head.id)).bind_iter())
            .bind(changed.iter().map(|head| head.title.as_bytes()).bind_iter())
            .bind(changed.iter().map(|head| head.member_count.cast_signed()).bind_iter())
            .bind(changed.iter().map(|head| head.deleted).bind_iter())
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn members(
    connection: &mut PgConnection,
    plan: &Plan,
    known: &HashMap<ConversationId, Known>,
) -> Result<(), sqlx::Error> {
    let all = plan
        .drafts
        .values()
        .flat_map(|draft| draft.members.iter().map(move |(person, member)| (draft, person, member)));
    let (stored, sent): (Vec<_>, Vec<_>) = all
        .map(|(draft, person, (member, stored))| (draft, *person, member, *stored))
        .partition(|(.., stored)| *stored);
    if !sent.is_empty() {
        sqlx::query(sql::COUNT_SENT)
            .bind(sent.iter().map(|(draft, ..)| Id::from(draft.head.id)).bind_iter())
            .bind(sent.iter().map(|(_, person, ..)| Id::from(*person)).bind_iter())
            .bind(sent.iter().map(|(_, _, member, _)| signed(member.sent_no)).bind_iter())
            .execute(&mut *connection)
            .await?;
    }
    if stored.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&Member) -> u64| stored.iter().map(move |(_, _, member, _)| signed(of(member))).bind_iter();
    sqlx::query(sql::KEEP_MEMBERS)
        .bind(stored.iter().map(|(draft, ..)| Id::from(draft.head.id)).bind_iter())
        .bind(stored.iter().map(|(_, person, ..)| Id::from(*person)).bind_iter())
        .bind(stored.iter().map(|(_, _, member, _)| small(member.role.map_or(0, Role::number))).bind_iter())
        .bind(column(|member| member.joined_seq))
        .bind(stored.iter().map(|(_, _, member, _)| member.joined_at).bind_iter())
        .bind(stored.iter().map(|(_, _, member, _)| past_text(&member.past)).bind_iter())
        .bind(column(|member| member.delivered_seq))
        .bind(column(|member| member.read_seq))
        .bind(column(|member| member.read_message_no))
        .bind(column(|member| member.sent_no))
        .bind(column(|member| member.read_sent_no))
        .bind(stored.iter().map(|(_, _, member, _)| member.watermark_at).bind_iter())
        .bind(column(|member| member.hidden_seq))
        .execute(&mut *connection)
        .await?;
    // Also of who comes back: an erasure may have taken the row away.
    let new = stored.iter().filter(|(draft, person, member, _)| {
        let before = known.get(&draft.head.id).and_then(|known| known.members.get(person));
        before.is_none_or(|before| before.role.is_none() && member.role.is_some())
    });
    let new: Vec<_> = new.map(|(draft, person, ..)| (&draft.head, *person)).collect();
    if !new.is_empty() {
        sqlx::query(sql::KEEP_MEMBERSHIPS)
            .bind(new.iter().map(|(_, person)| Id::from(*person)).bind_iter())
            .bind(new.iter().map(|(head, _)| head.no).bind_iter())
            .bind(new.iter().map(|(head, _)| Id::from(head.id)).bind_iter())
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn people(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let counted: Vec<(UserId, i32)> = plan
        .people
        .iter()
        .filter(|(_, by)| **by != 0)
        .map(|(person, by)| (*person, i32::try_from(*by).unwrap_or(0)))
        .collect();
    if !counted.is_empty() {
        sqlx::query(sql::COUNT_PEOPLE)
            .bind(counted.iter().map(|(person, _)| Id::from(*person)).bind_iter())
            .bind(counted.iter().map(|(_, by)| *by).bind_iter())
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn append(connection: &mut PgConnection, plan: &Plan, now: i64) -> Result<(), sqlx::Error> {
    if plan.events.is_empty() {
        return Ok(());
    }
    let events = || plan.events.iter().map(|new| &*new.event);
    sqlx::query(sql::APPEND)
        .bind(events().map(|event| Id::from(event.conversation)).bind_iter())
        .bind(events().map(|event| Id::from(event.actor)).bind_iter())
        .bind(events().map(|event| signed(event.seq)).bind_iter())
        .bind(events().map(|event| signed(event.message_no)).bind_iter())
        .bind(now)
        .bind(plan.events.iter().map(|new| signed(new.sent_no)).bind_iter())
        .bind(events().map(|event| small(event.kind as i64)).bind_iter())
        .bind(events().map(|event| event.request_id.as_bytes()).bind_iter())
        .bind(events().map(|event| event.digest.0).bind_iter())
        .bind(events().map(|event| &event.body[..]).bind_iter())
        .bind(events().map(|event| (event.target_seq > 0).then(|| signed(event.target_seq))).bind_iter())
        .bind(events().map(|event| event.only_for.map(Id::from)).bind_iter())
        .execute(connection)
        .await?;
    Ok(())
}

async fn edits(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let edits = plan.events.iter().filter(|new| new.event.kind == EventKind::MessageUpdated);
    // Of two edits of one message the later one is its newest.
    let newest: HashMap<(ConversationId, u64), u64> =
        edits.map(|new| ((new.event.conversation, new.event.target_seq), new.event.seq)).collect();
    if !newest.is_empty() {
        sqlx::query(sql::EDIT)
            .bind(newest.keys().map(|(id, _)| Id::from(*id)).bind_iter())
            .bind(newest.keys().map(|(_, target)| signed(*target)).bind_iter())
            .bind(newest.values().map(|seq| signed(*seq)).bind_iter())
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Overwrites messages and all their edits, those of this batch too.
async fn erasures(connection: &mut PgConnection, plan: &Plan, now: i64) -> Result<(), sqlx::Error> {
    let erased = plan.events.iter().map(|new| &*new.event).filter(|event| event.kind == EventKind::MessageDeleted);
    let erased: Vec<_> = erased.collect();
    if erased.is_empty() {
        return Ok(());
    }
    sqlx::query(sql::ERASE_MESSAGES)
        .bind(erased.iter().map(|event| Id::from(event.conversation)).bind_iter())
        .bind(erased.iter().map(|event| signed(event.target_seq)).bind_iter())
        .bind(now)
        .execute(&mut *connection)
        .await?;
    sqlx::query(sql::ERASE_EDITS)
        .bind(erased.iter().map(|event| Id::from(event.conversation)).bind_iter())
        .bind(erased.iter().map(|event| signed(event.target_seq)).bind_iter())
        // What the deletion tells of the message is all that its edits tell from now on.
        .bind(erased.iter().map(|event| &event.body[..]).bind_iter())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

async fn receipts(connection: &mut PgConnection, plan: &Plan, now: i64) -> Result<(), sqlx::Error> {
    let raised = plan.answers.iter().flat_map(|answer| match answer {
        Answer::Raised(Ok(raised)) => &raised[..],
        _ => &[],
    });
    let noted: HashSet<ConversationId> = raised.map(|watermark| watermark.conversation).collect();
    if !noted.is_empty() {
        sqlx::query(sql::NOTE_RECEIPTS)
            .bind(noted.iter().map(|id| Id::from(*id)).bind_iter())
            .bind(now)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// A number of a kind or role; they are few.
fn small(number: i64) -> i16 {
    i16::try_from(number).unwrap_or(0)
}
