//! Route netlink messages, as few as attaching takes: the classic tc hook, and which XDP program an interface has.
//!
//! A [`Message`] is written field by field and attribute by attribute; an answer is read back with [`Attributes`].
//! Own code because the netlink crates have no attributes for BPF classifiers. Source: rtnetlink(7),
//! `include/uapi/linux/{netlink,rtnetlink,pkt_cls,if_link}.h`.
//!
//! Limits: one question at a time, answers up to 64 KiB a datagram.

use crate::error::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::os::fd::OwnedFd;

/// Flags of a request. Source: `NLM_F_*`.
pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
pub(crate) const ECHO: u16 = 8;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;

/// Message types. Source: `RTM_*`.
pub(crate) const GET_LINK: u16 = 18;
pub(crate) const NEW_QDISC: u16 = 36;
pub(crate) const DEL_QDISC: u16 = 37;
pub(crate) const NEW_FILTER: u16 = 44;
pub(crate) const DEL_FILTER: u16 = 45;
pub(crate) const GET_FILTER: u16 = 46;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;

/// A request being written.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Starts one with its fixed part (`ifinfomsg`, `tcmsg`).
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Message {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((REQUEST | flags).to_ne_bytes());
        // Sequence number and sender: one question at a time on a socket of its own needs neither.
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(fixed);
        Message { bytes }
    }

    /// Adds an attribute.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
    }

    /// Adds an attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Message)) {
        let start = self.bytes.len();
        self.put(kind, &[]);
        inside(self);
        let len = (self.bytes.len() - start) as u16;
        if let Some(place) = self.bytes.get_mut(start..start + 2) {
            place.copy_from_slice(&len.to_ne_bytes());
        }
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let len = (self.bytes.len() as u32).to_ne_bytes();
        if let Some(place) = self.bytes.get_mut(..4) {
            place.copy_from_slice(&len);
        }
        self.bytes
    }
}

/// The attributes in a piece of a message, as (kind without flags, value).
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute of a kind.
    pub(crate) fn find(mut self, wanted: u16) -> Option<&'a [u8]> {
        self.find_map(|(kind, value)| (kind == wanted).then_some(value))
    }
}

/// A route netlink socket in the network namespace of the thread that opens it; it stays in that one.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn open() -> Result<Socket, Errno> {
        let errno = |e: rustix::io::Errno| Errno(e.raw_os_error());
        let kind = SocketType::RAW;
        // NETLINK_ROUTE is protocol 0.
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, None).map_err(errno)?;
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, 0)).map_err(errno)?;
        Ok(Socket(fd))
    }

    /// Loses answers that this socket filter refuses, and waits a moment for them.
    #[cfg(test)]
    pub(crate) fn lose(&self, filter: &crate::Program) -> std::io::Result<()> {
        use std::os::fd::{AsFd, AsRawFd};
        let (timeout, moment) = (rustix::net::sockopt::Timeout::Recv, std::time::Duration::from_millis(50));
        rustix::net::sockopt::set_socket_timeout(&self.0, timeout, Some(moment))?;
        let option = crate::sys::perf::SocketOption::AttachFilter;
        crate::sys::perf::set_socket_option(self.0.as_fd(), option, filter.fd().as_raw_fd())
    }

    /// Asks, and gathers the answers: each a message type and what follows its header.
    pub(crate) fn ask(&self, message: Message) -> Result<Vec<(u16, Vec<u8>)>, Errno> {
        let errno = |e: rustix::io::Errno| Errno(e.raw_os_error());
        rustix::net::send(&self.0, &message.finish(), SendFlags::empty()).map_err(errno)?;
        let mut answers = Vec::new();
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            let received = rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::TRUNC));
            let (_, len) = received.map_err(errno)?;
            let mut rest = buffer.get(..len).ok_or(Errno(libc::EMSGSIZE))?;
            while let Some((kind, body, after)) = split(rest) {
                match kind {
                    ERROR => {
                        let code = body.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
                        return if code == 0 { Ok(answers) } else { Err(Errno(code.wrapping_neg())) };
                    }
                    DONE => return Ok(answers),
                    _ => answers.push((kind, body.to_vec())),
                }
                rest = after;
            }
        }
    }
}

/// The first message of a datagram: type, body, what follows.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..len)?;
    Some((kind, body, bytes.get(len.next_multiple_of(4)..).unwrap_or(&[])))
}

/// `struct ifinfomsg` for an interface.
fn ifinfo(ifindex: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    fixed
}

/// What XDP an interface has: mode (`IFLA_XDP_ATTACHED`: 1 native, 2 generic, 3 offloaded, 4 several) and program id.
pub(crate) fn xdp_of(ifindex: u32) -> Result<Option<(u8, u32)>, Errno> {
    const IFLA_XDP: u16 = 43;
    let answers = Socket::open()?.ask(Message::new(GET_LINK, ACK, &ifinfo(ifindex)))?;
    Ok(answers.iter().find_map(|(_, body)| {
        let xdp = Attributes(Attributes(body.get(16..)?).find(IFLA_XDP)?);
        let mode = *xdp.clone().find(2)?.first()?;
        // IFLA_XDP_PROG_ID, or the one of a mode where there are several.
        let id = [4, 5, 6, 7].iter().find_map(|kind| xdp.clone().find(*kind))?;
        let id = u32::from_ne_bytes(id.get(..4)?.try_into().ok()?);
        (mode != 0).then_some((mode, id))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let mut m = Message::new(NEW_QDISC, ACK, &[0; 20]);
        m.put(1, b"clsact\0");
        m.nest(2, |m| m.put(6, &7u32.to_ne_bytes()));
        let bytes = m.finish();
        let (kind, body, rest) = split(&bytes).expect("a message");
        assert_eq!((kind, rest.len()), (NEW_QDISC, 0));
        let attributes: Vec<_> = Attributes(&body[20..]).collect();
        assert_eq!(attributes[0], (1, &b"clsact\0"[..]));
        assert_eq!(Attributes(attributes[1].1).find(6), Some(&7u32.to_ne_bytes()[..]));
    }

    #[test]
    fn broken_answers_end() {
        assert!(split(&[1, 2, 3]).is_none());
        assert!(Attributes(&[0, 0, 1, 0, 9]).next().is_none());
        assert!(Attributes(&[200, 0, 1, 0]).next().is_none());
    }

    #[test]
    fn loopback_has_no_xdp() {
        assert_eq!(xdp_of(1), Ok(None));
    }
}
