//! How long a writer waits after another was faster, so that any number of them get their turns.
//!
//! The wait is random, between nothing and a window. The window is counted in what one attempt takes at this store,
//! and doubles with each race lost in a row: it soon holds a place for each rival, without knowing their number.

use std::time::Duration;

use crate::format::clock::Env;

/// Lost races after which a writer gives up.
const MAX_LOST: u32 = 500;
/// The shortest and longest that an attempt counts for: a store in memory must not be asked in a tight loop, and one attempt
/// that hung must not stretch the next waits.
const ATTEMPT: [Duration; 2] = [Duration::from_millis(2), Duration::from_secs(1)];
/// The widest window in attempts: places for as many rivals as make sense.
const MAX_WINDOW: u32 = 64;
/// No single wait is longer.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The races that one append has lost.
#[derive(Debug, Default)]
pub(super) struct Races {
    lost: u32,
    in_a_row: u32,
}

impl Races {
    /// Counts a lost race. Returns how long to wait before the log is read again; none after too many.
    pub fn lose(&mut self, env: &Env, attempt: Duration) -> Option<Duration> {
        self.lost += 1;
        self.in_a_row += 1;
        if self.lost > MAX_LOST {
            return None;
        }
        let window = 2_u32.saturating_pow(self.in_a_row + 1).min(MAX_WINDOW);
        let widest = attempt.clamp(ATTEMPT[0], ATTEMPT[1]) * window;
        Some(env.part_of(widest.min(MAX_WAIT)))
    }

    /// Nobody else wrote anything: the next wait is short again.
    pub fn reset(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::clock;

    #[test]
    fn waits_grow_with_lost_races_up_to_a_limit_and_end() {
        let (env, attempt) = (clock::system(), Duration::from_millis(100));
        let mut races = Races::default();
        for widest in [4, 8, 16, 32, 64, 64, 64] {
            assert!(races.lose(&env, attempt).unwrap() <= attempt * widest);
        }
        races.reset();
        assert!(races.lose(&env, attempt).unwrap() <= attempt * 4);
        while let Some(wait) = races.lose(&env, Duration::from_secs(60)) {
            assert!(wait <= MAX_WAIT);
        }
        assert_eq!(races.lost, MAX_LOST + 1);
    }

    #[test]
    fn rivals_that_lost_together_do_not_come_back_together() {
        let env = clock::system();
        let wait = || Races::default().lose(&env, Duration::from_millis(50)).unwrap();
        let waits: std::collections::BTreeSet<Duration> = (0..32).map(|_| wait()).collect();
        assert!(waits.len() > 16, "{waits:?}");
    }
}
