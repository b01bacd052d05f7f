//! Captures: the packets in a file -> one after the other, with time, interface and link type; and back into a file.
//!
//! ```
//! use skep_vm::source::packets::{Format, Interface, LinkType, Packet, Reader, Writer};
//! let mut file = Vec::new();
//! let ethernet = Interface::new(LinkType::ETHERNET);
//! let mut writer = Writer::new("out.pcap", &mut file, Format::Pcap);
//! writer.write(&ethernet, &Packet { interface: 0, ticks: Some(1_000_000_500), original_length: 60, data: &[0; 60] })?;
//! writer.finish()?;
//!
//! let mut reader = Reader::new("out.pcap", &file[..])?;
//! let packet = reader.next_packet()?.ok_or("no packet")?;
//! assert_eq!((packet.data.len(), packet.truncated()), (60, false));
//! assert_eq!(ethernet.time_ns(&packet), Some(1_000_000_500));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Read are pcap (microseconds, nanoseconds, either byte order, the variant of old Linux distributions) and pcapng (packets of
//! the enhanced, simple and the old kind, any number of sections and interfaces, any time resolution); blocks of other kinds
//! are passed over. A file is read as a stream, so its size does not matter and a pipe will do.
//!
//! Limits: a block or packet of more than [`MAX_BLOCK_BYTES`] and more than [`MAX_INTERFACES`] interfaces are errors; memory
//! grows with what is really there, not with what a length in the file says. Malformed input is an error that names the file,
//! the byte and the cause; the packets before it have been given out.
//!
//! This is code of our own since the crates there are would not have spared it: what matters here (offsets in errors, short
//! reads from pipes, limits before allocation) lies in the part around the few fields that they would parse.

mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

use std::fmt;
use std::io;

/// The longest block or packet, as for libpcap.
pub const MAX_BLOCK_BYTES: usize = 16 << 20;

/// How many interfaces a capture may have, over all its sections.
pub const MAX_INTERFACES: usize = 65_536;

/// A file format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// The older one: one link type, one time resolution.
    Pcap,
    /// The newer one.
    PcapNg,
}

impl Format {
    /// The one that a file's name says: `.pcapng` or `.ntar` the newer, `.pcap`, `.cap` or `.dmp` the older.
    pub fn from_name(name: &str) -> Option<Format> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "pcapng" | "ntar" => Some(Format::PcapNg),
            "pcap" | "cap" | "dmp" => Some(Format::Pcap),
            _ => None,
        }
    }
}

/// What a packet begins with, a `LINKTYPE_` number of the tcpdump group's registry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback: a protocol family in 4 bytes.
    pub const NULL: LinkType = LinkType(0);
    /// Ethernet frames.
    pub const ETHERNET: LinkType = LinkType(1);
    /// IPv4 or IPv6, by the first four bits.
    pub const RAW: LinkType = LinkType(101);
    /// "Linux cooked", from `tcpdump -i any`: 16 bytes in place of the link's own header.
    pub const LINUX_SLL: LinkType = LinkType(113);
    /// IPv4.
    pub const IPV4: LinkType = LinkType(228);
    /// IPv6.
    pub const IPV6: LinkType = LinkType(229);
    /// The second version of it: 20 bytes.
    pub const LINUX_SLL2: LinkType = LinkType(276);

    /// A name for messages.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            LinkType::NULL => "BSD loopback",
            LinkType::ETHERNET => "Ethernet",
            LinkType::RAW => "raw IP",
            LinkType::LINUX_SLL => "Linux cooked",
            LinkType::IPV4 => "raw IPv4",
            LinkType::IPV6 => "raw IPv6",
            LinkType::LINUX_SLL2 => "Linux cooked (v2)",
            LinkType(105) => "802.11",
            LinkType(127) => "802.11 with radiotap",
            LinkType(189 | 220) => "USB",
            _ => return None,
        })
    }

    /// Where the network header begins in a packet and its protocol as an Ethernet type (what `skb->protocol` holds in
    /// network byte order); `None` for a link type that is not known here and a packet too short to tell.
    pub fn network(self, packet: &[u8]) -> Option<(usize, u16)> {
        const IPV4: u16 = 0x0800;
        const IPV6: u16 = 0x86dd;
        let word = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?));
        match self {
            LinkType::ETHERNET => Some((14, word(12)?)),
            LinkType::LINUX_SLL => Some((16, word(14)?)),
            LinkType::LINUX_SLL2 => Some((20, word(0)?)),
            LinkType::IPV4 => Some((0, IPV4)),
            LinkType::IPV6 => Some((0, IPV6)),
            LinkType::RAW => match packet.first()? >> 4 {
                4 => Some((0, IPV4)),
                6 => Some((0, IPV6)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether an XDP program can run on such packets.
    ///
    /// # Errors
    /// All but Ethernet: that is what the kernel gives to XDP programs.
    pub fn for_xdp(self) -> Result<(), NotEthernet> {
        if self == LinkType::ETHERNET { Ok(()) } else { Err(NotEthernet(self)) }
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "link type {}", self.0),
        }
    }
}

/// Packets that an XDP program cannot be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "XDP programs are given Ethernet frames, but these packets are {0}; run a tc or socket filter program on them, or capture \
     on one Ethernet interface (not `-i any`)"
)]
pub struct NotEthernet(pub LinkType);

/// Where packets were captured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// What its packets begin with.
    pub link: LinkType,
    /// Longer packets were cut to this length; 0 is no limit.
    pub snap_length: u32,
    /// Its name, which only pcapng has.
    pub name: Option<String>,
    /// The unit of its times.
    pub resolution: Resolution,
    /// Seconds to be added to its times.
    pub offset_s: i64,
}

impl Interface {
    /// One with nanoseconds, no name and no limit of length.
    pub fn new(link: LinkType) -> Interface {
        Interface { link, snap_length: 0, name: None, resolution: Resolution::NANO, offset_s: 0 }
    }

    /// When a packet was captured, in nanoseconds since 1970; `None` if it does not say, or not within 1970 to 2554.
    pub fn time_ns(&self, packet: &Packet<'_>) -> Option<u64> {
        let per_second = u128::from(self.resolution.per_second());
        let ns = u128::from(packet.ticks?) * 1_000_000_000 / per_second;
        let ns = i128::try_from(ns).ok()?.checked_add(i128::from(self.offset_s) * 1_000_000_000)?;
        u64::try_from(ns).ok()
    }
}

/// A unit of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// 10 to the minus this many seconds, at most 19.
    Decimal(u8),
    /// 2 to the minus this many seconds, at most 63.
    Binary(u8),
}

impl Resolution {
    /// Microseconds.
    pub const MICRO: Resolution = Resolution::Decimal(6);
    /// Nanoseconds.
    pub const NANO: Resolution = Resolution::Decimal(9);

    /// From the byte that pcapng has; `None` for a finer one than 64 bits can count.
    pub fn from_byte(byte: u8) -> Option<Resolution> {
        match byte {
            0..=19 => Some(Resolution::Decimal(byte)),
            0x80..=0xbf => Some(Resolution::Binary(byte & 0x7f)),
            _ => None,
        }
    }

    /// The byte that pcapng has.
    pub fn byte(self) -> u8 {
        match self {
            Resolution::Decimal(digits) => digits,
            Resolution::Binary(bits) => bits | 0x80,
        }
    }

    /// How many there are in a second.
    pub fn per_second(self) -> u64 {
        match self {
            Resolution::Decimal(digits) => 10u64.saturating_pow(digits.into()),
            Resolution::Binary(bits) => 1u64.checked_shl(bits.into()).unwrap_or(u64::MAX),
        }
    }
}

/// A packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// Where it was captured: the index in [`Reader::interfaces`].
    pub interface: u32,
    /// When, in units of the interface; `None` if the file does not say. See [`Interface::time_ns`].
    pub ticks: Option<u64>,
    /// How long it was on the wire.
    pub original_length: u32,
    /// What was captured of it.
    pub data: &'a [u8],
}

impl Packet<'_> {
    /// Whether less was captured than there was.
    pub fn truncated(&self) -> bool {
        self.data.len() < self.original_length as usize
    }

    /// The same packet with changed bytes: its original length grows and shrinks by as much.
    pub fn with_data<'b>(&self, data: &'b [u8]) -> Packet<'b> {
        let missing = (self.original_length as usize).saturating_sub(self.data.len());
        let original_length = u32::try_from(data.len().saturating_add(missing)).unwrap_or(u32::MAX);
        Packet { original_length, data, ..*self }
    }
}

/// A capture that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be opened.
    #[error("open {name}: {source}")]
    #[expect(missing_docs, reason = "plain")]
    Open { name: String, source: io::Error },
    /// Reading failed.
    #[error("read {name}: at byte {offset}: {source}")]
    #[expect(missing_docs, reason = "plain")]
    Read { name: String, offset: u64, source: io::Error },
    /// What is there is not a capture, or damaged.
    #[error("read {name}: at byte {offset}: {cause}")]
    #[expect(missing_docs, reason = "plain")]
    Malformed { name: String, offset: u64, cause: String },
    /// Writing failed.
    #[error("write {name}: {source}")]
    #[expect(missing_docs, reason = "plain")]
    Write { name: String, source: io::Error },
    /// The packet cannot be put into a file of this format.
    #[error("write {name}: packet {number}: {cause}")]
    #[expect(missing_docs, reason = "plain")]
    Unwritable { name: String, number: u64, cause: String },
}

#[cfg(test)]
mod tests;
