//! What the users of all hosts asked for, and the answers they got, by virtual time.

use std::fmt;
use std::sync::Mutex;

use artfs::format::id::EventId;

use super::model::{Answer, Artifact, Call};
use crate::support::linearizability::{Operation, Unexplained, explain};

/// How a call ended for its user.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It got this answer.
    Answered { tick: u64, answer: Answer },
    /// It learned that nothing was changed, for a reason outside of the artifact.
    Failed { tick: u64, why: String },
    /// It learned that the outcome is unknown, or its host died: it may have happened, or may still happen.
    InDoubt,
    /// It got an answer that may be stale: nothing follows from it here.
    Unjudged,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Record {
    pub host: String,
    pub lane: u64,
    /// Which artifact, by its place in the world's list.
    pub artifact: usize,
    pub call: Call,
    pub began: u64,
    /// Its answer may be that of this many ticks before it began.
    pub may_lag: u64,
    pub outcome: Outcome,
    /// The ids of the events it may have written, for commits.
    pub events: Vec<EventId>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { host, lane, artifact, call, began, outcome, .. } = self;
        write!(f, "{began:>7} {host}.{lane} artifact {artifact}: {call:?} → {outcome:?}")
    }
}

/// A record's place in its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordId(usize);

/// All calls of a world. A call whose host dies stays in doubt.
#[derive(Debug, Default)]
pub struct History(Mutex<Vec<Record>>);

impl History {
    pub fn begin(&self, record: Record) -> RecordId {
        let mut records = self.0.lock().expect("no holder panics");
        records.push(record);
        RecordId(records.len() - 1)
    }

    pub fn end(&self, id: RecordId, outcome: Outcome) {
        self.0.lock().expect("no holder panics")[id.0].outcome = outcome;
    }

    pub fn note_event(&self, id: RecordId, event: EventId) {
        let record = &mut self.0.lock().expect("no holder panics")[id.0];
        if !record.events.contains(&event) {
            record.events.push(event);
        }
    }

    /// All calls in an order that does not depend on how tasks happened to run.
    pub fn records(&self) -> Vec<Record> {
        let mut records = self.0.lock().expect("no holder panics").clone();
        records.sort_by(|a, b| (a.began, &a.host, a.lane).cmp(&(b.began, &b.host, b.lane)));
        records
    }
}

/// Checks that one order of one artifact's calls explains all answers. The error is for people.
pub fn check(records: &[&Record]) -> Result<(), String> {
    let judged: Vec<&Record> = records
        .iter()
        .copied()
        .filter(|r| matches!(r.outcome, Outcome::Answered { .. } | Outcome::InDoubt))
        .collect();
    let operations: Vec<Operation<Call, Answer>> = judged
        .iter()
        .map(|r| Operation {
            call: r.call.clone(),
            began: r.began.saturating_sub(r.may_lag),
            ended: match &r.outcome {
                Outcome::Answered { tick, answer } => Some((*tick, answer.clone())),
                _ => None,
            },
        })
        .collect();
    explain(&Artifact, &operations).map(drop).map_err(|unexplained| match unexplained {
        Unexplained::TooHard => "whether an order explains all answers is too hard to find out".to_owned(),
        Unexplained::Impossible { explained, stuck } => {
            let stuck: Vec<String> = stuck.into_iter().map(|i| judged[i].to_string()).collect();
            let (count, stuck) = (explained.len(), stuck.join("\n    "));
            format!(
                "no order explains all answers; after {count} calls none of these can come next:\n    {stuck}"
            )
        }
    })
}
