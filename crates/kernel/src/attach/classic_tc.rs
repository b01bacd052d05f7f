//! The classic tc hook: a BPF classifier in direct-action mode at the clsact qdisc, by netlink. What kernels before 6.6,
//! which have no tcx, offer.
//!
//! Unlike a link it does not go away with the process: [`Filter::remove`], which the link's `Drop` calls, takes away the
//! filter, and the qdisc if it was made here and nothing else uses it. After SIGKILL both stay:
//! `tc filter del dev DEV ingress` removes them.
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

/// A filter that was attached here.
#[derive(Debug)]
pub(crate) struct Filter {
    /// In the network namespace that it was attached in.
    socket: Socket,
    ifindex: u32,
    direction: Direction,
    handle: u32,
    /// Priority and protocol, as `tcm_info` has them.
    info: u32,
    made_qdisc: bool,
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

/// Attaches a program.
pub(crate) fn attach(program: &Program, ifindex: u32, direction: Direction) -> Result<Filter, Errno> {
    const KIND: u16 = 1;
    const OPTIONS: u16 = 2;
    const BPF_FD: u16 = 6;
    const BPF_NAME: u16 = 7;
    const BPF_FLAGS: u16 = 8;
    const DIRECT_ACTION: u32 = 1;
    /// `ETH_P_ALL`
    const ALL_PROTOCOLS: u16 = 3;

    let socket = Socket::open()?;
    let fixed = tcmsg(ifindex, HANDLE_QDISC, PARENT_QDISC, 0);
    let mut qdisc = Message::new(netlink::NEW_QDISC, netlink::ACK | netlink::CREATE | netlink::EXCL, &fixed);
    qdisc.put(KIND, b"clsact\0");
    let made_qdisc = match socket.ask(qdisc) {
        Ok(_) => true,
        Err(errno) if errno.0 == libc::EEXIST => false,
        Err(errno) => return Err(errno),
    };
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
    let mut filter = Filter { socket, ifindex, direction, handle: 0, info: 0, made_qdisc };
    let answers = match filter.socket.ask(message) {
        Ok(answers) => answers,
        Err(errno) => {
            filter.remove_qdisc().ok();
            return Err(errno);
        }
    };
    // The echoed tcmsg: family, ifindex, handle, parent, info.
    if let Some((_, body)) = answers.iter().find(|(kind, _)| *kind == netlink::NEW_FILTER) {
        filter.handle = field(body, 8);
        filter.info = field(body, 16);
    }
    if filter.info == 0 {
        return Err(Errno(libc::EPROTO));
    }
    Ok(filter)
}

impl Filter {
    /// Takes the filter away, then the qdisc if it was made for it and is empty.
    pub(crate) fn remove(self) -> std::io::Result<()> {
        const KIND: u16 = 1;
        let fixed = tcmsg(self.ifindex, self.handle, parent(self.direction), self.info);
        let mut message = Message::new(netlink::DEL_FILTER, netlink::ACK, &fixed);
        message.put(KIND, b"bpf\0");
        let gone = self.socket.ask(message).map(drop);
        let qdisc = self.remove_qdisc();
        gone.and(qdisc).map_err(|e| std::io::Error::from_raw_os_error(e.0))
    }

    fn remove_qdisc(&self) -> Result<(), Errno> {
        if !self.made_qdisc {
            return Ok(());
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            let fixed = tcmsg(self.ifindex, 0, parent(direction), 0);
            let answers = self.socket.ask(Message::new(netlink::GET_FILTER, netlink::DUMP, &fixed))?;
            if answers.iter().any(|(kind, body)| *kind == netlink::NEW_FILTER && is_filter(body)) {
                return Ok(());
            }
        }
        let fixed = tcmsg(self.ifindex, HANDLE_QDISC, PARENT_QDISC, 0);
        self.socket.ask(Message::new(netlink::DEL_QDISC, netlink::ACK, &fixed)).map(drop)
    }
}

/// Whether a dumped entry is a filter and not the head of an empty chain.
fn is_filter(body: &[u8]) -> bool {
    body.get(20..).is_some_and(|a| Attributes(a).find(1).is_some()) && field(body, 8) != 0
}
