//! A stream against a log that is kept beside it, with deliveries that are lost, doubled and late.

use std::collections::{BTreeMap, HashMap};

use flaghoist_proto::send::v1::Event;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const HALL: ConversationId = ConversationId(Uuid::from_u128(1));

fn event(seq: u64) -> Arc<Event> {
    Arc::new(Event { conversation: HALL.name(), epoch: 1, seq, ..Event::default() })
}

fn head(last_seq: u64, acked_seq: u64) -> Head {
    Head { conversation: HALL, last_seq, first_seq: 1, member: true, acked_seq }
}

fn opened(heads: &[Head], window: i32) -> Stream {
    let mut stream = Stream::new(window);
    stream.open(1, heads.iter().copied());
    stream
}

fn position(seq: u64) -> Position {
    Position { conversation: HALL, epoch: 1, seq }
}

/// Everything that the stream has to say, events as `previous>seq`.
fn said(stream: &mut Stream) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(said) = stream.pop() {
        all.push(match said {
            Said::Event { event, previous_seq, .. } => format!("{previous_seq}>{}", event.seq),
            Said::CaughtUp => "caught up".into(),
            Said::Acknowledged(positions) => {
                positions.iter().map(|(_, seq)| format!("acked {seq}")).collect::<Vec<_>>().join(",")
            }
            Said::Receipt(_, _, watermarks) => format!("delivered {}", watermarks.delivered_seq),
            other => format!("{other:?}"),
        });
    }
    all
}

fn answer(seqs: std::ops::RangeInclusive<u64>, last_seq: u64) -> ReadAnswer {
    let read_through_seq = *seqs.end();
    let events = seqs.map(|seq| Event { epoch: 1, seq, previous_seq: seq - 1, ..Event::default() }).collect();
    ReadAnswer { events, read_through_seq, last_seq }
}

#[test]
fn a_live_event_that_follows_goes_out_directly() {
    let mut stream = opened(&[head(4, 4)], 0);
    assert_eq!(said(&mut stream), ["caught up"]);
    assert!(stream.deliver(HALL, &event(5), Sight::Visible));
    assert!(stream.deliver(HALL, &event(6), Sight::Visible));
    assert!(stream.deliver(HALL, &event(6), Sight::Visible), "delivered twice, sent once");
    assert_eq!(said(&mut stream), ["4>5", "5>6"]);
    assert_eq!(stream.next_read(), None);
}

#[test]
fn an_event_that_the_heads_knew_before_it_arrived_names_the_one_before_it() {
    let mut stream = opened(&[head(5, 4)], 0);
    assert!(!stream.deliver(HALL, &event(5), Sight::Visible), "what it follows is not known here");
    let read = stream.next_read().unwrap();
    assert!(stream.read(read, answer(5..=5, 5)));
    assert!(stream.deliver(HALL, &event(6), Sight::Visible));
    assert_eq!(said(&mut stream), ["4>5", "caught up", "5>6"]);
}

#[test]
fn a_gap_is_read_from_the_log() {
    let mut stream = opened(&[head(4, 4)], 0);
    said(&mut stream);
    assert!(!stream.deliver(HALL, &event(7), Sight::Visible));
    let read = stream.next_read().unwrap();
    assert_eq!(read, Read { conversation: HALL, after_seq: 4, events_max: 64 });
    assert_eq!(stream.next_read(), None, "one question at a time");
    // What follows meanwhile is noted and comes once.
    assert!(stream.deliver(HALL, &event(5), Sight::Visible));
    assert!(stream.read(read, answer(5..=7, 7)));
    assert_eq!(said(&mut stream), ["4>5", "5>6", "6>7"]);
    assert!(stream.deliver(HALL, &event(8), Sight::Visible));
}

#[test]
fn events_for_someone_else_are_passed_over() {
    let mut stream = opened(&[head(4, 4)], 0);
    said(&mut stream);
    assert!(!stream.deliver(HALL, &event(5), Sight::Hidden));
    assert!(stream.deliver(HALL, &event(6), Sight::Visible));
    assert_eq!(said(&mut stream), ["4>6"]);
}

#[test]
fn the_window_is_never_exceeded_and_what_waits_comes_with_acknowledgements() {
    let mut stream = opened(&[head(0, 0)], 2);
    said(&mut stream);
    let took = (1..=4).map(|seq| stream.deliver(HALL, &event(seq), Sight::Visible)).collect::<Vec<_>>();
    assert_eq!(took, [true, true, false, false]);
    assert_eq!((stream.unacked(), stream.next_read()), (2, None));
    stream.acknowledge(&[position(1)]).unwrap();
    assert_eq!(stream.next_read(), None, "an acknowledgement counts when it is durable");
    let taken = stream.take_acks();
    stream.acked(&taken);
    let read = stream.next_read().unwrap();
    assert_eq!((read.after_seq, read.events_max), (2, 1));
    stream.read(read, answer(3..=4, 4));
    assert_eq!(stream.unacked(), 2);
    assert_eq!(
        said(&mut stream),
        ["acked 1", "0>1", "1>2", "2>3"].into_iter().filter(|said| *said != "0>1").collect::<Vec<_>>()
    );
}

#[test]
fn caught_up_comes_after_what_was_stored_before_the_opening() {
    let mut stream = opened(&[head(3, 0)], 2);
    let read = stream.next_read().unwrap();
    stream.read(read, answer(1..=2, 3));
    stream.deliver(HALL, &event(4), Sight::Visible);
    assert_eq!(said(&mut stream), ["0>1", "1>2"]);
    stream.acked(&[position(2)]);
    let read = stream.next_read().unwrap();
    stream.read(read, answer(3..=4, 4));
    assert_eq!(said(&mut stream), ["acked 2", "2>3", "3>4", "caught up"]);
}

#[test]
fn a_backlog_of_which_nothing_is_visible_does_not_keep_a_stream_from_catching_up() {
    let mut stream = opened(&[head(3, 0)], 0);
    let read = stream.next_read().unwrap();
    assert!(stream.read(read, ReadAnswer { events: Vec::new(), read_through_seq: 0, last_seq: 0 }));
    assert_eq!(said(&mut stream), ["caught up"]);
    assert_eq!(stream.next_read(), None);
    let mut gone = opened(&[head(3, 0)], 0);
    let read = gone.next_read().unwrap();
    gone.read_gone(read);
    assert_eq!(said(&mut gone), ["caught up"]);
}

#[test]
fn what_an_earlier_stream_brought_may_be_acknowledged_and_does_not_come_again() {
    let mut stream = opened(&[head(5, 2)], 0);
    stream.acknowledge(&[position(4)]).unwrap();
    let read = stream.next_read().unwrap();
    stream.read(read, answer(3..=5, 5));
    stream.acked(&[position(4)]);
    assert_eq!(said(&mut stream), ["acked 4", "4>5", "caught up"]);
    assert_eq!(stream.unacked(), 1);
}

#[test]
fn positions_that_cannot_be_are_refused_as_a_whole() {
    let mut stream = opened(&[head(5, 2)], 0);
    let other = Position { conversation: ConversationId(Uuid::from_u128(9)), ..position(1) };
    for (positions, refused) in [
        (vec![position(3), position(6)], AckRefused::PositionInvalid),
        (vec![position(3), Position { epoch: 2, ..position(3) }], AckRefused::PositionInvalid),
        (vec![position(3), other], AckRefused::NotFound),
    ] {
        assert_eq!(stream.acknowledge(&positions), Err(refused));
        assert!(!stream.has_acks());
    }
}

#[test]
fn a_member_sees_from_joining_to_leaving() {
    let mut stream = opened(&[], 0);
    assert_eq!(said(&mut stream), ["caught up"]);
    assert!(!stream.deliver(HALL, &event(1), Sight::Visible), "not a member");
    assert!(!stream.deliver(HALL, &event(7), Sight::Joining), "there may be more to see before it");
    let read = stream.next_read().unwrap();
    assert_eq!(read.after_seq, 0);
    stream.read(
        read,
        ReadAnswer { events: vec![Event { epoch: 1, seq: 7, ..Event::default() }], read_through_seq: 7, last_seq: 7 },
    );
    assert!(stream.deliver(HALL, &event(8), Sight::Leaving));
    assert!(!stream.deliver(HALL, &event(9), Sight::Visible));
    stream.note_head(HALL, 9);
    assert_eq!(said(&mut stream), ["0>7", "7>8"]);
    assert_eq!(stream.next_read(), None);
}

#[test]
fn the_first_event_of_a_new_conversation_goes_out_directly() {
    let mut stream = opened(&[], 0);
    said(&mut stream);
    assert!(stream.deliver(HALL, &event(1), Sight::Joining));
    assert!(stream.deliver(HALL, &event(2), Sight::Visible));
    assert_eq!(said(&mut stream), ["0>1", "1>2"]);
}

#[test]
fn what_happens_during_the_opening_is_not_lost() {
    let other = ConversationId(Uuid::from_u128(2));
    let mut stream = Stream::new(0);
    assert!(!stream.deliver(HALL, &event(5), Sight::Visible));
    assert!(!stream.deliver(other, &event(1), Sight::Joining));
    stream.acked_elsewhere(&[position(3), Position { epoch: 2, ..position(2) }, position(3)]);
    let member = UserId(Uuid::from_u128(7));
    for conversation in [HALL, ConversationId(Uuid::from_u128(9))] {
        stream.outbox.receipt(conversation, member, Watermarks { epoch: 1, delivered_seq: 4, read_seq: 0 });
    }
    stream.open(1, [head(4, 2)]);
    let read = stream.next_read().unwrap();
    assert_eq!((read.conversation, read.after_seq), (HALL, 3));
    stream.read(read, answer(4..=5, 5));
    assert_eq!(stream.next_read().map(|read| (read.conversation, read.after_seq)), Some((other, 0)));
    assert_eq!(said(&mut stream), ["3>4", "4>5", "caught up", "delivered 4"]);
}

#[test]
fn a_reader_who_does_not_read_costs_a_bounded_amount() {
    let mut stream = opened(&[head(0, 0)], 0);
    for seq in 1..=10_000 {
        stream.deliver(HALL, &event(seq), Sight::Visible);
        stream.outbox.typing(HALL, UserId(Uuid::from_u128(seq.into())));
        stream.outbox.receipt(HALL, UserId(Uuid::from_u128(seq.into())), Watermarks::default());
    }
    assert_eq!(stream.unacked(), 64);
    assert_eq!(stream.next_read(), None, "nothing is read while enough waits");
    let all = said(&mut stream);
    assert_eq!(all.len(), 1 + 64 + outbox::RECEIPTS_MAX + 32);
    assert!(stream.take_receipts_missed() && !stream.take_receipts_missed());
    let mut large = opened(&[head(0, 0)], 0);
    for seq in 1..=10_000 {
        let event = Event { epoch: 1, seq, actor: "x".repeat(20_000), ..Event::default() };
        large.deliver(HALL, &Arc::new(event), Sight::Visible);
    }
    assert_eq!(large.unacked(), 14);
}

use flaghoist_runtime::names::UserId;

/// What may happen to a stream.
#[derive(Clone, Debug)]
enum Step {
    /// An event is committed; its delivery arrives now, later or never.
    Commit {
        conversation: usize,
        hidden: bool,
        arrives: Arrives,
    },
    LateDeliveries,
    Sweep,
    Ask,
    Answer,
    AnswerFails,
    Take {
        count: usize,
    },
    Acknowledge {
        conversation: usize,
        back: u64,
    },
    AcksDurable,
    AcknowledgedElsewhere {
        conversation: usize,
        back: u64,
    },
    /// The stream cannot know whether it has heard everything.
    Suspect {
        conversation: usize,
    },
}

#[derive(Clone, Copy, Debug)]
enum Arrives {
    Now,
    Twice,
    Late,
    Never,
}

fn step() -> impl Strategy<Value = Step> {
    let arrives = prop_oneof![
        6 => Just(Arrives::Now), 1 => Just(Arrives::Twice), 5 => Just(Arrives::Late), 1 => Just(Arrives::Never)
    ];
    prop_oneof![
        8 => (0..3usize, prop::bool::weighted(0.2), arrives)
            .prop_map(|(conversation, hidden, arrives)| Step::Commit { conversation, hidden, arrives }),
        4 => Just(Step::LateDeliveries),
        1 => Just(Step::Sweep),
        3 => Just(Step::Ask),
        3 => Just(Step::Answer),
        1 => Just(Step::AnswerFails),
        4 => (1..8usize).prop_map(|count| Step::Take { count }),
        3 => (0..3usize, 0..3u64).prop_map(|(conversation, back)| Step::Acknowledge { conversation, back }),
        3 => Just(Step::AcksDurable),
        1 => (0..3usize, 0..3u64).prop_map(|(conversation, back)| Step::AcknowledgedElsewhere { conversation, back }),
        1 => (0..3usize).prop_map(|conversation| Step::Suspect { conversation }),
    ]
}

/// The log, the device, and the stream between them.
struct World {
    stream: Stream,
    window: u32,
    /// For each conversation, whether each event is visible; `seq` 1 comes first.
    log: BTreeMap<ConversationId, Vec<bool>>,
    late: Vec<(ConversationId, u64)>,
    asked: Option<Read>,
    /// What the device has got, in order.
    got: HashMap<ConversationId, Vec<u64>>,
    /// The answered acknowledgements.
    acked: HashMap<ConversationId, u64>,
}

impl World {
    /// A device that comes back: it has acknowledged about `acked` of the events `before`, and some of the others, which the heads
    /// know already, are still on their way to the stream.
    fn new(window: u32, before: [Vec<bool>; 3], acked: [u64; 3]) -> Self {
        let log: BTreeMap<_, _> = before.into_iter().enumerate().map(|(index, log)| (room(index), log)).collect();
        let mut stream = Stream::new(window.cast_signed());
        let (mut late, mut got, mut durable) = (Vec::new(), HashMap::new(), HashMap::new());
        let mut heads = Vec::new();
        for ((conversation, log), acked) in log.iter().zip(acked) {
            let visible: Vec<u64> = (1..).zip(log).filter_map(|(seq, visible)| visible.then_some(seq)).collect();
            let seen: Vec<u64> = visible.iter().copied().filter(|seq| *seq <= acked).collect();
            let acked_seq = seen.last().copied().unwrap_or(0);
            let last_seq = visible.last().copied().unwrap_or(0);
            heads.push(Head { conversation: *conversation, last_seq, first_seq: 1, member: true, acked_seq });
            late.extend((acked_seq + 1..=log.len() as u64).map(|seq| (*conversation, seq)));
            got.insert(*conversation, seen);
            durable.insert(*conversation, acked_seq);
        }
        stream.open(1, heads);
        Self { stream, window, log, late, asked: None, got, acked: durable }
    }

    fn visible(&self, conversation: ConversationId, seq: u64) -> bool {
        self.log[&conversation][usize::try_from(seq).unwrap() - 1]
    }

    fn previous(&self, conversation: ConversationId, seq: u64) -> u64 {
        (1..seq).rev().find(|seq| self.visible(conversation, *seq)).unwrap_or(0)
    }

    fn make(&self, conversation: ConversationId, seq: u64) -> Event {
        Event { conversation: conversation.name(), epoch: 1, seq, ..Event::default() }
    }

    fn deliver(&mut self, conversation: ConversationId, seq: u64) {
        let sight = if self.visible(conversation, seq) { Sight::Visible } else { Sight::Hidden };
        let event = Arc::new(self.make(conversation, seq));
        self.stream.deliver(conversation, &event, sight);
    }

    fn answer(&mut self) {
        let Some(read) = self.asked.take() else { return };
        let end = self.log[&read.conversation].len() as u64;
        let visible = (1..=end).filter(|seq| self.visible(read.conversation, *seq)).collect::<Vec<_>>();
        let last_seq = visible.last().copied().unwrap_or(0);
        let page = visible.iter().copied().filter(|seq| *seq > read.after_seq).take(read.events_max as usize);
        let page = page.collect::<Vec<_>>();
        let read_through_seq = page.last().copied().unwrap_or(read.after_seq.max(last_seq));
        let events = page.iter().map(|seq| Event {
            previous_seq: self.previous(read.conversation, *seq),
            ..self.make(read.conversation, *seq)
        });
        let events = events.collect();
        self.stream.read(read, ReadAnswer { events, read_through_seq, last_seq });
    }

    fn take(&mut self, count: usize) {
        for _ in 0..count {
            match self.stream.pop() {
                Some(Said::Event { conversation, event, previous_seq, .. }) => {
                    let acked = self.acked.get(&conversation).copied().unwrap_or(0);
                    assert!(event.seq > acked, "never again once its acknowledgement has been answered");
                    assert!(self.visible(conversation, event.seq));
                    assert_eq!(previous_seq, self.previous(conversation, event.seq), "before {}", event.seq);
                    self.got.entry(conversation).or_default().push(event.seq);
                }
                Some(_) => {}
                None => break,
            }
        }
    }

    fn newest(&self, conversation: ConversationId, back: u64) -> u64 {
        self.got.get(&conversation).and_then(|got| got.last()).map_or(0, |seq| seq.saturating_sub(back))
    }

    fn durable(&mut self, conversation: ConversationId, seq: u64) {
        let acked = self.acked.entry(conversation).or_default();
        *acked = seq.max(*acked);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Commit { conversation, hidden, arrives } => {
                let conversation = room(conversation);
                let log = self.log.get_mut(&conversation).unwrap();
                log.push(!hidden);
                let seq = log.len() as u64;
                match arrives {
                    Arrives::Now => self.deliver(conversation, seq),
                    Arrives::Twice => (0..2).for_each(|_| self.deliver(conversation, seq)),
                    Arrives::Late => self.late.push((conversation, seq)),
                    Arrives::Never => {}
                }
            }
            Step::LateDeliveries => {
                for (conversation, seq) in std::mem::take(&mut self.late) {
                    self.deliver(conversation, seq);
                }
            }
            Step::Sweep => {
                for index in 0..3 {
                    let head = self.log[&room(index)].len() as u64;
                    self.stream.note_head(room(index), head);
                }
            }
            Step::Ask => self.asked = self.stream.next_read().or(self.asked),
            Step::Answer => self.answer(),
            Step::AnswerFails => {
                if let Some(read) = self.asked.take() {
                    self.stream.read_failed(read);
                }
            }
            Step::Take { count } => self.take(count),
            Step::Acknowledge { conversation, back } => {
                let conversation = room(conversation);
                let seq = self.newest(conversation, back);
                self.stream.acknowledge(&[Position { conversation, epoch: 1, seq }]).unwrap();
            }
            Step::AcksDurable => {
                let positions = self.stream.take_acks();
                self.stream.acked(&positions);
                positions.iter().for_each(|position| self.durable(position.conversation, position.seq));
            }
            Step::Suspect { conversation } => self.stream.suspect(room(conversation)),
            Step::AcknowledgedElsewhere { conversation, back } => {
                let seq = self.newest(room(conversation), back);
                let position = Position { conversation: room(conversation), epoch: 1, seq };
                // What belongs to another epoch says nothing.
                self.stream.acked_elsewhere(&[Position { epoch: 2, seq: u64::MAX, ..position }, position]);
                self.durable(room(conversation), seq);
            }
        }
        assert!(self.stream.unacked() <= self.window, "the window is exceeded");
    }
}

fn room(index: usize) -> ConversationId {
    ConversationId(Uuid::from_u128(100 + index as u128))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Promise 4, for one stream and whatever happens to the hints.
    #[test]
    fn promise_4_every_visible_event_comes_in_order_and_within_the_window(
        window in 1..20u32, before in prop::array::uniform3(prop::collection::vec(prop::bool::weighted(0.8), 0..30)),
        acked in prop::array::uniform3(0..30u64), steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut world = World::new(window, before, acked);
        for step in steps {
            world.apply(step);
        }
        // In the end the sweep comes, and the device reads and acknowledges until nothing is left.
        let rest = world.log.values().map(Vec::len).sum::<usize>();
        for _ in 0..=rest * 4 + 10 {
            world.apply(Step::Sweep);
            for step in [Step::Ask, Step::Answer, Step::Take { count: 1000 }] {
                world.apply(step);
            }
            for conversation in 0..3 {
                world.apply(Step::Acknowledge { conversation, back: 0 });
            }
            world.apply(Step::AcksDurable);
        }
        for (conversation, log) in &world.log {
            let visible = (1..=log.len() as u64).filter(|seq| log[usize::try_from(*seq).unwrap() - 1]);
            let got = world.got.get(conversation).cloned().unwrap_or_default();
            prop_assert_eq!(got, visible.collect::<Vec<_>>());
        }
        prop_assert_eq!(world.stream.unacked(), 0);
    }
}
