//! Sockets and the addresses given to their system calls, as hooks of cgroups see them: `struct bpf_sock_addr`,
//! `struct bpf_sock`.
//!
//! Limits: the socket of an address stands behind the context and is read-only, as most of it is in the kernel too.

use super::{Access, Context, Needs, Unsupported, supported};
use skep_abi::{AttachType, ProgramType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where the fields of `struct bpf_sock_addr` are.
mod at {
    pub(super) const USER_FAMILY: usize = 0;
    pub(super) const USER_IP4: usize = 4;
    pub(super) const USER_IP6: usize = 8;
    pub(super) const USER_PORT: usize = 24;
    pub(super) const FAMILY: usize = 28;
    pub(super) const TYPE: usize = 32;
    pub(super) const PROTOCOL: usize = 36;
    pub(super) const MSG_SRC_IP4: usize = 40;
    pub(super) const MSG_SRC_IP6: usize = 44;
    pub(super) const SK: usize = 64;
    pub(super) const SIZE: usize = 72;
}

/// A socket, `struct bpf_sock`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sock {
    /// Number of the interface that it is bound to, 0 for none.
    pub bound_interface: u32,
    /// `AF_INET`, `AF_INET6`, ...
    pub family: u32,
    /// `SOCK_STREAM`, `SOCK_DGRAM`, ...
    pub kind: u32,
    /// `IPPROTO_TCP`, ...
    pub protocol: u32,
    /// `SO_MARK`.
    pub mark: u32,
    /// `SO_PRIORITY`.
    pub priority: u32,
    /// Its own address, where it has one.
    pub local: Option<SocketAddr>,
    /// The other end's, where it is connected.
    pub remote: Option<SocketAddr>,
    /// `TCP_ESTABLISHED` 1, `TCP_CLOSE` 7, ... Source: `enum bpf_tcp_state`.
    pub state: u32,
    /// The receive queue of its packets, -1 where that is not known.
    pub receive_queue: i32,
}

fn family(address: SocketAddr) -> u32 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u32
}

impl Sock {
    /// As it stands in memory.
    fn bytes(&self) -> [u8; 80] {
        let mut bytes = [0; 80];
        let mut put = |off: usize, value: &[u8]| {
            if let Some(place) = bytes.get_mut(off..off + value.len()) {
                place.copy_from_slice(value);
            }
        };
        for (place, value) in
            [self.bound_interface, self.family, self.kind, self.protocol, self.mark, self.priority].iter().enumerate()
        {
            put(4 * place, &value.to_ne_bytes());
        }
        for (address, ip4, ip6) in [(self.local, 24, 28), (self.remote, 52, 56)] {
            match address.map(|address| address.ip()) {
                Some(IpAddr::V4(ip)) => put(ip4, &ip.octets()),
                Some(IpAddr::V6(ip)) => put(ip6, &ip.octets()),
                None => {}
            }
        }
        // The kernel gives the one in the machine's byte order, the other in the network's.
        put(44, &self.local.map_or(0, |local| u32::from(local.port())).to_ne_bytes());
        put(48, &self.remote.map_or(0, |remote| remote.port()).to_be_bytes());
        put(72, &self.state.to_ne_bytes());
        put(76, &self.receive_queue.to_ne_bytes());
        bytes
    }
}

/// An address given to `bind`, `connect`, `sendmsg` or filled in by `recvmsg`, `getpeername`, `getsockname`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SockAddr {
    /// The address.
    pub address: SocketAddr,
    /// `sendmsg`: the source address, where the message says one.
    pub source: Option<IpAddr>,
    /// The socket that it is for.
    pub sock: Sock,
}

impl Context<'_> {
    /// An address for a program of type `cgroup_sock_addr` at this place.
    ///
    /// # Errors
    /// Hooks that the embedded engine does not have.
    pub fn sock_addr(attach: Option<AttachType>, given: &SockAddr) -> Result<Context<'static>, Unsupported> {
        let program = ProgramType::CgroupSockAddr;
        let access = fields(program, attach, Needs::SockAddr)?;
        let mut context = Context::of_parts(&[0; at::SIZE], access, &given.sock.bytes());
        context.put(at::USER_FAMILY, &family(given.address).to_ne_bytes());
        match given.address.ip() {
            IpAddr::V4(ip) => context.put(at::USER_IP4, &ip.octets()),
            IpAddr::V6(ip) => context.put(at::USER_IP6, &ip.octets()),
        }
        context.put(at::USER_PORT, &given.address.port().to_be_bytes());
        let sock = &given.sock;
        for (off, value) in [(at::FAMILY, sock.family), (at::TYPE, sock.kind), (at::PROTOCOL, sock.protocol)] {
            context.put(off, &value.to_ne_bytes());
        }
        match given.source {
            Some(IpAddr::V4(ip)) => context.put(at::MSG_SRC_IP4, &ip.octets()),
            Some(IpAddr::V6(ip)) => context.put(at::MSG_SRC_IP6, &ip.octets()),
            None => {}
        }
        context.point(at::SK);
        Ok(context)
    }

    /// The address as the programs that ran have changed it; `None` for another context. The upper half of the port field is
    /// not looked at, as in the kernel.
    pub fn changed_address(&self) -> Option<SocketAddr> {
        let Access::Fields(access) = self.access else { return None };
        if access.context.name != "bpf_sock_addr" {
            return None;
        }
        let bytes = self.bytes();
        let port = bytes.get(at::USER_PORT..)?.first_chunk().map(|port| u16::from_be_bytes(*port))?;
        let ip = match self.number(at::USER_FAMILY, 4)? as i32 {
            libc::AF_INET => Ipv4Addr::from(*bytes.get(at::USER_IP4..)?.first_chunk::<4>()?).into(),
            _ => Ipv6Addr::from(*bytes.get(at::USER_IP6..)?.first_chunk::<16>()?).into(),
        };
        Some(SocketAddr::new(ip, port))
    }

    /// A socket for a program of type `cgroup_sock` at this place.
    ///
    /// # Errors
    /// Hooks that the embedded engine does not have.
    pub fn sock(attach: Option<AttachType>, sock: &Sock) -> Result<Context<'static>, Unsupported> {
        let access = fields(ProgramType::CgroupSock, attach, Needs::Sock)?;
        Ok(Context::of_bytes(&sock.bytes(), access))
    }
}

fn fields(program: ProgramType, attach: Option<AttachType>, needs: Needs) -> Result<Access, Unsupported> {
    let why = "it has no such hook";
    let found = supported(program, attach)?;
    match skep_abi::context::access(program, attach).filter(|_| found == needs) {
        Some(access) => Ok(Access::Fields(access)),
        None => Err(Unsupported { program, attach, why }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, FaultKind, Vm};

    fn run(text: &str, context: &mut Context<'_>) -> Result<u64, crate::Fault> {
        let vm = Vm::new(Config::default());
        let slots = skep_isa::encode(&skep_isa::assemble(text).unwrap());
        let program = vm.load_slots("test", ProgramType::CgroupSockAddr, &slots).unwrap();
        vm.run(&program, context)
    }

    fn connecting() -> Context<'static> {
        let sock = Sock { family: 2, kind: 1, protocol: 6, mark: 9, receive_queue: -1, ..Sock::default() };
        let given = SockAddr { address: "10.1.2.3:80".parse().unwrap(), source: None, sock };
        Context::sock_addr(Some(AttachType::CgroupInet4Connect), &given).unwrap()
    }

    #[test]
    fn a_connect_hook_sees_the_address_and_can_change_it() {
        let mut context = connecting();
        // The first byte of the address, the port in host order, then another of each.
        let text = "r2 = *(u8 *)(r1 + 4)\nr3 = *(u32 *)(r1 + 24)\nr3 = be16 r3\nr4 = 16777343\n*(u32 *)(r1 + 4) = r4\n\
                    r4 = 0x901f\n*(u32 *)(r1 + 24) = r4\nr0 = r2\nr0 <<= 16\nr0 |= r3\nexit";
        assert_eq!(run(text, &mut context), Ok(10 << 16 | 80));
        assert_eq!(context.changed_address(), Some("127.0.0.1:8080".parse().unwrap()));
    }

    #[test]
    fn its_socket_can_be_read_and_not_written() {
        let mut context = connecting();
        assert_eq!(run("r1 = *(u64 *)(r1 + 64)\nr0 = *(u32 *)(r1 + 16)\nexit", &mut context), Ok(9));
        let fault = run("r1 = *(u64 *)(r1 + 64)\n*(u32 *)(r1 + 16) = 1\nexit", &mut context).unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Access(_)), "{fault}");
        assert!(fault.to_string().contains("read-only"), "{fault}");
    }

    #[test]
    fn the_other_family_is_not_to_be_read() {
        let fault = run("r0 = *(u32 *)(r1 + 8)\nexit", &mut connecting()).unwrap_err();
        assert!(fault.to_string().contains("may not read 4 bytes of bpf_sock_addr.user_ip6"), "{fault}");
    }

    #[test]
    fn a_hook_can_say_what_the_system_call_returns() {
        let mut context = connecting();
        assert_eq!(run("r1 = -13\ncall 187\nr6 = r0\ncall 186\nr0 += r6\nexit", &mut context), Ok(-13i64 as u64));
        assert_eq!(context.retval(), -13);
        assert_eq!(run("call 186\nexit", &mut context), Ok(0));
        assert_eq!(context.retval(), 0);
    }

    #[test]
    fn a_bound_socket_has_its_ports_in_both_orders() {
        let sock = Sock {
            local: Some("[::1]:80".parse().unwrap()),
            remote: Some("10.0.0.1:80".parse().unwrap()),
            ..Sock::default()
        };
        let context = Context::sock(Some(AttachType::CgroupInet6PostBind), &sock).unwrap();
        assert_eq!(context.field("src_port"), Some(80));
        assert_eq!(context.field("dst_port"), Some(u16::to_be(80).into()));
        assert_eq!(context.bytes().get(43), Some(&1));
    }
}
