//! One place to wait for everything that programs report: ring buffers, perf buffers, `bpf_printk`.
//!
//! ```no_run
//! use skep_kernel::reader::{Reader, Report};
//! # fn example(events: &skep_kernel::Map) -> skep_kernel::Result<()> {
//! let mut reader = Reader::new()?;
//! reader.add_ring(0, events)?;
//! reader.poll(std::time::Duration::from_secs(1), &mut |report| {
//!     if let Report::Record { data, .. } = report {
//!         println!("{} bytes", data.len());
//!     }
//! })?;
//! # Ok(()) }
//! ```
//!
//! Limits: order is kept within a ring buffer, and by time within a perf buffer, not among several buffers.

use crate::Map;
use crate::error::{Errno, Error, Result};
use crate::perfbuf::{PerfBuffer, PerfBufferOptions, PerfItem};
use crate::ringbuf::RingBuffer;
use crate::trace_pipe::{Line, Print, TracePipe};
use rustix::event::{Timespec, epoll};
use skep_abi::MapType;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often CPUs that went and came and losses that no record tells of are looked for.
const TIDY: Duration = Duration::from_secs(1);
/// How often `trace_pipe` is read, as it does not say in time that there is something.
const PIPE: Duration = Duration::from_millis(50);

/// Something that a program reported.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Report<'a> {
    /// A record.
    Record {
        /// The number that the buffer was added with.
        buffer: usize,
        /// CPU that it was written on; perf buffers only.
        cpu: Option<u32>,
        /// Nanoseconds of CLOCK_MONOTONIC; perf buffers only.
        time_ns: Option<u64>,
        /// Its bytes, valid until the callback returns.
        data: &'a [u8],
    },
    /// Records that found a perf buffer full.
    Lost {
        /// The number that the buffer was added with.
        buffer: usize,
        /// CPU that they were written on.
        cpu: u32,
        /// How many since the last such report.
        count: u64,
    },
    /// A line of `bpf_printk`.
    Print(&'a Print),
    /// The rest of a print with line ends in it, or another tracer's line.
    OtherLine(&'a str),
    /// Trace lines that found the trace buffer full.
    LostLines {
        /// CPU.
        cpu: u32,
        /// How many.
        count: u64,
    },
}

#[derive(Debug)]
enum Source {
    Ring(RingBuffer),
    Perf(PerfBuffer),
}

/// Waits for several buffers at once.
#[derive(Debug)]
pub struct Reader {
    epoll: OwnedFd,
    sources: Vec<(usize, Source)>,
    pipe: Option<TracePipe>,
    tidied: Instant,
}

impl Reader {
    /// One that waits for nothing yet.
    pub fn new() -> Result<Reader> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|e| Error::kernel("make", "an epoll", Errno(e.raw_os_error())))?;
        Ok(Reader { epoll, sources: Vec::new(), pipe: None, tidied: Instant::now() })
    }

    fn watch(&self, fd: BorrowedFd<'_>) -> Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
            .map_err(|e| Error::kernel("wait for", "a buffer", Errno(e.raw_os_error())))
    }

    /// Adds a map of either kind of buffer under a number of the caller's; `false` if it is no buffer.
    pub fn add(&mut self, number: usize, map: &Map, options: PerfBufferOptions) -> Result<bool> {
        match map.map_type() {
            Some(MapType::Ringbuf) => self.add_ring(number, map).map(|()| true),
            Some(MapType::PerfEventArray) => self.add_perf(number, map, options).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Adds a ring buffer.
    pub fn add_ring(&mut self, number: usize, map: &Map) -> Result<()> {
        let ring = RingBuffer::new(map)?;
        self.watch(ring.fd())?;
        self.sources.push((number, Source::Ring(ring)));
        Ok(())
    }

    /// Adds a perf buffer.
    pub fn add_perf(&mut self, number: usize, map: &Map, options: PerfBufferOptions) -> Result<()> {
        let perf = PerfBuffer::new(map, options)?;
        for fd in perf.fds() {
            self.watch(fd)?;
        }
        self.sources.push((number, Source::Perf(perf)));
        Ok(())
    }

    /// Adds the lines of `bpf_printk`.
    pub fn add_pipe(&mut self, pipe: TracePipe) {
        self.pipe = Some(pipe);
    }

    /// The ring buffers by their numbers, to ask for their fill.
    pub fn rings(&self) -> impl Iterator<Item = (usize, &RingBuffer)> {
        self.sources.iter().filter_map(|(number, source)| match source {
            Source::Ring(ring) => Some((*number, ring)),
            Source::Perf(_) => None,
        })
    }

    /// Waits up to `timeout` until there is something, hands over all that is there, and gives the number of reports.
    /// A signal ends the waiting early.
    pub fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Report<'_>)) -> Result<usize> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let count = self.drain(sink)?;
            if count > 0 {
                return Ok(count);
            }
            let left = deadline.map_or(TIDY, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(0);
            }
            let mut wait = left.min(TIDY);
            if self.pipe.is_some() {
                wait = wait.min(PIPE);
            }
            let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            let mut ready = Vec::with_capacity(16);
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), Some(&wait)) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => return self.drain(sink),
                Err(e) => return Err(Error::kernel("wait for", "buffers", Errno(e.raw_os_error()))),
            }
        }
    }

    /// Hands over what is there without waiting.
    pub fn drain(&mut self, sink: &mut dyn FnMut(Report<'_>)) -> Result<usize> {
        self.tidy()?;
        let mut count = 0;
        for (number, source) in &mut self.sources {
            let buffer = *number;
            match source {
                Source::Ring(ring) => {
                    count += ring.drain(|data| sink(Report::Record { buffer, cpu: None, time_ns: None, data }));
                }
                Source::Perf(perf) => {
                    perf.drain(|item| {
                        count += 1;
                        sink(match item {
                            PerfItem::Record { cpu, time_ns, data } => {
                                Report::Record { buffer, cpu: Some(cpu), time_ns: Some(time_ns), data }
                            }
                            PerfItem::Lost { cpu, count } => Report::Lost { buffer, cpu, count },
                        });
                    });
                }
            }
        }
        if let Some(pipe) = &mut self.pipe {
            count += pipe.read(|line| match line {
                Line::Print(print) => sink(Report::Print(&print)),
                Line::Lost { cpu, count } => sink(Report::LostLines { cpu, count }),
                Line::Other(text) => sink(Report::OtherLine(&text)),
            })?;
        }
        Ok(count)
    }

    fn tidy(&mut self) -> Result<()> {
        if self.tidied.elapsed() < TIDY {
            return Ok(());
        }
        self.tidied = Instant::now();
        for (_, source) in &mut self.sources {
            if let Source::Perf(perf) = source {
                let new = perf.follow_cpus()?;
                perf.count_losses();
                let old = perf.fds().count().saturating_sub(new);
                for fd in perf.fds().skip(old) {
                    epoll::add(&self.epoll, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
                        .map_err(|e| Error::kernel("wait for", "a buffer", Errno(e.raw_os_error())))?;
                }
            }
        }
        Ok(())
    }
}
