//! Packets as XDP programs (`struct xdp_md`) and others (`struct __sk_buff`) see them: bytes and how they came in -> context.
//!
//! The fields hold what `BPF_PROG_TEST_RUN` puts into them (`net/bpf/test_run.c`): the protocol from the Ethernet header,
//! the packet type from the destination address, family and addresses of the hooks of cgroups from the IP header.
//!
//! Limits: a VLAN tag stays in the packet unless [`Arrival::vlan`] says that the receiver took it out. No packet belongs to a
//! socket, so `sk` is null and ports are 0.

use super::{Access, Context, Start, Unsupported, supported};
use crate::context::support::Needs;
use crate::packet::{Kind, Packet};
use skep_abi::{AttachType, ProgramType};
use std::io;

/// Where the fields of `struct xdp_md` are.
pub(crate) mod xdp_md {
    pub(crate) const DATA: usize = 0;
    pub(crate) const DATA_END: usize = 4;
    pub(crate) const DATA_META: usize = 8;
}

/// Where the fields of `struct __sk_buff` are.
pub(crate) mod sk_buff {
    pub(crate) const LEN: usize = 0;
    pub(crate) const PKT_TYPE: usize = 4;
    pub(crate) const PROTOCOL: usize = 16;
    pub(crate) const VLAN_PRESENT: usize = 20;
    pub(crate) const VLAN_TCI: usize = 24;
    pub(crate) const VLAN_PROTO: usize = 28;
    pub(crate) const HASH: usize = 68;
    pub(crate) const DATA: usize = 76;
    pub(crate) const DATA_END: usize = 80;
    pub(crate) const DATA_META: usize = 140;
    pub(crate) const TSTAMP: usize = 152;
    pub(crate) const GSO_SEGS: usize = 164;
    pub(crate) const GSO_SIZE: usize = 176;
    pub(crate) const TSTAMP_TYPE: usize = 180;
}

const ETHERNET_HEADER: usize = 14;

/// Ethernet types, and the two that stand for frames that have none.
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
const NOVELL: u16 = 1;
const LLC: u16 = 4;

/// What stands in front of the network header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LinkHeader {
    /// An Ethernet header, which says what follows.
    #[default]
    Ethernet,
    /// Another header, or none.
    Other {
        /// Its bytes.
        len: u16,
        /// What follows, as an Ethernet type (0x0800 is IPv4).
        protocol: u16,
    },
}

/// How a packet came in: what is known of it beside its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// What it begins with.
    pub link: LinkHeader,
    /// Number of the interface.
    pub ifindex: u32,
    /// Number of the interface that it first came in by, where that is another (`__sk_buff.ingress_ifindex`).
    pub ingress_ifindex: u32,
    /// The receive queue.
    pub queue: u32,
    /// The interface's own Ethernet address: decides whether the packet is for this host.
    pub address: [u8; 6],
    /// When it came in, nanoseconds since 1970; 0 where nobody asked for the time.
    pub time_ns: u64,
    /// When the interface saw it, by the interface's clock.
    pub hardware_time_ns: u64,
    /// How long it was on the wire; 0 for as long as it is.
    pub wire_len: u32,
    /// The mark that something before the program has given it.
    pub mark: u32,
    /// Its priority.
    pub priority: u32,
    /// Its flow hash, 0 for none.
    pub hash: u32,
    /// The notes of the layer that the program is called from.
    pub cb: [u32; 5],
    /// A VLAN tag that the receiver has taken out of the packet: protocol (0x8100, 0x88a8) and tag.
    pub vlan: Option<(u16, u16)>,
    /// How many packets of segmentation offload it stands for.
    pub gso_segments: u32,
    /// Bytes of data in each of them; 0 for a packet without segmentation offload.
    pub gso_size: u32,
}

impl Default for Arrival {
    /// An Ethernet packet on interface 1 (`lo`) whose address is all zeros, as for `BPF_PROG_TEST_RUN`.
    fn default() -> Arrival {
        Arrival {
            link: LinkHeader::Ethernet,
            ifindex: 1,
            ingress_ifindex: 0,
            queue: 0,
            address: [0; 6],
            time_ns: 0,
            hardware_time_ns: 0,
            wire_len: 0,
            mark: 0,
            priority: 0,
            hash: 0,
            cb: [0; 5],
            vlan: None,
            gso_segments: 0,
            gso_size: 0,
        }
    }
}

/// A packet that no program can be given.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The program does not run on packets.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A program that runs on something else.
    #[error("programs of type {} do not run on packets", .0.short_name())]
    NoPacket(ProgramType),
    /// Its link-layer header is cut.
    #[error("a packet of {len} bytes; its link-layer header alone has {header}")]
    Short {
        /// Bytes it has.
        len: usize,
        /// Bytes it needs.
        header: usize,
    },
    /// There is no memory for it.
    #[error("make room for a packet: {0}")]
    Room(#[from] io::Error),
}

/// What follows an Ethernet header. Source: `eth_type_trans`.
fn ethernet_type(packet: &[u8]) -> u16 {
    let word = |at: usize| packet.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| u16::from_be_bytes(*bytes));
    match word(12) {
        Some(protocol) if protocol >= 0x600 => protocol,
        _ if word(ETHERNET_HEADER) == Some(0xffff) => NOVELL,
        _ => LLC,
    }
}

/// `PACKET_HOST` 0, `PACKET_BROADCAST` 1, `PACKET_MULTICAST` 2, `PACKET_OTHERHOST` 3.
fn packet_type(packet: &[u8], address: [u8; 6]) -> u32 {
    match packet.first_chunk::<6>() {
        Some(to) if *to == address => 0,
        Some([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) => 1,
        Some([first, ..]) if first & 1 != 0 => 2,
        Some(_) => 3,
        None => 0,
    }
}

impl Context<'_> {
    /// A context for a program that runs on packets, with room for those of up to `capacity` bytes; it has none yet, see
    /// [`Context::set_packet`].
    ///
    /// # Errors
    /// A program that does not run on packets, and where there is no memory below 4 GB.
    pub fn packet_hook(
        program: ProgramType,
        attach: Option<AttachType>,
        capacity: usize,
    ) -> Result<Context<'static>, PacketError> {
        let Needs::Packet(_) = supported(program, attach)? else { return Err(PacketError::NoPacket(program)) };
        let access = skep_abi::context::access(program, attach).ok_or(PacketError::NoPacket(program))?;
        let bytes = vec![0; access.context.size.into()];
        let mut packet = Packet::with_capacity(capacity)?;
        packet.kind = if program == ProgramType::Xdp { Kind::Xdp } else { Kind::Skb };
        packet.writable =
            matches!(program, ProgramType::Xdp | ProgramType::SchedCls | ProgramType::SchedAct | ProgramType::LwtXmit);
        Ok(Context::of_bytes(&bytes, Access::Fields(access)).with_packet(packet))
    }

    /// Puts a packet into a context made by [`Context::packet_hook`], in place of the one before, and fills in every field.
    /// `outgoing` says for hooks of cgroups which of its addresses is the local one.
    ///
    /// # Errors
    /// A packet without a whole link-layer header, and one larger than the room there is.
    pub fn set_packet(
        &mut self,
        bytes: &[u8],
        start: Start,
        outgoing: bool,
        arrival: &Arrival,
    ) -> Result<(), PacketError> {
        let Some(packet) = &mut self.packet else { return Err(PacketError::NoPacket(ProgramType::Unspec)) };
        let header = match arrival.link {
            LinkHeader::Ethernet => ETHERNET_HEADER,
            LinkHeader::Other { len, .. } => len.into(),
        };
        if bytes.len() < header {
            return Err(PacketError::Short { len: bytes.len(), header });
        }
        packet.set(bytes)?;
        if packet.kind == Kind::Xdp {
            self.fill_xdp(arrival);
            return Ok(());
        }
        packet.skb.network = packet.skb.mac + header as u32;
        if start == Start::Network {
            packet.begin_at(packet.skb.network);
        }
        self.fill_skb(bytes, header, outgoing, arrival);
        Ok(())
    }

    /// Writes where the packet's metadata, data and end are; for XDP after [`Packet::set_metadata`].
    pub fn update_packet_fields(&mut self) {
        let Some(packet) = &self.packet else { return };
        let (meta, data, end) = (packet.data_meta(), packet.data(), packet.data_end());
        let places = match packet.kind {
            Kind::Xdp => [xdp_md::DATA_META, xdp_md::DATA, xdp_md::DATA_END],
            _ => [sk_buff::DATA_META, sk_buff::DATA, sk_buff::DATA_END],
        };
        for (off, value) in places.into_iter().zip([meta, data, end]) {
            self.put(off, &value.to_ne_bytes());
        }
    }

    /// All of `struct xdp_md`.
    fn fill_xdp(&mut self, arrival: &Arrival) {
        let Some(packet) = &self.packet else { return };
        let words =
            [pair(packet.data(), packet.data_end()), pair(packet.data_meta(), arrival.ifindex), pair(arrival.queue, 0)];
        self.fill(&words);
    }

    /// All of `struct __sk_buff`: the words in their order, two fields in each.
    fn fill_skb(&mut self, bytes: &[u8], header: usize, outgoing: bool, arrival: &Arrival) {
        let Some(packet) = &self.packet else { return };
        let len = packet.len();
        let (protocol, kind) = match arrival.link {
            LinkHeader::Ethernet => (ethernet_type(bytes), packet_type(bytes, arrival.address)),
            LinkHeader::Other { protocol, .. } => (protocol, 0),
        };
        let wire_len = if arrival.wire_len == 0 { len } else { arrival.wire_len };
        let (vlan_present, vlan_tci, vlan_proto) = match arrival.vlan {
            Some((protocol, tag)) => (1, u32::from(tag), u32::from(protocol.to_be())),
            None => (0, 0, 0),
        };
        let ends = Ends::of(protocol, bytes.get(header..).unwrap_or_default(), outgoing);
        let [cb0, cb1, cb2, cb3, cb4] = arrival.cb;
        let ([remote0, remote1, remote2, remote3], [local0, local1, local2, local3]) =
            (ends.remote_ip6, ends.local_ip6);
        let words = [
            pair(len, kind),
            pair(arrival.mark, arrival.queue),
            pair(protocol.to_be().into(), vlan_present),
            pair(vlan_tci, vlan_proto),
            pair(arrival.priority, arrival.ingress_ifindex),
            pair(arrival.ifindex, 0),
            pair(cb0, cb1),
            pair(cb2, cb3),
            pair(cb4, arrival.hash),
            pair(0, packet.data()),
            pair(packet.data_end(), 0),
            pair(ends.family, ends.remote_ip4),
            pair(ends.local_ip4, remote0),
            pair(remote1, remote2),
            pair(remote3, local0),
            pair(local1, local2),
            pair(local3, 0),
            pair(0, packet.data_meta()),
            0,
            arrival.time_ns,
            pair(wire_len, arrival.gso_segments),
            0,
            pair(arrival.gso_size, 0),
            arrival.hardware_time_ns,
        ];
        self.fill(&words);
    }
}

/// Two fields that stand in one word.
fn pair(first: u32, second: u32) -> u64 {
    let (low, high) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
    u64::from(low) | u64::from(high) << 32
}

/// Who a packet is from and for, as a hook of a cgroup sees it; addresses are as in the packet.
#[derive(Default)]
struct Ends {
    family: u32,
    remote_ip4: u32,
    local_ip4: u32,
    remote_ip6: [u32; 4],
    local_ip6: [u32; 4],
}

impl Ends {
    /// From what begins with the network header.
    fn of(protocol: u16, network: &[u8], outgoing: bool) -> Ends {
        let mut ends = Ends::default();
        let word =
            |at: usize| network.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |w| u32::from_ne_bytes(*w));
        let (source, destination) = match (protocol, network.len()) {
            (IPV4, 20..) => (12, 16),
            (IPV6, 40..) => (8, 24),
            _ => (0, 0),
        };
        let (local, remote) = if outgoing { (source, destination) } else { (destination, source) };
        match protocol {
            IPV4 => {
                ends.family = libc::AF_INET as u32;
                if source != 0 {
                    (ends.remote_ip4, ends.local_ip4) = (word(remote), word(local));
                }
            }
            IPV6 => {
                ends.family = libc::AF_INET6 as u32;
                if source != 0 {
                    let address = |at: usize| [word(at), word(at + 4), word(at + 8), word(at + 12)];
                    (ends.remote_ip6, ends.local_ip6) = (address(remote), address(local));
                }
            }
            _ => {}
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: [u8; 6], protocol: u16, rest: &[u8]) -> Vec<u8> {
        [&to[..], &[2; 6], &protocol.to_be_bytes(), rest].concat()
    }

    #[test]
    fn the_ethernet_header_says_what_follows() {
        for (protocol, rest, expected) in [
            (0x0800, &[0; 4][..], IPV4),
            (0x05ff, &[0; 4], LLC),
            (0x0010, &[0xff; 4], NOVELL),
            (0x0010, &[0xff], LLC),
            (0x8100, &[], 0x8100),
        ] {
            assert_eq!(ethernet_type(&frame([0; 6], protocol, rest)), expected, "{protocol:#x}");
        }
    }

    #[test]
    fn the_destination_says_whom_it_is_for() {
        for (to, expected) in [([9; 6], 0), ([0xff; 6], 1), ([1, 0, 0x5e, 0, 0, 1], 2), ([8; 6], 3)] {
            assert_eq!(packet_type(&frame(to, IPV4, &[]), [9; 6]), expected, "{to:?}");
        }
    }

    #[test]
    fn every_field_is_that_of_the_packet_at_hand() {
        let mut context = Context::packet_hook(ProgramType::CgroupSkb, None, 1500).unwrap();
        let mut ip = [0u8; 20];
        ip[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let bytes = frame([0; 6], IPV4, &ip);
        let arrival = Arrival { mark: 5, vlan: Some((0x8100, 7)), ..Arrival::default() };
        context.set_packet(&bytes, Start::Network, true, &arrival).unwrap();
        let field = |context: &Context, name| context.field(name).unwrap();
        for (name, expected) in [
            ("len", 20),
            ("mark", 5),
            ("vlan_present", 1),
            ("vlan_tci", 7),
            ("protocol", u64::from(IPV4.to_be())),
            ("family", 2),
            ("local_ip4", u64::from(u32::from_ne_bytes([10, 0, 0, 1]))),
            ("remote_ip4", u64::from(u32::from_ne_bytes([10, 0, 0, 2]))),
            ("wire_len", 20),
            ("ifindex", 1),
        ] {
            assert_eq!(field(&context, name), expected, "{name}");
        }
        assert_eq!(context.packet().unwrap().bytes(), ip);
        context.set_packet(&frame([0; 6], 0x0806, &[]), Start::Link, false, &Arrival::default()).unwrap();
        for (name, expected) in [("len", 14), ("mark", 0), ("vlan_present", 0), ("family", 0), ("local_ip4", 0)] {
            assert_eq!(field(&context, name), expected, "{name}");
        }
    }

    #[test]
    fn a_packet_without_a_whole_header_is_refused() {
        let mut context = Context::packet_hook(ProgramType::SchedCls, None, 1500).unwrap();
        let error = context.set_packet(&[0; 13], Start::Link, false, &Arrival::default()).unwrap_err();
        assert_eq!(error.to_string(), "a packet of 13 bytes; its link-layer header alone has 14");
        let raw = Arrival { link: LinkHeader::Other { len: 0, protocol: IPV4 }, ..Arrival::default() };
        context.set_packet(&[], Start::Link, false, &raw).unwrap();
    }
}
