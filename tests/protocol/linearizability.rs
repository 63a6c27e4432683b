//! The checker of histories itself: what it must accept, what it must refuse, and that it agrees with trying out
//! every order.

use crate::support::environment::seed;
use crate::support::linearizability::{Model, Operation, Unexplained, explain};
use crate::support::random::Random;

/// A number that can be read, written, and replaced under a condition.
struct Register;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Call {
    Read,
    Write(u8),
    /// Second, if the first is there.
    Swap(u8, u8),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Value(u8),
    Written,
    Swapped(bool),
}

fn run(state: u8, call: Call) -> (u8, Answer) {
    match call {
        Call::Read => (state, Answer::Value(state)),
        Call::Write(value) => (value, Answer::Written),
        Call::Swap(from, to) if from == state => (to, Answer::Swapped(true)),
        Call::Swap(..) => (state, Answer::Swapped(false)),
    }
}

impl Model for Register {
    type State = u8;
    type Call = Call;
    type Answer = Answer;

    fn begin(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, call: &Call, answer: Option<&Answer>) -> Option<u8> {
        let (next, would_answer) = run(*state, *call);
        answer.is_none_or(|answer| *answer == would_answer).then_some(next)
    }

    fn changed_nothing(&self, answer: &Answer) -> bool {
        matches!(answer, Answer::Value(_) | Answer::Swapped(false))
    }
}

type Op = Operation<Call, Answer>;

fn ended(call: Call, began: u64, end: u64, answer: Answer) -> Op {
    Operation { call, began, ended: Some((end, answer)) }
}

fn read(began: u64, end: u64, value: u8) -> Op {
    ended(Call::Read, began, end, Answer::Value(value))
}

fn write(began: u64, end: u64, value: u8) -> Op {
    ended(Call::Write(value), began, end, Answer::Written)
}

fn swap(began: u64, end: u64, from: u8, to: u8, won: bool) -> Op {
    ended(Call::Swap(from, to), began, end, Answer::Swapped(won))
}

fn in_doubt(call: Call, began: u64) -> Op {
    Operation { call, began, ended: None }
}

fn is_explained(history: &[Op]) -> bool {
    match explain(&Register, history) {
        Ok(_) => true,
        Err(Unexplained::Impossible { .. }) => false,
        Err(Unexplained::TooHard) => panic!("{history:?} is too hard"),
    }
}

#[test]
fn histories_with_an_order_are_explained() {
    assert!(is_explained(&[]));
    assert!(is_explained(&[write(0, 1, 1), read(2, 3, 1), write(4, 5, 2), read(6, 7, 2)]));
    // Readers within a write may see either value, but in one order.
    assert!(is_explained(&[write(0, 10, 1), read(1, 2, 0), read(3, 4, 1)]));
    assert!(is_explained(&[write(0, 10, 1), write(0, 10, 2), read(11, 12, 1)]));
    assert!(is_explained(&[write(0, 10, 1), write(0, 10, 2), read(11, 12, 2)]));
    assert!(is_explained(&[swap(0, 9, 0, 1, true), swap(0, 9, 0, 2, false), read(10, 11, 1)]));
    // What ends in the tick in which another begins may come after it.
    assert!(is_explained(&[write(0, 5, 1), read(5, 6, 0)]));
    assert_eq!(explain(&Register, &[read(3, 4, 1), write(0, 9, 1)]), Ok(vec![1, 0]));
}

#[test]
fn histories_without_an_order_are_refused() {
    assert!(!is_explained(&[read(0, 1, 7)]), "a value from nowhere");
    assert!(!is_explained(&[write(0, 1, 1), read(2, 3, 0)]), "an old value");
    assert!(!is_explained(&[write(0, 10, 1), read(1, 2, 1), read(3, 4, 0)]), "a value that goes back");
    assert!(!is_explained(&[swap(0, 9, 0, 1, true), swap(0, 9, 0, 2, true)]), "two winners");
    assert!(!is_explained(&[swap(0, 9, 0, 1, false)]), "a refusal without a reason");
    let two_orders = [write(0, 10, 1), write(0, 10, 2), read(11, 12, 1), read(13, 14, 2)];
    assert!(!is_explained(&two_orders), "two readers that saw two orders");
    let found = explain(&Register, &[write(0, 1, 1), read(2, 3, 0)]);
    assert_eq!(found, Err(Unexplained::Impossible { explained: vec![0], stuck: vec![1] }));
}

#[test]
fn a_call_in_doubt_takes_effect_once_later_or_never() {
    let doubt = in_doubt(Call::Write(1), 5);
    for (values, explained) in [
        ([0, 0, 0], true),
        ([0, 1, 1], true),
        ([0, 0, 1], true),
        ([1, 1, 1], true),
        ([1, 0, 0], false),
        ([0, 1, 0], false),
    ] {
        let reads = (0..3).map(|i| read(10 + 2 * i, 11 + 2 * i, values[i as usize]));
        let history: Vec<Op> = reads.chain([doubt.clone()]).collect();
        assert_eq!(is_explained(&history), explained, "{values:?}");
    }
    assert!(!is_explained(&[read(0, 4, 1), doubt.clone()]), "before it was called");
    let twice = [doubt, read(6, 7, 1), write(8, 9, 0), read(10, 11, 1)];
    assert!(!is_explained(&twice), "it may not take effect a second time");
}

/// Whether any order at all explains the history, by trying every one.
fn is_explained_by_some_order(history: &[Op]) -> bool {
    fn go(history: &[Op], done: u32, state: u8) -> bool {
        let open = |i: &usize| done >> i & 1 == 0;
        if (0..history.len()).filter(open).all(|i| history[i].ended.is_none()) {
            return true;
        }
        (0..history.len()).filter(open).any(|i| {
            let comes_first = |j: usize| history[j].ended.is_some_and(|(end, _)| end < history[i].began);
            if (0..history.len()).filter(open).any(comes_first) {
                return false;
            }
            let (next, answer) = run(state, history[i].call);
            history[i].ended.is_none_or(|(_, given)| given == answer) && go(history, done | 1 << i, next)
        })
    }
    go(history, 0, 0)
}

fn random_call(random: &mut Random) -> Call {
    match random.below(3) {
        0 => Call::Read,
        1 => Call::Write(random.below(3) as u8),
        _ => Call::Swap(random.below(3) as u8, random.below(3) as u8),
    }
}

#[test]
fn the_verdict_is_that_of_trying_every_order() {
    let mut random = Random::new(seed(), "small histories");
    let mut verdicts = [0, 0];
    for _ in 0..4_000 {
        let history: Vec<Op> = (0..random.within(1, 6))
            .map(|_| {
                let (call, began) = (random_call(&mut random), random.below(12));
                let answer = run(random.below(3) as u8, call).1;
                let end = began + random.below(8);
                Operation { call, began, ended: (random.below(5) > 0).then_some((end, answer)) }
            })
            .collect();
        let expected = is_explained_by_some_order(&history);
        assert_eq!(is_explained(&history), expected, "{history:?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|n| *n > 300), "both verdicts occur: {verdicts:?}");
}

/// A history that one object really made: each call takes effect in an instant of its own, and is known to have
/// begun somewhat before and ended somewhat after it.
fn real_history(random: &mut Random, calls: usize) -> Vec<Op> {
    let mut state = 0;
    (1..=calls as u64)
        .map(|n| {
            let (call, instant) = (random_call(random), 10 * n);
            let (next, answer) = run(state, call);
            let (began, end) = (instant.saturating_sub(random.below(40)), instant + random.below(40));
            if random.below(10) == 0 {
                // Its answer is lost; half of these never took effect.
                if random.below(2) == 0 {
                    state = next;
                }
                return Operation { call, began, ended: None };
            }
            state = next;
            Operation { call, began, ended: Some((end, answer)) }
        })
        .collect()
}

#[test]
fn long_histories_that_happened_are_explained_and_a_changed_answer_is_found() {
    let mut random = Random::new(seed(), "long histories");
    let mut found = 0;
    for _ in 0..50 {
        let mut history = real_history(&mut random, 80);
        assert!(is_explained(&history), "{history:?}");
        // A value that nobody ever wrote.
        let reads = |op: &Op| matches!(op.ended, Some((_, Answer::Value(_))));
        if let Some(op) = history.iter_mut().rev().find(|op| reads(op)) {
            op.ended = op.ended.map(|(end, _)| (end, Answer::Value(9)));
            assert!(!is_explained(&history), "{history:?}");
            found += 1;
        }
    }
    assert!(found > 30, "{found}");
}
