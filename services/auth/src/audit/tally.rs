//! Events that anybody can cause as often as they like: so many a minute are written, the rest is counted, and the disk does not fill.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Action, Actor, Event, Origin};
use crate::moment::Moment;

/// How many different ones are told apart until they are written.
const KINDS_MAX: usize = 256;

/// Counts events of one action.
#[derive(Debug)]
pub(crate) struct Tally {
    action: Action,
    refused: bool,
    /// How long it takes until one more may be written.
    every: Duration,
    /// How many may be written at once.
    burst: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many may be written, as of `since`.
    left: u32,
    since: Moment,
    counts: HashMap<(String, String), u32>,
    /// Those that are not told apart any more.
    others: u32,
}

impl Tally {
    /// Writes `burst` events at once and one more `every` so often.
    pub(crate) fn new(action: Action, refused: bool, burst: u32, every: Duration) -> Self {
        let state = State { left: burst, since: Moment(0), counts: HashMap::new(), others: 0 };
        Self { action, refused, every, burst, state: Mutex::new(state) }
    }

    /// Counts one that concerns `subject` and came from `address`.
    pub(crate) fn count(&self, subject: String, address: &str) {
        let address = Origin::system(Moment(0)).at_address(address).address;
        let mut state = self.state.lock();
        let full = state.counts.len() >= KINDS_MAX;
        let kind = (subject, address);
        match state.counts.get_mut(&kind) {
            Some(count) => *count = count.saturating_add(1),
            None if full => state.others = state.others.saturating_add(1),
            None => drop(state.counts.insert(kind, 1)),
        }
    }

    /// Whether one more may be written now, beside those that are counted.
    pub(crate) fn admits(&self, now: Moment) -> bool {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        let admitted = state.left > 0;
        state.left = state.left.saturating_sub(1);
        admitted
    }

    /// The events that may be written now, the commonest first. What is left over becomes one without subject and address, which
    /// is written as soon as one more may be.
    pub(crate) fn take(&self, now: Moment) -> Vec<Event> {
        let by = Origin::new(Actor::Unknown, now);
        let event = |subject: String, address: &str, count| Event {
            refused: self.refused,
            count,
            ..Event::new(&by.clone().at_address(address), self.action, subject)
        };
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        let mut counts: Vec<_> = state.counts.drain().collect();
        counts.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let mut events = Vec::new();
        for ((subject, address), count) in counts {
            if state.left > 1 {
                state.left -= 1;
                events.push(event(subject, &address, count));
            } else {
                state.others = state.others.saturating_add(count);
            }
        }
        if state.others > 0 && state.left > 0 {
            state.left -= 1;
            events.push(event(String::new(), "", std::mem::take(&mut state.others)));
        }
        events
    }

    fn refill(&self, state: &mut State, now: Moment) {
        let more = now.since(state.since).as_millis() / self.every.as_millis().max(1);
        if more > 0 || now < state.since {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            state.left = state.left.saturating_add(more).min(self.burst);
            state.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn tally() -> Tally {
        Tally::new(Action::ClientAuthenticationFailed, true, 5, 10 * SECOND)
    }

    #[test]
    fn alike_ones_become_one_event_with_their_number() {
        let tally = tally();
        for _ in 0..1000 {
            tally.count("clients/bot".into(), "192.0.2.1");
        }
        tally.count("clients/bot".into(), "192.0.2.2");
        let events = tally.take(Moment(0));
        let seen: Vec<_> = events.iter().map(|event| (event.address.as_str(), event.count, event.refused)).collect();
        assert_eq!(seen, [("192.0.2.1", 1000, true), ("192.0.2.2", 1, true)]);
        assert!(tally.take(Moment(0)).is_empty());
    }

    #[test]
    fn nobody_fills_the_disk_and_none_is_left_uncounted() {
        let tally = tally();
        let (mut now, mut written, mut counted) = (Moment(0), 0, 0);
        for round in 0..360 {
            for no in 0..1000 {
                tally.count("clients/bot".into(), &format!("address {round} {no}"));
            }
            let events = tally.take(now);
            written += events.len();
            counted += events.iter().map(|event| event.count).sum::<u32>();
            now = now.plus(10 * SECOND);
        }
        counted += tally.take(now.plus(10 * SECOND)).iter().map(|event| event.count).sum::<u32>();
        assert_eq!((written, counted), (364, 360_000), "the first five, then one in ten seconds");
    }

    #[test]
    fn what_is_written_by_itself_counts_too() {
        let tally = tally();
        assert_eq!((0..9).filter(|_| tally.admits(Moment(0))).count(), 5);
        assert!(tally.admits(Moment(10_000)) && !tally.admits(Moment(10_000)));
    }
}
