//! Whether a thread that waits for an answer of the mount is about to end, so that no one needs the answer.
//!
//! Once the daemon has taken a request, its caller stays in the kernel until the answer, whatever signal arrives.
//! Meanwhile `/proc/<thread>/status` shows the pending signal.

use std::time::Duration;

use super::proc::status;

/// How often is looked: a look reads one small file of `/proc`, and nobody minds a wait as short.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Signals that end no process which does nothing about them. All others do.
const HARMLESS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];

/// Ready when a thread is about to end, or has. Never for one that cannot be looked at: 0, which stands for a thread of
/// another namespace, or one that `/proc` hides from us. What takes less than [`LOOK_INTERVAL`] costs no look.
pub async fn until_ending(thread: u32) {
    let mut was_seen = false;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        match (thread != 0).then(|| status(thread)).flatten() {
            Some(status) if is_ending(&status) => return,
            Some(_) => was_seen = true,
            None if was_seen => return,
            None => std::future::pending().await,
        }
    }
}

/// Whether a `/proc/…/status` is of a thread that has ended, or will when it is back from the kernel.
fn is_ending(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let signals = |name| field(name).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    let pending = signals("SigPnd:") | signals("ShdPnd:");
    let kept_off = signals("SigBlk:") | signals("SigIgn:") | signals("SigCgt:");
    let harmless = HARMLESS.iter().fold(0, |set, signal| set | 1 << (signal - 1));
    pending & !kept_off & !harmless != 0 || field("State:").is_some_and(|state| state.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(state: &str, own: &[i32], shared: &[i32], [blocked, ignored, caught]: [&[i32]; 3]) -> String {
        let set =
            |signals: &[i32]| format!("{:016x}", signals.iter().fold(0u64, |set, s| set | 1 << (s - 1)));
        format!(
            "Name:\tSigPnd: x\nState:\t{state}\nTgid:\t7\nSigQ:\t0/7\nSigPnd:\t{}\nShdPnd:\t{}\nSigBlk:\t{}\nSigIgn:\t{}\n\
             SigCgt:\t{}\nCapInh:\t0000000000000000\n",
            set(own),
            set(shared),
            set(blocked),
            set(ignored),
            set(caught)
        )
    }

    #[test]
    fn a_signal_that_ends_its_thread_is_told_from_one_that_does_not() {
        let (kill, term, int) = (libc::SIGKILL, libc::SIGTERM, libc::SIGINT);
        let nothing: [&[i32]; 3] = [&[], &[], &[]];
        for signal in [kill, term, int, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE, libc::SIGALRM, 64] {
            assert!(is_ending(&of("D (disk sleep)", &[signal], &[], nothing)), "{signal}");
            assert!(is_ending(&of("S (sleeping)", &[], &[signal], nothing)), "{signal}");
        }
        for state in ["Z (zombie)", "X (dead)"] {
            assert!(is_ending(&of(state, &[], &[], nothing)), "{state}");
        }
        assert!(!is_ending(&of("D (disk sleep)", &[], &[], nothing)));
        for signal in HARMLESS {
            assert!(!is_ending(&of("S (sleeping)", &[signal], &[signal], nothing)), "{signal}");
        }
        // A handler, and what the thread ignores or does not let in, keeps a signal off, but no other one.
        for kept_off in [[&[term][..], &[], &[]], [&[], &[term], &[]], [&[], &[], &[term]]] {
            assert!(!is_ending(&of("S (sleeping)", &[term], &[term], kept_off)), "{kept_off:?}");
            assert!(is_ending(&of("S (sleeping)", &[term], &[int], kept_off)), "{kept_off:?}");
            assert!(is_ending(&of("S (sleeping)", &[kill], &[term], kept_off)), "{kept_off:?}");
        }
        for nothing_known in ["", "State:", "State:\t\nSigPnd:\tx\n", "SigPnd:\t1ffffffffffffffff\n"] {
            assert!(!is_ending(nothing_known), "{nothing_known:?}");
        }
    }

    #[tokio::test]
    async fn a_process_is_watched_to_its_end_and_what_cannot_be_seen_is_not() {
        // A process that cannot end by itself, and is not in the kernel on our behalf.
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let id = child.id();
        let watched = tokio::spawn(until_ending(id));
        for unseen in [0, u32::MAX, std::process::id()] {
            let looked = tokio::time::timeout(LOOK_INTERVAL * 3, until_ending(unseen)).await;
            assert!(looked.is_err(), "{unseen}");
        }
        assert!(!watched.is_finished());
        child.kill().unwrap();
        // It stays a zombie until it is waited for.
        watched.await.unwrap();
        child.wait().unwrap();
    }
}
