//! A stopped task as the task that programs run in.

use super::task::Task;
use super::{sys, task};
use crate::host;
use std::borrow::Cow;
use std::sync::OnceLock;

/// What helpers may ask of a stopped task, kept apart from the tracer: true until the task is resumed.
#[derive(Debug)]
pub struct StoppedTask {
    tid: u32,
    tgid: u32,
    comm: [u8; 16],
    user: OnceLock<(u32, u32)>,
}

impl Task<'_> {
    /// What helpers may ask of it while it stands still.
    pub fn stopped(&self) -> StoppedTask {
        let user = OnceLock::new();
        if let Some(known) = self.state.user.get() {
            let _ = user.set(known);
        }
        StoppedTask { tid: self.tid(), tgid: self.tgid(), comm: self.comm(), user }
    }
}

impl StoppedTask {
    fn user(&self) -> (u32, u32) {
        *self.user.get_or_init(|| {
            let status = std::fs::read(format!("/proc/{}/status", self.tid)).unwrap_or_default();
            let number = |label| task::status_number(&status, label).unwrap_or_default();
            (number("Uid:"), number("Gid:"))
        })
    }
}

impl host::Task for StoppedTask {
    fn tid(&self) -> u32 {
        self.tid
    }

    fn pid(&self) -> u32 {
        self.tgid
    }

    fn uid(&self) -> u32 {
        self.user().0
    }

    fn gid(&self) -> u32 {
        self.user().1
    }

    fn comm(&self) -> Cow<'_, [u8]> {
        let end = self.comm.iter().position(|&byte| byte == 0).unwrap_or(self.comm.len());
        Cow::Borrowed(self.comm.get(..end).unwrap_or_default())
    }

    fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), host::BadAddress> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = addr.wrapping_add(done as u64);
            match sys::read_memory(self.tid, at, rest) {
                Ok(read) if read > 0 => done += read,
                _ => return Err(host::BadAddress(at)),
            }
        }
        Ok(())
    }
}
