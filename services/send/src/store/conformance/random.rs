//! Random batches against a model that a reader can check by eye.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;

/// A call of the model.
#[derive(Clone, Debug)]
enum Call {
    Send { who: u128, request: u8, text: u8 },
    Edit { who: u128, request: u8, target: u64 },
    Erase { who: u128, request: u8, target: u64 },
    Add { request: u8, whom: u128 },
    Remove { request: u8, whom: u128 },
    Read { who: u128, seq: u64 },
}

fn calls() -> impl Strategy<Value = Vec<Vec<Call>>> {
    let who = || 1..5_u128;
    let call = prop_oneof![
        6 => (who(), 0..12_u8, 0..2_u8).prop_map(|(who, request, text)| Call::Send { who, request, text }),
        1 => (who(), 20..26_u8, 1..20_u64).prop_map(|(who, request, target)| Call::Edit { who, request, target }),
        1 => (who(), 30..36_u8, 1..20_u64).prop_map(|(who, request, target)| Call::Erase { who, request, target }),
        1 => (40..46_u8, 2..5_u128).prop_map(|(request, whom)| Call::Add { request, whom }),
        1 => (50..56_u8, 2..5_u128).prop_map(|(request, whom)| Call::Remove { request, whom }),
        2 => (who(), 1..30_u64).prop_map(|(who, seq)| Call::Read { who, seq }),
    ];
    proptest::collection::vec(proptest::collection::vec(call, 1..9), 1..9)
}

/// What is expected of one conversation, by counting.
#[derive(Default)]
struct Model {
    /// Sender of each event that is a message.
    events: Vec<Option<UserId>>,
    requests: HashMap<(UserId, String), u64>,
    joined: HashMap<UserId, u64>,
    read: HashMap<UserId, u64>,
}

impl Model {
    fn unread(&self, who: UserId) -> u64 {
        let Some(joined) = self.joined.get(&who) else { return 0 };
        let from = (*joined).max(self.read.get(&who).copied().unwrap_or(0));
        let others = self.events.iter().skip(usize::try_from(from).unwrap());
        others.filter(|sender| sender.is_some_and(|sender| sender != who)).count() as u64
    }
}

pub(crate) async fn any_batches_do_what_a_simple_model_does(world: World) {
    // One store for all rounds; each round has a group of its own.
    let mut world = world;
    let mut runner = TestRunner::deterministic();
    for round in 0..40_u128 {
        let batches = calls().new_tree(&mut runner).unwrap().current();
        check(&world, round, &batches).await;
        if round % 8 == 7 {
            world.reopen().await;
        }
    }
}

async fn check(world: &World, round: u128, batches: &[Vec<Call>]) {
    let who = |number: u128| person(1000 * (round + 1) + number);
    let id = world.group(who(1), &[who(2), who(3)]).await;
    let mut model = Model { events: vec![None], ..Model::default() };
    model.joined.extend([1, 2, 3].map(|number| (who(number), 1)));
    for batch in batches {
        let epoch = world.store.epoch();
        let ops = batch.iter().map(|call| {
            let op = |number: u128, request: &u8, action| world.op(who(number), id, &request.to_string(), action);
            match call {
                Call::Send { who, request, text } => op(*who, request, send(&text.to_string())),
                Call::Edit { who, request, target } => op(*who, request, edit(*target, "edited")),
                Call::Erase { who, request, target } => op(*who, request, Action::Erase { target: *target }),
                Call::Add { request, whom } => op(1, request, add(who(*whom))),
                Call::Remove { request, whom } => op(1, request, remove(who(*whom))),
                Call::Read { who: reader, seq } => Op::Raise(vec![Watermark {
                    conversation: id,
                    member: who(*reader),
                    epoch,
                    delivered_seq: 0,
                    read_seq: *seq,
                }]),
            }
        });
        let answers = world.store.commit(ops.collect()).await;
        let end_before = model.events.len() as u64;
        for (call, answer) in batch.iter().zip(answers) {
            let written = match answer {
                Answer::Written(written) => written,
                Answer::Raised(raised) => {
                    let Call::Read { who: reader, seq } = call else { panic!("{call:?}") };
                    // What is read was there before the batch, and is seen by the reader.
                    if raised.unwrap().is_empty() {
                        continue;
                    }
                    assert!(*seq <= end_before.max(model.events.len() as u64));
                    let read = model.read.entry(who(*reader)).or_default();
                    assert!(*seq > *read);
                    *read = *seq;
                    continue;
                }
            };
            let Ok(written) = written else { continue };
            let event = written.event.unwrap();
            let key = (event.actor, event.request_id.to_string());
            if let Some(seq) = model.requests.get(&key) {
                assert!(written.deduplicated && event.seq == *seq, "one request, one effect");
                continue;
            }
            assert!(!written.deduplicated);
            assert_eq!(event.seq, model.events.len() as u64 + 1, "dense, in the order of the batch");
            model.requests.insert(key, event.seq);
            model.events.push((event.kind == EventKind::MessageCreated).then_some(event.actor));
            for added in written.added {
                model.joined.insert(added, event.seq);
            }
            for removed in written.removed {
                model.joined.remove(&removed);
            }
        }
        for number in 1..5 {
            if let Some(view) = world.store.conversation(who(number), id).await.unwrap() {
                assert_eq!(view.member.unread(&view.head), model.unread(who(number)), "{batches:?} of {number}");
            }
        }
    }
    let seqs: Vec<u64> = world.log(who(1), id, 4).await.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(seqs, (1..=model.events.len() as u64).collect::<Vec<_>>());
    world.one(who(1), id, "end", Action::End).await.unwrap();
}
