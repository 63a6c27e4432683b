//! What can be made to go wrong with a request, and the test's hook that decides it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::log::RequestKind;

/// What happens to one request.
///
/// `Truncate`, `Shorten` and `FlipByte` leave alone an answer that is an error, has no body or not that byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered faithfully.
    None,
    /// It has no effect and is answered with this status and its usual S3 error code.
    ErrorBefore(u16),
    /// It has its effect; then it is answered with this status, as if it had failed.
    ErrorAfter(u16),
    /// It has no effect; the connection is closed without an answer.
    DropBefore,
    /// It has its effect; then the connection is closed without an answer.
    DropAfter,
    /// The connection is closed this many bytes before the end of the body the headers promise.
    Truncate(u64),
    /// The body lacks its last bytes and the length in the headers agrees with that: the answer looks whole.
    Shorten(u64),
    /// All bits of the body's byte at this offset are inverted.
    FlipByte(u64),
    /// It waits before it has its effect, then is answered faithfully. A client that hangs up during the
    /// wait does not prevent the effect: the write of a client that timed out lands late.
    Delay(Duration),
}

/// What the hook of a test knows about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// Its number, by arrival, since the hook was set or the log cleared; from 0.
    pub n: u64,
    pub kind: RequestKind,
    /// As in [`Request::key`](super::Request::key).
    pub key: String,
}

pub(super) type Choose = dyn Fn(&RequestInfo) -> Fault + Send + Sync;

/// The test's hook, if it has set one.
#[derive(Default)]
pub(super) struct FaultHook(Mutex<Option<Arc<Choose>>>);

impl FaultHook {
    pub(super) fn set(&self, choose: Arc<Choose>) {
        *self.0.lock().expect("no panic happens under the hook's lock") = Some(choose);
    }

    /// Asks the hook, with no lock held: it may take its time, panic, or set another hook.
    pub(super) fn choose(&self, request: &RequestInfo) -> Fault {
        let choose = self.0.lock().expect("no panic happens under the hook's lock").clone();
        choose.map_or(Fault::None, |choose| choose(request))
    }
}
