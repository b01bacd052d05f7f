//! A capture as the source of events: packets go through the attached programs in file order, and those that none of them
//! drops go to the output, as the programs left them.

use crate::vm::{EventSource, Faults, has_much, is_packet};
use crate::{Class, Error, PacketCounts, Packets, Summary};
use skep_abi::ProgramType;
use skep_object::{ProgramIdx, ProgramSpec};
use skep_vm::context::{Arrival, Fate, LinkHeader, Outcome, PacketError, PacketRunner, RunError};
use skep_vm::source::packets::{CaptureError, Format, Interface, LinkType, Reader, Writer};
use skep_vm::{Fault, Object, Program, Vm};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// Bytes of the largest packet: what the kernel's segmentation offload makes is up to half of it.
const MAX_PACKET_BYTES: usize = 512 << 10;

/// Packets between two looks at the clock.
const LOOK_EVERY: u64 = 64;

/// What came of a packet in a program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// What the program returned; for filters of sockets whether they keep anything.
    Value(i32),
    /// The packet is shorter than its link-layer header: the program did not run.
    TooShort,
    /// The run ended early.
    Fault,
}

/// A capture that is read, the programs that it goes through, and where it goes then.
pub(crate) struct Capture {
    name: String,
    reader: Reader<Box<dyn Read>>,
    /// The output's name until the first packet, then its writer.
    output: Option<String>,
    writer: Option<Writer<Box<dyn Write>>>,
    programs: Vec<Attached>,
    counts: PacketCounts,
    ended: bool,
    packet: Vec<u8>,
}

struct Attached {
    name: String,
    kind: ProgramType,
    runner: PacketRunner,
    attach: Option<skep_abi::AttachType>,
    verdicts: BTreeMap<Verdict, u64>,
}

fn capture_error(error: &CaptureError) -> Error {
    let class = match error {
        CaptureError::Open { .. } => Class::Usage,
        CaptureError::Malformed { .. } => Class::NotSo,
        _ => Class::NotPermittedOrUnsupported,
    };
    Error::vm(class, error.to_string())
}

impl Capture {
    /// Opens the capture. The output is made when the first packet is there, so that a capture which is none leaves it alone.
    pub(crate) fn open(packets: &Packets) -> Result<Capture, Error> {
        let reader = Reader::open(&packets.input).map_err(|error| capture_error(&error))?;
        if let Some(output) = &packets.output
            && packets.input != "-"
            && same_file(&packets.input, output)
        {
            let text = format!("write {output}: it is the capture that is read; give another name to --out");
            return Err(Error::vm(Class::Usage, text));
        }
        Ok(Capture {
            name: packets.input.clone(),
            reader,
            output: packets.output.clone(),
            writer: None,
            programs: Vec::new(),
            counts: PacketCounts::default(),
            ended: false,
            packet: Vec::new(),
        })
    }

    /// One packet; `false` at the end of the capture.
    fn next(&mut self, fault: &mut dyn FnMut(&Fault)) -> Result<bool, Error> {
        let Some(packet) = self.reader.next_packet().map_err(|error| capture_error(&error))? else {
            self.ended = true;
            self.finish()?;
            return Ok(false);
        };
        self.packet.clear();
        self.packet.extend_from_slice(packet.data);
        self.counts.read += 1;
        self.counts.bytes += packet.data.len() as u64;
        self.counts.truncated += u64::from(packet.truncated());
        let about = skep_vm::source::packets::Packet { data: &[], ..packet };
        let (length, ticks, place) = (about.original_length, about.ticks, about.interface);
        let truncated = packet.truncated();
        let Some(interface) = self.reader.interfaces().get(place as usize) else { return Ok(true) };
        let described =
            skep_vm::source::packets::Packet { interface: place, ticks, original_length: length, data: &self.packet };
        let arrival = arrival(interface, &described);
        let mut passes = true;
        for attached in &mut self.programs {
            if attached.kind == ProgramType::Xdp {
                interface.link.for_xdp().map_err(|error| {
                    Error::vm(
                        Class::NotPermittedOrUnsupported,
                        format!("run {} over {}: {error}", attached.name, self.name),
                    )
                })?;
            }
            match attached.runner.run(&self.packet, &arrival) {
                Ok(outcome) => {
                    attached.count(verdict(attached.kind, &outcome));
                    match outcome.fate() {
                        Fate::Drop => passes = false,
                        Fate::Pass { len } => {
                            attached.runner.frame(&mut self.packet);
                            let before = self.packet.len().saturating_sub(attached.runner.packet().len());
                            self.packet.truncate(before + len as usize);
                        }
                        Fate::SendBack | Fate::Redirect => attached.runner.frame(&mut self.packet),
                    }
                }
                Err(RunError::Packet(PacketError::Short { .. })) => attached.count(Verdict::TooShort),
                Err(RunError::Packet(error)) => {
                    let text = format!("run {} over {}: {error}", attached.name, self.name);
                    return Err(Error::vm(Class::NotPermittedOrUnsupported, text));
                }
                // A run that ended early lets nothing pass, as the kernel drops on XDP_ABORTED.
                Err(RunError::Fault(error)) => {
                    fault(&error);
                    attached.count(Verdict::Fault);
                    passes = false;
                }
            }
            if !passes {
                break;
            }
        }
        if passes {
            self.write(place, ticks, length, truncated)?;
        }
        Ok(true)
    }

    fn write(&mut self, place: u32, ticks: Option<u64>, length: u32, truncated: bool) -> Result<(), Error> {
        if self.writer.is_none() {
            let Some(output) = &self.output else { return Ok(()) };
            let format = Format::from_name(output).unwrap_or(self.reader.format());
            self.writer = Some(Writer::create(output, format).map_err(|error| capture_error(&error))?);
        }
        let (Some(writer), Some(interface)) = (&mut self.writer, self.reader.interfaces().get(place as usize)) else {
            return Ok(());
        };
        let data = self.packet.as_slice();
        // What the capture lacked of the packet is still lacking.
        let original_length = if truncated { length.max(data.len() as u32) } else { data.len() as u32 };
        let packet = skep_vm::source::packets::Packet { interface: place, ticks, original_length, data };
        writer.write(interface, &packet).map_err(|error| capture_error(&error))?;
        self.counts.written += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        if self.writer.is_none()
            && let Some(output) = &self.output
        {
            // Nothing passed: an empty capture says so.
            let format = Format::from_name(output).unwrap_or(self.reader.format());
            self.writer = Some(Writer::create(output, format).map_err(|error| capture_error(&error))?);
        }
        match self.writer.take() {
            Some(writer) => writer.finish().map_err(|error| capture_error(&error)),
            None => Ok(()),
        }
    }
}

impl EventSource for Capture {
    /// The packets go through this program after those attached before.
    fn attach(&mut self, vm: &Vm, _: ProgramIdx, loaded: &Program, spec: &ProgramSpec) -> Result<String, String> {
        let kind = loaded.kind();
        if !is_packet(kind) {
            return Err("a capture has packets only; programs of this type run at other events".to_owned());
        }
        let runner = PacketRunner::new(vm, loaded, spec.hook.attach_type, MAX_PACKET_BYTES)
            .map_err(|error| error.to_string())?;
        let attach = spec.hook.attach_type;
        self.programs.push(Attached { name: spec.name.clone(), kind, runner, attach, verdicts: BTreeMap::new() });
        Ok(format!("{} over {}", kind.short_name(), self.name))
    }

    fn run(&mut self, object: &Object, timeout: Duration, faults: &mut Faults) -> Result<bool, Error> {
        if self.ended {
            return Ok(false);
        }
        let deadline = Instant::now() + timeout;
        // At least one packet a call, so that a slow clock cannot stop it all.
        while self.next(&mut |fault| faults.add(fault))? {
            if self.counts.read.is_multiple_of(LOOK_EVERY) && (Instant::now() >= deadline || has_much(object)) {
                break;
            }
        }
        Ok(true)
    }

    fn detach(&mut self) {
        if let Some(writer) = self.writer.take() {
            // Left early: what there is, is written out; the loss of the rest is what was asked for.
            let _ = writer.finish();
        }
    }

    fn summary(&self, faults: u64) -> Option<Summary> {
        let verdicts = self.programs.iter().flat_map(|attached| {
            let mut verdicts: Vec<_> = attached.verdicts.iter().collect();
            verdicts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            verdicts.into_iter().map(|(verdict, count)| (attached.name.clone(), attached.name_of(*verdict), *count))
        });
        self.ended.then(|| Summary {
            exit_code: None,
            verdicts: verdicts.collect(),
            packets: Some(self.counts),
            faults,
        })
    }
}

impl Attached {
    fn count(&mut self, verdict: Verdict) {
        *self.verdicts.entry(verdict).or_default() += 1;
    }

    fn name_of(&self, verdict: Verdict) -> String {
        match (verdict, self.kind) {
            (Verdict::TooShort, _) => "(too short)".to_owned(),
            (Verdict::Fault, _) => "(fault)".to_owned(),
            (Verdict::Value(0), ProgramType::SocketFilter) => "drop".to_owned(),
            (Verdict::Value(_), ProgramType::SocketFilter) => "pass".to_owned(),
            (Verdict::Value(value), kind) => {
                skep_abi::verdict::name(kind, self.attach, value).map_or_else(|| value.to_string(), str::to_owned)
            }
        }
    }
}

/// Filters of sockets say how much is to be kept, which is a number for each packet: they are told apart by 0 alone.
fn verdict(kind: ProgramType, outcome: &Outcome) -> Verdict {
    match kind {
        ProgramType::SocketFilter => Verdict::Value((outcome.value != 0).into()),
        _ => Verdict::Value(outcome.value),
    }
}

fn arrival(interface: &Interface, packet: &skep_vm::source::packets::Packet<'_>) -> Arrival {
    let link = match interface.link {
        LinkType::ETHERNET => LinkHeader::Ethernet,
        other => match other.network(packet.data) {
            Some((len, protocol)) => LinkHeader::Other { len: u16::try_from(len).unwrap_or_default(), protocol },
            None => LinkHeader::Other { len: 0, protocol: 0 },
        },
    };
    Arrival {
        link,
        ifindex: packet.interface.saturating_add(1),
        time_ns: interface.time_ns(packet).unwrap_or_default(),
        wire_len: packet.original_length,
        ..Arrival::default()
    }
}

fn same_file(a: &str, b: &str) -> bool {
    let real = |path: &str| std::fs::canonicalize(path).ok();
    real(a).is_some() && real(a) == real(b)
}
