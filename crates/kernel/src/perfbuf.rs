//! Perf buffers (`BPF_MAP_TYPE_PERF_EVENT_ARRAY`): one ring a CPU, written by `bpf_perf_event_output`.
//!
//! Records of different CPUs are put in order by time within one [`PerfBuffer::drain`]; a record that was written while an
//! earlier drain was at work may still come after a younger one of another CPU.
//!
//! Loss: a record that finds its ring full is counted by the kernel, by CPU; the count comes with the next record that
//! fits, and from 6.0 on also without one.
//!
//! A CPU that goes offline takes its ring with it: what was in it still comes, and when the CPU is back it gets a new one
//! ([`PerfBuffer::follow_cpus`]). What a program writes there in between is refused, of which only the program is told.
//!
//! The kernel pads a record so that it ends 4 bytes after a multiple of 8: up to 7 bytes more than the program wrote.
//!
//! Source: `include/uapi/linux/perf_event.h`, perf_event_open(2).

use crate::error::{Error, Result};
use crate::sys::mmap::PerfMemory;
use crate::sys::perf::{self, EventAttr};
use crate::{Map, cpu};
use skep_abi::MapType;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

/// Types of records.
const RECORD_LOST: u32 = 2;
const RECORD_SAMPLE: u32 = 9;

/// How a perf buffer is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PerfBufferOptions {
    /// Pages of each CPU's ring, made a power of two.
    pub pages: usize,
    /// Wake the reader after so many bytes; 0 at each record.
    pub wakeup_bytes: u32,
}

impl Default for PerfBufferOptions {
    /// 64 pages a CPU, and a wake-up at each record.
    fn default() -> PerfBufferOptions {
        PerfBufferOptions { pages: 64, wakeup_bytes: 0 }
    }
}

/// What came out of a perf buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PerfItem<'a> {
    /// A record.
    Record {
        /// CPU that it was written on.
        cpu: u32,
        /// Nanoseconds of CLOCK_MONOTONIC, as `bpf_ktime_get_ns` counts.
        time_ns: u64,
        /// Its bytes, padded.
        data: &'a [u8],
    },
    /// Records that found the ring full.
    Lost {
        /// CPU that they were written on.
        cpu: u32,
        /// How many since the last such item.
        count: u64,
    },
}

/// The ring of one CPU.
#[derive(Debug)]
struct Ring {
    cpu: u32,
    event: File,
    memory: PerfMemory,
    /// From the records that say so, from the event's own count, and what has been handed over.
    lost_told: u64,
    lost_counted: u64,
    lost_given: u64,
    clock: Clock,
}

/// For how long an event has been on, as last heard. Its time stands still from when its CPU goes offline, also after that
/// is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Clock(Option<u64>);

impl Clock {
    /// Hears the time, and tells whether it goes on.
    fn goes_on(&mut self, enabled_ns: u64) -> bool {
        self.0.replace(enabled_ns).is_none_or(|before| enabled_ns > before)
    }
}

/// A reader of a perf buffer, and the owner of its rings.
#[derive(Debug)]
pub struct PerfBuffer {
    map: Map,
    options: PerfBufferOptions,
    rings: Vec<Ring>,
    /// Rings of CPUs that went offline; they end with the next drain.
    retired: Vec<Ring>,
    /// Reused from drain to drain: (time, CPU, where in `bytes`).
    batch: Vec<(u64, u32, Range<usize>)>,
    bytes: Vec<u8>,
}

impl PerfBuffer {
    /// Makes a ring for each CPU that is online and puts it into the map.
    pub fn new(map: &Map, options: PerfBufferOptions) -> Result<PerfBuffer> {
        if map.map_type() != Some(MapType::PerfEventArray) {
            return Err(Error::Invalid {
                action: "read records of",
                object: format!("map {}", map.name()),
                why: "it is no perf event array".into(),
            });
        }
        let pages = options.pages.clamp(1, 1 << 16).next_power_of_two();
        let mut buffer = PerfBuffer {
            map: map.try_clone()?,
            options: PerfBufferOptions { pages, ..options },
            rings: Vec::new(),
            retired: Vec::new(),
            batch: Vec::new(),
            bytes: Vec::new(),
        };
        buffer.follow_cpus()?;
        Ok(buffer)
    }

    /// The map's name.
    pub fn name(&self) -> &str {
        self.map.name()
    }

    /// Gives up the rings of CPUs that went offline since the last call, however shortly, and makes rings for CPUs that came
    /// online. Gives the number of new ones, the last of [`PerfBuffer::fds`]. What programs wrote to a CPU without a ring is
    /// lost, and they were told so (`ENOENT`, `EOPNOTSUPP`).
    pub fn follow_cpus(&mut self) -> Result<usize> {
        for mut ring in std::mem::take(&mut self.rings) {
            let counts = perf::counts(&ring.event);
            if counts.is_ok_and(|counts| !ring.clock.goes_on(counts.enabled_ns)) {
                // If the slot can't be emptied, programs are refused all the same (EOPNOTSUPP), and a new ring takes it over.
                drop(self.map.delete(&ring.cpu.to_ne_bytes()));
                self.retired.push(ring);
            } else {
                self.rings.push(ring);
            }
        }
        let mut added = 0;
        for cpu in cpu::online()? {
            if cpu >= self.map.max_entries() || self.rings.iter().any(|r| r.cpu == cpu) {
                continue;
            }
            match self.ring(cpu) {
                Ok(ring) => {
                    self.map.set_fd(&cpu.to_ne_bytes(), ring.event.as_fd())?;
                    self.rings.push(ring);
                    added += 1;
                }
                // Went offline again.
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {}
                Err(e) => {
                    let object = format!("{} on CPU {cpu} ({} pages)", self.map.name(), self.options.pages);
                    let permission = e.raw_os_error() == Some(libc::EPERM);
                    let error = Error::kernel("open perf buffer", object, e);
                    return Err(match permission {
                        true => error.with_next("it takes CAP_PERFMON; without CAP_IPC_LOCK fewer pages may fit"),
                        false => error,
                    });
                }
            }
        }
        Ok(added)
    }

    fn ring(&self, cpu: u32) -> std::io::Result<Ring> {
        let number = i32::try_from(cpu).unwrap_or(i32::MAX);
        let (attr, plain) = (EventAttr::bpf_output(self.options.wakeup_bytes, true), || {
            EventAttr::bpf_output(self.options.wakeup_bytes, false)
        });
        // Kernels before 6.0 do not count losses in the event.
        let event = match perf::open(&attr, -1, number) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => perf::open(&plain(), -1, number)?,
            other => other?,
        };
        let memory = PerfMemory::new(event.as_fd(), self.options.pages)?;
        perf::enable(event.as_fd())?;
        let clock = Clock::default();
        Ok(Ring { cpu, event: File::from(event), memory, lost_told: 0, lost_counted: 0, lost_given: 0, clock })
    }

    /// Descriptors that become readable when there are records, one a CPU.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.iter().map(|r| r.event.as_fd())
    }

    /// Asks the kernel for losses that no record has told of yet; they come with the next drain. Needs 6.0, does nothing
    /// before.
    pub fn count_losses(&mut self) {
        for ring in self.rings.iter_mut().chain(&mut self.retired) {
            if let Ok(perf::Counts { lost: Some(lost), .. }) = perf::counts(&ring.event) {
                ring.lost_counted = lost;
            }
        }
    }

    /// Hands over what is there, in order of time, then losses, and gives the number of records. Does not wait.
    pub fn drain(&mut self, mut sink: impl FnMut(PerfItem<'_>)) -> usize {
        self.batch.clear();
        self.bytes.clear();
        for ring in self.rings.iter_mut().chain(&mut self.retired) {
            ring.gather(&mut self.batch, &mut self.bytes);
        }
        self.batch.sort_by_key(|(time, ..)| *time);
        for (time_ns, cpu, range) in &self.batch {
            let data = self.bytes.get(range.clone()).unwrap_or(&[]);
            sink(PerfItem::Record { cpu: *cpu, time_ns: *time_ns, data });
        }
        for ring in self.rings.iter_mut().chain(&mut self.retired) {
            let lost = ring.lost_told.max(ring.lost_counted);
            if lost > ring.lost_given {
                sink(PerfItem::Lost { cpu: ring.cpu, count: lost - ring.lost_given });
                ring.lost_given = lost;
            }
        }
        self.retired.clear();
        self.batch.len()
    }
}

impl Ring {
    /// Copies finished records out and gives their room back.
    fn gather(&mut self, batch: &mut Vec<(u64, u32, Range<usize>)>, bytes: &mut Vec<u8>) {
        let (cpu, lost) = (self.cpu, &mut self.lost_told);
        self.memory.drain(bytes, |kind, at, bytes| {
            let u64_at = |offset: usize| {
                let field = bytes.get(at + offset..at + offset + 8).and_then(|b| b.try_into().ok());
                field.map_or(0, u64::from_ne_bytes)
            };
            match kind {
                RECORD_SAMPLE => {
                    // Time, length of the data, data.
                    let time = u64_at(0);
                    let len = bytes.get(at + 8..at + 12).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
                    let start = (at + 12).min(bytes.len());
                    let end = start.saturating_add(len as usize).min(bytes.len());
                    batch.push((time, cpu, start..end));
                }
                RECORD_LOST => {
                    // Id, number.
                    *lost += u64_at(8);
                    bytes.truncate(at);
                }
                _ => bytes.truncate(at),
            }
        });
    }
}

impl Drop for PerfBuffer {
    fn drop(&mut self) {
        // The map may live on: its slots must not keep rings that nobody reads.
        for ring in &self.rings {
            drop(self.map.delete(&ring.cpu.to_ne_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_stand_still() {
        let mut clock = Clock::default();
        assert!(clock.goes_on(5), "the first time tells nothing");
        assert!(clock.goes_on(6));
        assert!(!clock.goes_on(6));
        let mut clock = Clock::default();
        assert!(clock.goes_on(0));
        assert!(!clock.goes_on(0), "offline before it had run");
    }
}
