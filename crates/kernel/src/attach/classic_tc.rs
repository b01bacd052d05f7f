//! The classic tc hook: a BPF classifier in direct-action mode at the clsact qdisc, by netlink. What kernels before 6.6,
//! which have no tcx, offer.
//!
//! Unlike a link it does not go away with the process: dropping a [`Filter`], also one that is half made when an error ends
//! the attempt, takes away the filter, and the qdisc if it was made here and nothing else uses it. After SIGKILL, or another
//! signal that ends the process at once, both stay, unless another process takes them away: [`Leftover`] is what it has to
//! know. `skep run` starts one that waits for skep's end.
//!
//! Source: tc-bpf(8), `include/uapi/linux/pkt_cls.h`, `include/uapi/linux/pkt_sched.h`.

use super::Direction;
use crate::Program;
use crate::error::Errno;
use crate::netlink::{self, Attributes, Message, Socket};
use std::os::fd::AsRawFd;

/// `TC_H_CLSACT` with the minor numbers of its two sides; and the qdisc's own handle.
const PARENT_QDISC: u32 = 0xffff_fff1;
const HANDLE_QDISC: u32 = 0xffff_0000;

fn parent(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => 0xffff_fff2,
        Direction::Egress => 0xffff_fff3,
    }
}

/// A filter that was attached here; goes away when this is dropped.
#[derive(Debug)]
pub(crate) struct Filter {
    /// In the network namespace that it was attached in.
    socket: Socket,
    ifindex: u32,
    direction: Direction,
    /// Where it is; `None` when there is nothing to remove, yet or any more.
    place: Option<Place>,
    made_qdisc: bool,
}

/// What names a filter among those of one side of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    handle: u32,
    /// Priority and protocol, as `tcm_info` has them.
    info: u32,
}

impl Place {
    /// From a `struct tcmsg`: family, ifindex, handle, parent, info.
    fn of(body: &[u8]) -> Option<Place> {
        let place = Place { handle: field(body, 8), info: field(body, 16) };
        (place.info != 0).then_some(place)
    }
}

/// `struct tcmsg`.
fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut fixed = [0; 20];
    for (place, value) in fixed.chunks_exact_mut(4).skip(1).zip([ifindex, handle, parent, info]) {
        place.copy_from_slice(&value.to_ne_bytes());
    }
    fixed
}

fn field(body: &[u8], at: usize) -> u32 {
    body.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// Attributes of a filter (`TCA_*`) and in its options (`TCA_BPF_*`).
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
const BPF_ID: u16 = 11;

/// Attaches a program.
pub(crate) fn attach(program: &Program, ifindex: u32, direction: Direction) -> Result<Filter, Errno> {
    attach_by(Socket::open()?, program, ifindex, direction)
}

fn attach_by(socket: Socket, program: &Program, ifindex: u32, direction: Direction) -> Result<Filter, Errno> {
    const DIRECT_ACTION: u32 = 1;
    /// `ETH_P_ALL`
    const ALL_PROTOCOLS: u16 = 3;

    let fixed = tcmsg(ifindex, HANDLE_QDISC, PARENT_QDISC, 0);
    let mut qdisc = Message::new(netlink::NEW_QDISC, netlink::ACK | netlink::CREATE | netlink::EXCL, &fixed);
    qdisc.put(KIND, b"clsact\0");
    let made_qdisc = match socket.ask(qdisc) {
        Ok(_) => true,
        Err(errno) if errno.0 == libc::EEXIST => false,
        Err(errno) => return Err(errno),
    };
    // From here on, whatever ends this function undoes what was made.
    let mut filter = Filter { socket, ifindex, direction, place: None, made_qdisc };
    let id = program.id().map_err(|e| e.errno().unwrap_or(Errno(libc::EPROTO)))?;
    let before = filter.places_of(id)?;
    // Priority 0: the kernel picks one, and ECHO tells which.
    let info = u32::from(ALL_PROTOCOLS.to_be());
    let fixed = tcmsg(ifindex, 0, parent(direction), info);
    let flags = netlink::ACK | netlink::CREATE | netlink::EXCL | netlink::ECHO;
    let mut message = Message::new(netlink::NEW_FILTER, flags, &fixed);
    message.put(KIND, b"bpf\0");
    message.nest(OPTIONS, |m| {
        m.put(BPF_FD, &program.fd().as_raw_fd().to_ne_bytes());
        let mut name = program.name().as_bytes().to_vec();
        name.push(0);
        m.put(BPF_NAME, &name);
        m.put(BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
    });
    let asked = filter.socket.ask(message);
    if let Ok(answers) = &asked {
        let echo = answers.iter().find(|(kind, _)| *kind == netlink::NEW_FILTER);
        filter.place = echo.and_then(|(_, body)| Place::of(body));
    }
    if filter.place.is_none() {
        // An answer that did not arrive says nothing of what was done. This socket may still hold its rest.
        filter.socket = Socket::open()?;
        filter.place = filter.places_of(id)?.into_iter().find(|place| !before.contains(place));
    }
    match asked {
        Err(errno) => Err(errno),
        Ok(_) if filter.place.is_none() => Err(Errno(libc::EPROTO)),
        Ok(_) => Ok(filter),
    }
}

impl Filter {
    /// Takes the filter away, then the qdisc if it was made for it and is empty.
    pub(crate) fn remove(mut self) -> std::io::Result<()> {
        self.undo().map_err(|e| std::io::Error::from_raw_os_error(e.0))
    }

    fn undo(&mut self) -> Result<(), Errno> {
        let filter = match self.place.take() {
            None => Ok(()),
            Some(place) => {
                let fixed = tcmsg(self.ifindex, place.handle, parent(self.direction), place.info);
                let mut message = Message::new(netlink::DEL_FILTER, netlink::ACK, &fixed);
                message.put(KIND, b"bpf\0");
                self.socket.ask(message).map(drop)
            }
        };
        let qdisc = if std::mem::take(&mut self.made_qdisc) { self.remove_qdisc() } else { Ok(()) };
        filter.and(qdisc)
    }

    fn remove_qdisc(&self) -> Result<(), Errno> {
        for direction in [Direction::Ingress, Direction::Egress] {
            if !self.filters(direction)?.is_empty() {
                return Ok(());
            }
        }
        let fixed = tcmsg(self.ifindex, HANDLE_QDISC, PARENT_QDISC, 0);
        self.socket.ask(Message::new(netlink::DEL_QDISC, netlink::ACK, &fixed)).map(drop)
    }

    /// The filters of one side, each a `struct tcmsg` and its attributes.
    fn filters(&self, direction: Direction) -> Result<Vec<Vec<u8>>, Errno> {
        let fixed = tcmsg(self.ifindex, 0, parent(direction), 0);
        let answers = self.socket.ask(Message::new(netlink::GET_FILTER, netlink::DUMP, &fixed))?;
        let filter = |(kind, body): (u16, Vec<u8>)| (kind == netlink::NEW_FILTER && is_filter(&body)).then_some(body);
        Ok(answers.into_iter().filter_map(filter).collect())
    }

    /// Where the program with this id is on this side.
    fn places_of(&self, id: u32) -> Result<Vec<Place>, Errno> {
        let runs = |body: &Vec<u8>| {
            let options = body.get(20..).and_then(|a| Attributes(a).find(OPTIONS));
            options.and_then(|o| Attributes(o).find(BPF_ID)) == Some(&id.to_ne_bytes()[..])
        };
        Ok(self.filters(self.direction)?.iter().filter(|body| runs(body)).filter_map(|body| Place::of(body)).collect())
    }
}

/// What stays of a classic tc attachment when its owner is killed: enough for another process, in the same network
/// namespace, to take it away. As text five numbers with colons between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leftover {
    ifindex: u32,
    egress: bool,
    place: Place,
    made_qdisc: bool,
}

impl Leftover {
    /// Takes away the filter, and the qdisc if it was made for it and is empty. An error where it is gone already.
    pub fn remove(self) -> crate::Result<()> {
        let fail = |errno: Errno| {
            crate::Error::kernel("remove", format!("the tc filter on interface {}", self.ifindex), errno)
        };
        let direction = if self.egress { Direction::Egress } else { Direction::Ingress };
        let socket = Socket::open().map_err(fail)?;
        let place = Some(self.place);
        let mut filter = Filter { socket, ifindex: self.ifindex, direction, place, made_qdisc: self.made_qdisc };
        filter.undo().map_err(fail)
    }
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Leftover { ifindex, egress, place, made_qdisc } = self;
        write!(f, "{ifindex}:{}:{}:{}:{}", u8::from(*egress), place.handle, place.info, u8::from(*made_qdisc))
    }
}

impl std::str::FromStr for Leftover {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Leftover> {
        let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[ifindex, egress @ (0 | 1), handle, info, made_qdisc @ (0 | 1)]) => Ok(Leftover {
                ifindex,
                egress: egress == 1,
                place: Place { handle, info },
                made_qdisc: made_qdisc == 1,
            }),
            _ => Err(crate::Error::Invalid {
                action: "read",
                object: format!("`{text}`"),
                why: "it is not what stays of a classic tc attachment".into(),
            }),
        }
    }
}

impl Filter {
    /// What would stay after SIGKILL.
    pub(crate) fn leftover(&self) -> Option<Leftover> {
        let place = self.place?;
        let egress = matches!(self.direction, Direction::Egress);
        Some(Leftover { ifindex: self.ifindex, egress, place, made_qdisc: self.made_qdisc })
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // Nobody is left to tell: an interface that is gone by now has taken the filter with it.
        let _unheard = self.undo();
    }
}

/// Whether a dumped entry is a filter and not the head of an empty chain.
fn is_filter(body: &[u8]) -> bool {
    body.get(20..).is_some_and(|a| Attributes(a).find(KIND).is_some()) && field(body, 8) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::root;
    use crate::{LogLevel, ProgramParams};
    use skep_isa::Raw;

    fn program(prog_type: skep_abi::ProgramType, insns: &[Raw]) -> Program {
        let params = ProgramParams::new("skep_test", prog_type, insns, "GPL");
        Program::load(&params, LogLevel::None).unwrap_or_else(|e| panic!("{}: {}", e.errno, e.log))
    }

    /// A socket filter that refuses the kernel's "done" for a new filter, and lets all else pass.
    fn refuses_the_end() -> Program {
        let insn = |opcode, dst, src, off, imm| Raw { opcode, dst, src, off, imm };
        let word = |n: u16| i32::from(u16::from_be_bytes(n.to_ne_bytes()));
        const NLMSG_ERROR: u16 = 2;
        let insns = [
            insn(0xbf, 6, 1, 0, 0),
            // r0 = the message's type; then, behind its error, the type of the question
            insn(0x28, 0, 0, 0, 4),
            insn(0x55, 0, 0, 4, word(NLMSG_ERROR)),
            insn(0x28, 0, 0, 0, 24),
            insn(0x55, 0, 0, 2, word(netlink::NEW_FILTER)),
            insn(0xb7, 0, 0, 0, 0),
            insn(0x95, 0, 0, 0, 0),
            insn(0xb7, 0, 0, 0, -1),
            insn(0x95, 0, 0, 0, 0),
        ];
        program(skep_abi::ProgramType::SocketFilter, &insns)
    }

    /// The kernel makes the filter, but its answer gets lost on the way.
    #[test]
    fn an_answer_that_is_lost_leaves_nothing() {
        if !root("an_answer_that_is_lost_leaves_nothing") {
            return;
        }
        let pass = [Raw { opcode: 0xb7, ..Raw::default() }, Raw { opcode: 0x95, ..Raw::default() }];
        let program = program(skep_abi::ProgramType::SchedCls, &pass);
        // A network namespace of its own, which ends with the thread.
        let thread = std::thread::spawn(move || {
            #[expect(
                deprecated,
                reason = "its successor is unsafe for the sake of shared descriptors, which stay shared here"
            )]
            rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).expect("a network namespace");
            const LOOPBACK: u32 = 1;
            let side = Direction::Ingress;
            let socket = Socket::open().expect("socket");
            let look = Filter { socket, ifindex: LOOPBACK, direction: side, place: None, made_qdisc: false };
            let has_clsact = || {
                const GET_QDISC: u16 = 38;
                let question = Message::new(GET_QDISC, netlink::DUMP, &tcmsg(LOOPBACK, 0, 0, 0));
                let all = look.socket.ask(question).expect("qdiscs");
                all.iter().any(|(_, body)| Attributes(&body[20..]).find(KIND) == Some(b"clsact\0"))
            };
            let id = program.id().expect("id");
            for others in [0, 1] {
                // An earlier filter with the same program stays.
                let earlier = (others == 1).then(|| attach(&program, LOOPBACK, side).expect("attach"));
                let lossy = Socket::open().expect("socket");
                lossy.lose(&refuses_the_end()).expect("a socket filter");
                let error = attach_by(lossy, &program, LOOPBACK, side).expect_err("no answer");
                assert_eq!(error.0, libc::EAGAIN, "{error}");
                assert_eq!(look.places_of(id).expect("filters").len(), others);
                assert_eq!(has_clsact(), others == 1);
                drop(earlier);
                assert!(!has_clsact());
            }
        });
        thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    }
}
