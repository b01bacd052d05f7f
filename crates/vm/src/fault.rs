//! What stopped a program before its end.

use crate::memory::RegionName;
use skep_isa::InsnIdx;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A run that ended early: which instruction of which program, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{program}: instruction {insn}: {kind}")]
pub struct Fault {
    /// Name of the program; after a tail call that of the program called.
    pub program: Arc<str>,
    /// The (first) slot of the instruction.
    pub insn: InsnIdx,
    /// Why.
    pub kind: FaultKind,
}

/// Why a run ended early.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// Memory that the program does not own, or may not use so.
    #[error(transparent)]
    Access(Box<BadAccess>),
    /// An atomic access to an address that is no multiple of its size.
    #[error("atomic access of {size} bytes at {addr:#x}, which is not a multiple of {size}")]
    Misaligned {
        /// The address.
        addr: u64,
        /// Bytes.
        size: u8,
    },
    /// More instructions than allowed.
    #[error("stopped after {limit} instructions, the limit of this run")]
    InsnLimit {
        /// How many were allowed.
        limit: u64,
    },
    /// More time than allowed.
    #[error("stopped after {}, the time limit of this run", humanized(*.limit))]
    TimeLimit {
        /// How long was allowed.
        limit: Duration,
    },
    /// More nested calls than there are stack frames.
    #[error("no stack frame left for this call: {frames} are in use, of 512 bytes each")]
    StackDepth {
        /// How many frames a run has.
        frames: u32,
    },
    /// A helper got what it cannot work with.
    #[error("{helper}: {why}")]
    Helper {
        /// The helper's name.
        helper: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A call that could not be had, reached all the same.
    #[error("{why}")]
    Unavailable {
        /// What it is, and why not.
        why: String,
    },
    /// A function of the host program that panicked.
    #[error("the host's function {name} panicked")]
    Panic {
        /// Name it is registered with.
        name: String,
    },
}

/// A memory access that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadAccess {
    /// First byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// Whether it was to be written.
    pub write: bool,
    /// What the program owns at that moment, by address.
    pub regions: Vec<RegionView>,
    /// Why the region that the address is in refuses it, if it is in one.
    pub why: Option<String>,
}

/// A region as a fault shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionView {
    /// What it is.
    pub name: RegionName,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

/// Regions that a message lists; the nearest are shown.
const SHOWN_REGIONS: usize = 6;

impl fmt::Display for BadAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.write { "write" } else { "read" };
        write!(f, "{verb} of {} byte{} at {:#x}", self.size, if self.size == 1 { "" } else { "s" }, self.addr)?;
        if let Some(why) = &self.why {
            return write!(f, ": {why}");
        }
        f.write_str(" is outside what the program owns")?;
        let distance = |region: &RegionView| match self.addr {
            addr if addr < region.start => region.start - addr,
            addr => addr - region.start.saturating_add(region.len).min(addr),
        };
        let mut near: Vec<&RegionView> = self.regions.iter().collect();
        near.sort_by_key(|region| distance(region));
        if let Some(nearest) = near.first() {
            let gap = distance(nearest);
            if self.addr < nearest.start && gap < 1 << 16 {
                write!(f, ": {gap} bytes before {}", nearest.name)?;
            } else if self.addr >= nearest.start && gap < 1 << 16 {
                let inside = self.addr - nearest.start;
                write!(f, ": byte {inside} of {}, which has {}", nearest.name, nearest.len)?;
            }
        }
        near.truncate(SHOWN_REGIONS);
        near.sort_by_key(|region| region.start);
        for (place, region) in near.iter().enumerate() {
            let lead = if place == 0 { " (it owns " } else { ", " };
            write!(f, "{lead}{} at {:#x}..{:#x}", region.name, region.start, region.start.saturating_add(region.len))?;
        }
        if self.regions.len() > near.len() {
            write!(f, " and {} more", self.regions.len() - near.len())?;
        }
        if near.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl std::error::Error for BadAccess {}

fn humanized(limit: Duration) -> String {
    match limit.as_millis() {
        0 => format!("{} µs", limit.as_micros()),
        ms if ms < 10_000 => format!("{ms} ms"),
        ms => format!("{} s", ms / 1000),
    }
}
