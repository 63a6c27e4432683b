//! What one artifact is to its users: versions with their contents and tags, and aliases. The sequential model
//! that every history must be explained by.
//!
//! A new kind of operation is a variant of [`Call`], what it does here, and how a host performs it
//! (`operation.rs`).

use std::collections::{BTreeMap, BTreeSet};

use crate::support::linearizability::Model;

/// An artifact as its users see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct State {
    /// By number; none where one was deleted.
    pub versions: Vec<Option<Version>>,
    pub aliases: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    pub content: u32,
    pub tags: BTreeSet<String>,
}

/// What a user asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    Commit {
        content: u32,
        aliases: Vec<String>,
        tags: Vec<String>,
        demanded: Option<u64>,
    },
    SetAlias {
        alias: String,
        target: Target,
        only_if: Option<u64>,
    },
    RemoveAlias {
        alias: String,
        only_if: Option<u64>,
    },
    ChangeTags {
        target: Target,
        add: Vec<String>,
        remove: Vec<String>,
    },
    Delete {
        /// Without repeats, lowest first.
        versions: Vec<u64>,
        /// Also if aliases point to them, and these with them.
        force: bool,
    },
    /// All versions.
    DeleteArtifact {
        force: bool,
    },
    /// Says nothing that is seen here.
    SetTtl {
        target: Target,
    },
    /// Everything the artifact is.
    Observe,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Latest,
    Version(u64),
    Alias(String),
}

/// The answer that a user gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Committed {
        version: u64,
        created: bool,
    },
    WrongNumber {
        next: u64,
    },
    Identical {
        version: u64,
    },
    Pointed {
        version: u64,
    },
    Done,
    NoTarget,
    NoAlias,
    /// The alias points elsewhere.
    Elsewhere {
        found: Option<u64>,
    },
    /// Those that had not been deleted before.
    Deleted {
        versions: Vec<u64>,
    },
    /// Aliases point to the version to delete.
    Aliased {
        aliases: Vec<String>,
    },
    Seen(State),
}

/// The model of [`crate::support::linearizability`].
pub struct Artifact;

impl Model for Artifact {
    type State = State;
    type Call = Call;
    type Answer = Answer;

    fn begin(&self) -> State {
        State::default()
    }

    fn step(&self, state: &State, call: &Call, answer: Option<&Answer>) -> Option<State> {
        let mut next = state.clone();
        let own = next.apply(call);
        let is_possible = match answer {
            None => true,
            // A wrong number is refused before the content is known, too.
            Some(Answer::WrongNumber { next }) => {
                matches!(call, Call::Commit { demanded: Some(n), .. } if n != next)
                    && *next == state.next_version()
            }
            Some(answer) => *answer == own,
        };
        let is_refusal = matches!(answer, Some(Answer::WrongNumber { .. }));
        is_possible.then(|| if is_refusal { state.clone() } else { next })
    }

    fn changed_nothing(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Committed { .. } | Answer::Pointed { .. } | Answer::Done => false,
            Answer::WrongNumber { .. } | Answer::Identical { .. } => true,
            Answer::Deleted { versions } => versions.is_empty(),
            Answer::Aliased { .. } => true,
            Answer::NoTarget | Answer::NoAlias | Answer::Elsewhere { .. } | Answer::Seen(_) => true,
        }
    }
}

impl State {
    fn next_version(&self) -> u64 {
        self.versions.len() as u64
    }

    fn latest(&self) -> Option<u64> {
        self.versions.iter().rposition(Option::is_some).map(|n| n as u64)
    }

    fn is_living(&self, number: u64) -> bool {
        self.versions.get(number as usize).is_some_and(Option::is_some)
    }

    fn select(&self, target: &Target) -> Option<u64> {
        let number = match target {
            Target::Latest => self.latest(),
            Target::Version(number) => Some(*number),
            Target::Alias(alias) => self.aliases.get(alias).copied(),
        };
        number.filter(|n| self.is_living(*n))
    }

    fn version_mut(&mut self, number: u64) -> &mut Version {
        self.versions[number as usize].as_mut().expect("it was selected")
    }

    fn is_content_of_latest(&self, content: u32) -> bool {
        self.versions.iter().flatten().next_back().is_some_and(|latest| latest.content == content)
    }

    /// Changes the artifact as the call says and tells its answer.
    pub fn apply(&mut self, call: &Call) -> Answer {
        match call {
            Call::Commit { content, aliases, tags, demanded } => {
                self.commit(*content, aliases, tags, *demanded)
            }
            Call::SetAlias { alias, target, only_if } => {
                let Some(version) = self.select(target) else { return Answer::NoTarget };
                match self.check(alias, *only_if) {
                    Some(elsewhere) => elsewhere,
                    None => {
                        self.aliases.insert(alias.clone(), version);
                        Answer::Pointed { version }
                    }
                }
            }
            Call::RemoveAlias { alias, only_if } => match self.check(alias, *only_if) {
                Some(elsewhere) => elsewhere,
                None if self.aliases.remove(alias).is_some() => Answer::Done,
                None => Answer::NoAlias,
            },
            Call::ChangeTags { target, add, remove } => {
                let Some(version) = self.select(target) else { return Answer::NoTarget };
                let tags = &mut self.version_mut(version).tags;
                tags.retain(|tag| !remove.contains(tag));
                tags.extend(add.iter().cloned());
                Answer::Done
            }
            Call::Delete { versions, force } => self.delete(versions, *force),
            Call::DeleteArtifact { force } => {
                let living: Vec<u64> = (0..self.next_version()).filter(|n| self.is_living(*n)).collect();
                self.delete(&living, *force)
            }
            Call::SetTtl { target } => match self.select(target) {
                Some(_) => Answer::Done,
                None => Answer::NoTarget,
            },
            Call::Observe => Answer::Seen(self.clone()),
        }
    }

    fn commit(&mut self, content: u32, aliases: &[String], tags: &[String], demanded: Option<u64>) -> Answer {
        let next = self.next_version();
        let is_identical = self.is_content_of_latest(content);
        let latest = self.latest().unwrap_or_default();
        let version = match (is_identical, demanded) {
            (true, Some(_)) => return Answer::Identical { version: latest },
            (true, None) => latest,
            (false, Some(number)) if number != next => return Answer::WrongNumber { next },
            (false, _) => {
                self.versions.push(Some(Version { content, tags: BTreeSet::new() }));
                next
            }
        };
        self.version_mut(version).tags.extend(tags.iter().cloned());
        self.aliases.extend(aliases.iter().map(|alias| (alias.clone(), version)));
        Answer::Committed { version, created: !is_identical }
    }

    /// All of them or none.
    fn delete(&mut self, versions: &[u64], force: bool) -> Answer {
        let mut gone = vec![];
        for version in versions {
            if *version >= self.next_version() {
                return Answer::NoTarget;
            }
            if !self.is_living(*version) {
                continue;
            }
            let of_version = self.aliases.iter().filter(|(_, at)| *at == version);
            let aliases: Vec<String> = of_version.map(|(alias, _)| alias.clone()).collect();
            if !aliases.is_empty() && !force {
                return Answer::Aliased { aliases };
            }
            gone.push(*version);
        }
        self.aliases.retain(|_, at| !gone.contains(at));
        gone.iter().for_each(|version| self.versions[*version as usize] = None);
        Answer::Deleted { versions: gone }
    }

    fn check(&self, alias: &str, only_if: Option<u64>) -> Option<Answer> {
        let found = self.aliases.get(alias).copied();
        only_if.filter(|expected| found != Some(*expected)).map(|_| Answer::Elsewhere { found })
    }
}
