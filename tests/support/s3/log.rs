//! The request log: what was asked, in order of arrival, and how it was answered.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    Get,
    Head,
    Put,
    Copy,
    Delete,
    /// `DeleteObjects`: up to a thousand keys in one request.
    DeleteMany,
    List,
    CreateUpload,
    UploadPart,
    CompleteUpload,
    AbortUpload,
    /// Anything the server does not implement.
    Other,
}

/// One logged request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub kind: RequestKind,
    /// The object's key; a listing's prefix; empty for `DeleteMany`.
    pub key: String,
    /// The byte range of a `Get`: first byte, one past the last. Bounds the client left open are those
    /// of the answer, or `u64::MAX` where no bytes were answered.
    pub range: Option<(u64, u64)>,
    /// Object bytes carried: body bytes sent in answer to a `Get`, received with a `Put` or `UploadPart`; else 0.
    pub bytes: u64,
    /// `None` while the request is under way, and for ever where the connection was cut instead of answered.
    pub status: Option<u16>,
}

/// Requests by serial number, which is their order of arrival.
#[derive(Default)]
pub(super) struct RequestLog(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_serial: BTreeMap<u64, Request>,
    next_serial: u64,
    /// The serial of the request that counts as number 0.
    numbered_from: u64,
}

/// The place of one request in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    serial: u64,
    /// Number of the request since numbering was last restarted.
    pub(super) n: u64,
}

impl RequestLog {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().expect("no panic happens under the log's lock")
    }

    pub(super) fn begin(&self, request: Request) -> Ticket {
        let mut entries = self.entries();
        let serial = entries.next_serial;
        entries.next_serial += 1;
        entries.by_serial.insert(serial, request);
        Ticket { serial, n: serial - entries.numbered_from }
    }

    /// Changes the entry, unless it was cleared meanwhile.
    pub(super) fn amend(&self, ticket: Ticket, change: impl FnOnce(&mut Request)) {
        if let Some(request) = self.entries().by_serial.get_mut(&ticket.serial) {
            change(request);
        }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.entries().by_serial.values().cloned().collect()
    }

    pub(super) fn clear(&self) {
        let mut entries = self.entries();
        entries.by_serial.clear();
        entries.numbered_from = entries.next_serial;
    }

    pub(super) fn restart_numbering(&self) {
        let mut entries = self.entries();
        entries.numbered_from = entries.next_serial;
    }
}
