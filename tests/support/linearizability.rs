//! Whether a history of overlapping calls on one object can be explained by some order of them that respects time.
//!
//! The search is that of Wing and Gong, with Lowe's memory of configurations already seen. It assumes:
//! * a call takes effect once, in one instant between its beginning and its end;
//! * a call without an end may have taken effect at any instant after its beginning, or never;
//! * calls that touch in time (one ends in the very tick in which another begins) may come in either order;
//! * the search is bounded: a history that is too hard is reported as such, never as sound.

use std::collections::HashSet;
use std::hash::Hash;

/// Configurations looked at before a history counts as too hard.
const MAX_CONFIGURATIONS: usize = 1_000_000;
/// Calls in one history; a bit each.
pub const MAX_CALLS: usize = 256;

/// What an object does when calls come one after another.
pub trait Model {
    type State: Clone + Eq + Hash;
    type Call;
    type Answer;

    /// The object before all calls.
    fn begin(&self) -> Self::State;

    /// The state after `call`, if `answer` is what the object may answer in `state`; with no answer known, the
    /// state after the call whatever was answered.
    fn step(
        &self,
        state: &Self::State,
        call: &Self::Call,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;

    /// Whether this answer says that the call changed nothing, in whatever state.
    fn changed_nothing(&self, answer: &Self::Answer) -> bool;
}

/// One call of a history. Times are ticks of any one clock.
#[derive(Debug, Clone)]
pub struct Operation<C, A> {
    pub call: C,
    pub began: u64,
    /// When it answered, and what; none if it never did.
    pub ended: Option<(u64, A)>,
}

/// Why a history has no explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unexplained {
    /// No order explains it. With the longest order found: which calls it explains, and which of the calls that
    /// could come next it does not.
    Impossible { explained: Vec<usize>, stuck: Vec<usize> },
    /// The search was given up.
    TooHard,
}

/// Finds an order that explains the history and gives the calls in it; calls without an end may be missing.
///
/// # Panics
/// If there are more than [`MAX_CALLS`] calls.
pub fn explain<M: Model>(
    model: &M,
    history: &[Operation<M::Call, M::Answer>],
) -> Result<Vec<usize>, Unexplained> {
    assert!(history.len() <= MAX_CALLS, "{} calls are too many for one history", history.len());
    let search = Search { model, history };
    let mut seen = HashSet::new();
    let mut path = vec![search.configuration(Done::default(), model.begin())];
    let mut order: Vec<usize> = vec![];
    let mut best: (Vec<usize>, Vec<usize>) = (vec![], search.next_calls(&Done::default()));
    loop {
        let Some(top) = path.last_mut() else {
            return Err(Unexplained::Impossible { explained: best.0, stuck: best.1 });
        };
        if search.is_complete(&top.done) {
            return Ok(order);
        }
        let Some((call, state)) = top.choices.pop() else {
            path.pop();
            order.pop();
            continue;
        };
        let done = top.done.with(call);
        if !seen.insert((done, state.clone())) {
            continue;
        }
        if seen.len() > MAX_CONFIGURATIONS {
            return Err(Unexplained::TooHard);
        }
        order.push(call);
        if order.len() > best.0.len() {
            best = (order.clone(), search.next_calls(&done));
        }
        path.push(search.configuration(done, state));
    }
}

/// The calls that have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Done([u64; MAX_CALLS / 64]);

impl Done {
    fn has(&self, call: usize) -> bool {
        self.0[call / 64] >> (call % 64) & 1 == 1
    }

    fn with(mut self, call: usize) -> Self {
        self.0[call / 64] |= 1 << (call % 64);
        self
    }
}

/// Some calls have taken effect; `choices` are those that may be next, the most likely one last.
struct Configuration<S> {
    done: Done,
    choices: Vec<(usize, S)>,
}

struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Operation<M::Call, M::Answer>],
}

impl<M: Model> Search<'_, M> {
    fn is_complete(&self, done: &Done) -> bool {
        self.history.iter().enumerate().all(|(i, op)| op.ended.is_none() || done.has(i))
    }

    /// The calls that nothing else must come before.
    fn next_calls(&self, done: &Done) -> Vec<usize> {
        let open = || self.history.iter().enumerate().filter(|(i, _)| !done.has(*i));
        let first_end = open().filter_map(|(_, op)| op.ended.as_ref().map(|(at, _)| *at)).min();
        open().filter(|(_, op)| first_end.is_none_or(|end| op.began <= end)).map(|(i, _)| i).collect()
    }

    fn configuration(&self, done: Done, state: M::State) -> Configuration<M::State> {
        let mut choices = vec![];
        for call in self.next_calls(&done) {
            let op = &self.history[call];
            let answer = op.ended.as_ref().map(|(_, answer)| answer);
            match self.model.step(&state, &op.call, answer) {
                // Nothing is lost by letting what changes nothing come first.
                Some(next) if answer.is_some_and(|answer| self.model.changed_nothing(answer)) => {
                    return Configuration { done, choices: vec![(call, next)] };
                }
                // Nor by leaving out, for now, what need not be there and would change nothing.
                Some(next) if answer.is_some() || next != state => choices.push((call, next)),
                _ => {}
            }
        }
        // Calls with an answer are tried before those in doubt, the earliest end first.
        choices.sort_by_key(|(call, _)| {
            std::cmp::Reverse(self.history[*call].ended.as_ref().map_or(u64::MAX, |(at, _)| *at))
        });
        Configuration { done, choices }
    }
}
