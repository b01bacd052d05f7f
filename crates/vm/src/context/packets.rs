//! Runs a program over packets, one after the other, in one piece of memory: bytes -> what the program says is to happen
//! with them, and the bytes as it left them.
//!
//! Nothing is allocated for a packet, unless the program sends copies of it.

use super::{Arrival, Context, LinkHeader, Needs, PacketError, Start, supported};
use crate::fault::Fault;
use crate::packet::{Cloned, Redirect};
use crate::program::{Program, Runner, Vm};
use skep_abi::{AttachType, ProgramType, verdict};
use std::fmt;

/// A run over a packet that gave no verdict.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program cannot be given this packet.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The program ended early.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    /// It goes on, so many bytes of it (filters of sockets can cut it).
    Pass {
        /// Bytes that are left of it.
        len: u32,
    },
    /// It goes nowhere.
    Drop,
    /// Back out of the interface that it came in by.
    SendBack,
    /// Where the program said, see [`Outcome::redirect`].
    Redirect,
}

/// What a program said about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    program: ProgramType,
    attach: Option<AttachType>,
    len: u32,
    /// What it returned.
    pub value: i32,
    /// Where it wants the packet to go, if its value says that it is to be redirected. `None` besides for a program that
    /// says so and named no target: the kernel drops such a packet.
    pub redirect: Option<Redirect>,
}

impl Outcome {
    /// The kernel's name for the value; `None` for a value without one.
    pub fn verdict(&self) -> Option<&'static str> {
        verdict::name(self.program, self.attach, self.value)
    }

    /// What becomes of the packet.
    pub fn fate(&self) -> Fate {
        let pass = Fate::Pass { len: self.len };
        let redirect = if self.redirect.is_some() { Fate::Redirect } else { Fate::Drop };
        match (self.program, self.value) {
            (ProgramType::Xdp, 2) => pass,
            (ProgramType::Xdp, 3) => Fate::SendBack,
            (ProgramType::Xdp, 4) => redirect,
            (ProgramType::Xdp, _) => Fate::Drop,
            (ProgramType::SocketFilter, 0) => Fate::Drop,
            // The number is unsigned: -1 is "all of it".
            (ProgramType::SocketFilter, keep) => Fate::Pass { len: self.len.min(keep as u32) },
            (ProgramType::CgroupSkb, value) => {
                if value & 1 == 1 {
                    pass
                } else {
                    Fate::Drop
                }
            }
            (ProgramType::LwtIn | ProgramType::LwtOut | ProgramType::LwtXmit, value) => match value {
                0 | 128 => pass,
                7 => redirect,
                _ => Fate::Drop,
            },
            // tc: stolen, queued and trapped packets are gone for the one who sent them.
            (_, 2 | 4 | 5 | 8) => Fate::Drop,
            (_, 7) => redirect,
            (_, _) => pass,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict() {
            Some(name) => f.pad(name),
            None => f.pad(&self.value.to_string()),
        }
    }
}

/// A program and the memory for the packets that it is run on.
#[derive(Debug)]
pub struct PacketRunner {
    runner: Runner,
    program: Program,
    attach: Option<AttachType>,
    start: Start,
    /// Whether the last packet began with an Ethernet header.
    ethernet: bool,
    context: Context<'static>,
}

impl PacketRunner {
    /// For packets of up to `capacity` bytes. `attach` is what the program is loaded for, where its type has several.
    ///
    /// # Errors
    /// A program that does not run on packets, and where there is no memory below 4 GB.
    pub fn new(
        vm: &Vm,
        program: &Program,
        attach: Option<AttachType>,
        capacity: usize,
    ) -> Result<PacketRunner, PacketError> {
        let kind = program.kind();
        let Needs::Packet(start) = supported(kind, attach)? else { return Err(PacketError::NoPacket(kind)) };
        let context = Context::packet_hook(kind, attach, capacity)?;
        Ok(PacketRunner { runner: vm.runner(), program: program.clone(), attach, start, ethernet: true, context })
    }

    /// Lets the program begin somewhere else in the packet than programs of its type mostly do: a socket filter at the
    /// network header, as `BPF_PROG_TEST_RUN` has it.
    pub fn starting_at(mut self, start: Start) -> PacketRunner {
        self.start = start;
        self
    }

    /// Runs the program on a packet.
    ///
    /// # Errors
    /// A packet that cannot be given to it, and a run that ended early.
    pub fn run(&mut self, packet: &[u8], arrival: &Arrival) -> Result<Outcome, RunError> {
        self.run_with_metadata(packet, &[], arrival)
    }

    /// The same, with metadata in front of the packet as a driver puts it there for XDP programs.
    ///
    /// # Errors
    /// As [`PacketRunner::run`], and metadata that is too long or no multiple of 4 bytes.
    pub fn run_with_metadata(
        &mut self,
        packet: &[u8],
        metadata: &[u8],
        arrival: &Arrival,
    ) -> Result<Outcome, RunError> {
        let outgoing = self.attach != Some(AttachType::CgroupInetIngress);
        self.context.set_packet(packet, self.start, outgoing, arrival)?;
        self.ethernet = arrival.link == LinkHeader::Ethernet;
        if !metadata.is_empty() {
            if let Some(packet) = self.context.packet_mut() {
                packet.set_metadata(metadata).map_err(PacketError::Room)?;
            }
            self.context.update_packet_fields();
        }
        let value = self.runner.run(&self.program, &mut self.context)? as i32;
        let program = self.program.kind();
        let redirects = value == if program == ProgramType::Xdp { 4 } else { 7 };
        let packet = self.context.packet();
        let redirect = packet.and_then(|packet| packet.redirect()).filter(|_| redirects);
        let len = packet.map_or(0, |packet| packet.bytes().len() as u32);
        Ok(Outcome { program, attach: self.attach, len, value, redirect })
    }

    /// The packet as the last run left it, as it would go over the wire: with the link-layer header that stands in front of
    /// where some programs begin, and with the VLAN tag in it that stands beside it.
    pub fn frame(&self, into: &mut Vec<u8>) {
        into.clear();
        let Some(packet) = self.context.packet() else { return };
        let bytes = packet.frame();
        match (self.tagged(), bytes.split_at_checked(12)) {
            (Some((protocol, tag)), Some((addresses, rest))) => {
                into.extend_from_slice(addresses);
                into.extend_from_slice(&protocol.to_be_bytes());
                into.extend_from_slice(&tag.to_be_bytes());
                into.extend_from_slice(rest);
            }
            _ => into.extend_from_slice(bytes),
        }
    }

    /// The VLAN tag beside the packet: protocol and tag.
    fn tagged(&self) -> Option<(u16, u16)> {
        let field = |name| self.context.field(name);
        let present = self.ethernet && field("vlan_present")? != 0;
        let protocol = u16::from_be(field("vlan_proto")? as u16);
        present.then_some((protocol, field("vlan_tci")? as u16))
    }

    /// The packet as the last run left it, from where the program begins.
    pub fn packet(&self) -> &[u8] {
        self.context.packet().map_or(&[], |packet| packet.bytes())
    }

    /// The metadata in front of it, from `data_meta` to `data`.
    pub fn metadata(&self) -> &[u8] {
        self.context.packet().map_or(&[], |packet| packet.metadata())
    }

    /// The copies that the last run sent by `bpf_clone_redirect`.
    pub fn clones(&self) -> &[Cloned] {
        self.context.packet().map_or(&[], |packet| packet.clones())
    }

    /// The context as the last run left it: [`Context::field`] gives `mark`, `priority`, ...
    pub fn context(&self) -> &Context<'static> {
        &self.context
    }

    /// The program that runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What it runs on, to set the task or the CPU.
    pub fn runner_mut(&mut self) -> &mut Runner {
        &mut self.runner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(program: ProgramType, text: &str, arrival: &Arrival) -> Vec<u8> {
        let vm = Vm::new(crate::Config::default());
        let slots = skep_isa::encode(&skep_isa::assemble(text).unwrap());
        let program = vm.load_slots("test", program, &slots).unwrap();
        let mut runner = PacketRunner::new(&vm, &program, None, 100).unwrap();
        runner.run(b"ffffffFFFFFF\x08\x00payload", arrival).unwrap();
        let mut frame = Vec::new();
        runner.frame(&mut frame);
        frame
    }

    #[test]
    fn a_frame_has_its_link_header_and_its_tag() {
        let pass = "r0 = 1\nexit";
        let plain = Arrival::default();
        let tagged = Arrival { vlan: Some((0x88a8, 7)), ..plain };
        assert_eq!(frame(ProgramType::CgroupSkb, pass, &plain), b"ffffffFFFFFF\x08\x00payload");
        assert_eq!(frame(ProgramType::SchedCls, pass, &tagged), b"ffffffFFFFFF\x88\xa8\x00\x07\x08\x00payload");
        assert_eq!(frame(ProgramType::SchedCls, "call 19\nr0 = 0\nexit", &tagged), b"ffffffFFFFFF\x08\x00payload");
        let push = "r2 = 0x0081\nr3 = 5\ncall 18\nr0 = 0\nexit";
        let both = b"ffffffFFFFFF\x81\x00\x00\x05\x88\xa8\x00\x07\x08\x00payload";
        assert_eq!(frame(ProgramType::SchedCls, push, &tagged), both);
        assert_eq!(frame(ProgramType::Xdp, "r2 = 2\ncall 44\nr0 = 2\nexit", &plain), b"ffffFFFFFF\x08\x00payload");
    }

    fn fate(program: ProgramType, value: i32, redirect: Option<Redirect>) -> Fate {
        Outcome { program, attach: None, len: 100, value, redirect }.fate()
    }

    #[test]
    fn every_type_has_its_own_verdicts() {
        use ProgramType as P;
        let pass = Fate::Pass { len: 100 };
        for (program, value, expected) in [
            (P::Xdp, 0, Fate::Drop),
            (P::Xdp, 2, pass),
            (P::Xdp, 3, Fate::SendBack),
            (P::Xdp, 4, Fate::Drop),
            (P::Xdp, 77, Fate::Drop),
            (P::SchedCls, -1, pass),
            (P::SchedCls, 0, pass),
            (P::SchedCls, 2, Fate::Drop),
            (P::SchedCls, 7, Fate::Drop),
            (P::SchedCls, 77, pass),
            (P::SocketFilter, 0, Fate::Drop),
            (P::SocketFilter, 60, Fate::Pass { len: 60 }),
            (P::SocketFilter, -1, pass),
            (P::CgroupSkb, 0, Fate::Drop),
            (P::CgroupSkb, 3, pass),
            (P::LwtXmit, 2, Fate::Drop),
        ] {
            assert_eq!(fate(program, value, None), expected, "{program} {value}");
        }
        let target = Some(Redirect::Interface { ifindex: 3, flags: 0 });
        assert_eq!(fate(P::Xdp, 4, target), Fate::Redirect);
        assert_eq!(fate(P::SchedCls, 7, target), Fate::Redirect);
    }
}
