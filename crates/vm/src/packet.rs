//! A packet in memory below 4 GB, with room before and behind it, so that the 32-bit fields of the kernel's context structs
//! can hold its true address.
//!
//! How far a packet can grow is the kernel's own limit, that of one page for XDP and that of `SKB_MAX_ALLOC` for the rest, so
//! a helper that has no room fails here where it fails there. A packet always lies in one piece: a program sees the
//! whole of it between `data` and `data_end`, also where the kernel would spread it over several buffers (XDP packets of
//! more than 3,520 bytes, large packets of segmentation offload).
//!
//! Limits: on x86-64 the kernel gives such mappings from the gigabyte above 1 GB (`MAP_32BIT`), one for each [`Packet`];
//! where that is used up, making one is an error.
#![expect(unsafe_code, reason = "memory below 4 GB comes from mmap")]

use crate::env::Env;
use crate::fault::RegionView;
use crate::memory::RegionName;
use skep_isa::NarrowSize;
use std::io;

/// Bytes in front of a packet that `bpf_xdp_adjust_head` and `bpf_xdp_adjust_meta` can take from, but for the first
/// 40 of them. Source: `XDP_PACKET_HEADROOM`.
pub const HEADROOM: usize = 256;

/// What the kernel keeps free at the very start of the headroom. Source: `sizeof(struct xdp_frame)`.
pub(crate) const XDP_FRAME_BYTES: u32 = 40;

/// Where the first buffer of an XDP packet ends, from the start of its headroom: a page without `struct skb_shared_info`.
pub(crate) const XDP_LINEAR_END: u32 = 4096 - 320;

/// The next buffers of an XDP packet have a page each.
const XDP_FRAGMENT: u32 = 4096;

/// Bytes that a packet outside XDP may grow to. Source: `SKB_MAX_ALLOC`, four pages without `struct skb_shared_info`.
pub const MAX_GROWN_BYTES: u32 = 4 * 4096 - 320;

/// Room behind a packet of full capacity, for what helpers add to packets of segmentation offload.
const SLACK: usize = 4096;

/// Copies that one run may make by `bpf_clone_redirect`; the next gives -ENOMEM.
pub const MAX_CLONES: usize = 64;

/// What a packet is a packet of: decides what its helpers do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Kind {
    /// Of no context that is about packets.
    #[default]
    Plain,
    /// `struct xdp_md`.
    Xdp,
    /// `struct __sk_buff`.
    Skb,
}

/// What the kernel knows of checksums of a packet. Only the two states that a packet from outside can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Summed {
    /// `CHECKSUM_NONE`: nothing was checked.
    #[default]
    None,
    /// `CHECKSUM_UNNECESSARY`: so many checksums more than one were checked.
    Unnecessary(u8),
}

/// What a `struct sk_buff` holds beside the fields of `struct __sk_buff`. Places are counted from the mapping's start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Skb {
    /// The link-layer header.
    pub(crate) mac: u32,
    /// The network header.
    pub(crate) network: u32,
    /// The transport header, where something has said where it is.
    pub(crate) transport: Option<u32>,
    /// Bytes of the link-layer header as noted the last time that it changed; 0 before. Source: `skb->mac_len`.
    pub(crate) mac_len: u32,
    pub(crate) summed: Summed,
    /// `bpf_skb_adjust_room` has put another header around it.
    pub(crate) encapsulated: bool,
}

/// Where a packet is to go, as the program said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Redirect {
    /// `bpf_redirect`: to this interface.
    Interface {
        /// The interface's number.
        ifindex: u32,
        /// `BPF_F_INGRESS` (1): as if it had come in there.
        flags: u64,
    },
    /// `bpf_redirect_peer`: to the interface's peer in another network namespace.
    Peer {
        /// The interface's number.
        ifindex: u32,
    },
    /// `bpf_redirect_neigh`: out of the interface, with the addresses of its neighbour filled in.
    Neighbour {
        /// The interface's number.
        ifindex: u32,
        /// `struct bpf_redir_neigh`: the address family of the next hop and its address, if the program gave one.
        next_hop: Option<[u8; 20]>,
    },
}

/// A copy of the packet that `bpf_clone_redirect` sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cloned {
    /// The interface it was sent to.
    pub ifindex: u32,
    /// `BPF_F_INGRESS` (1): as if it had come in there.
    pub flags: u64,
    /// The packet at that moment.
    pub bytes: Vec<u8>,
}

/// A packet.
#[derive(Debug)]
pub struct Packet {
    /// Start of the mapping, below 4 GB.
    base: u32,
    /// Bytes mapped.
    capacity: u32,
    /// Start of the metadata, from `base`; at most `data`.
    meta: u32,
    /// Start of the packet, from `base`.
    data: u32,
    /// One past its last byte, from `base`.
    end: u32,
    /// The furthest that `end` has been since the packet was put in.
    reach: u32,
    /// Whether the room in front of the packet was used, so that it is not all zeros any more.
    used_headroom: bool,
    /// Whether programs may write it.
    pub(crate) writable: bool,
    pub(crate) kind: Kind,
    pub(crate) skb: Skb,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) clones: Vec<Cloned>,
}

impl Packet {
    /// Room for packets of up to `capacity` bytes, with [`HEADROOM`] before them.
    pub fn with_capacity(capacity: usize) -> io::Result<Packet> {
        let bytes = capacity
            .max(MAX_GROWN_BYTES as usize)
            .checked_add(HEADROOM + SLACK)
            .and_then(|bytes| bytes.checked_next_multiple_of(4096))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let size = u32::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        #[cfg(target_arch = "x86_64")]
        const LOW: libc::c_int = libc::MAP_32BIT;
        #[cfg(not(target_arch = "x86_64"))]
        const LOW: libc::c_int = 0;
        // SAFETY: a fresh private mapping, at no address of ours.
        let at = unsafe {
            libc::mmap(
                std::ptr::with_exposed_provenance_mut(if LOW == 0 { 0x1000_0000 } else { 0 }),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | LOW,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(base) = u32::try_from(at.expose_provenance()).ok().filter(|base| base.checked_add(size).is_some())
        else {
            // SAFETY: the mapping made above, which nothing refers to.
            unsafe { libc::munmap(at, bytes) };
            return Err(io::Error::other("no memory below 4 GB is left for packets"));
        };
        let start = HEADROOM as u32;
        Ok(Packet {
            base,
            capacity: size,
            meta: start,
            data: start,
            end: start,
            reach: start,
            used_headroom: false,
            writable: true,
            kind: Kind::Plain,
            skb: Skb { mac: start, network: start, ..Skb::default() },
            redirect: None,
            clones: Vec::new(),
        })
    }

    /// Puts a packet in, in place of the one before and all that was done to it.
    pub fn set(&mut self, bytes: &[u8]) -> io::Result<()> {
        let start = HEADROOM as u32;
        let room = self.capacity - start - SLACK as u32;
        let Some(len) = u32::try_from(bytes.len()).ok().filter(|len| *len <= room) else {
            return Err(io::Error::other(format!("a packet of {} bytes, room for {room}", bytes.len())));
        };
        if self.used_headroom {
            // SAFETY: the first `start` bytes of the mapping, which is this packet's alone.
            unsafe { self.pointer(0).write_bytes(0, HEADROOM) };
            self.used_headroom = false;
        }
        (self.meta, self.data, self.end) = (start, start, start + len);
        self.reach = self.end;
        self.skb = Skb { mac: start, network: start, ..Skb::default() };
        self.redirect = None;
        self.clones.clear();
        // SAFETY: `data..end` lies within the mapping, which is this packet's alone.
        unsafe { self.pointer(start).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Lets programs begin at this place, with the headers before it still there.
    pub(crate) fn begin_at(&mut self, place: u32) {
        if (self.data..=self.end).contains(&place) {
            (self.meta, self.data) = (place, place);
        }
    }

    /// Puts metadata directly in front of the packet, as a driver or `BPF_PROG_TEST_RUN` does: a multiple of 4 bytes,
    /// at most 216.
    pub fn set_metadata(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(len) = u32::try_from(bytes.len()).ok().filter(|len| len.is_multiple_of(4) && *len <= MAX_METADATA)
        else {
            return Err(io::Error::other(format!(
                "packet metadata of {} bytes; it must be a multiple of 4 and at most {MAX_METADATA}",
                bytes.len()
            )));
        };
        let Some(meta) = self.data.checked_sub(len).filter(|meta| *meta >= XDP_FRAME_BYTES) else {
            return Err(io::Error::other(format!(
                "there is no room for {len} bytes of metadata in front of the packet"
            )));
        };
        self.meta = meta;
        self.used_headroom |= len > 0;
        // SAFETY: `meta..data` lies within the mapping, which is this packet's alone.
        unsafe { self.pointer(meta).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Its bytes, from `data` to `data_end`.
    pub fn bytes(&self) -> &[u8] {
        self.stretch(self.data, self.end)
    }

    /// Its bytes from the link-layer header on, also where programs begin behind that.
    pub(crate) fn frame(&self) -> &[u8] {
        let start = if self.kind == Kind::Skb { self.skb.mac.min(self.data) } else { self.data };
        self.stretch(start, self.end)
    }

    /// What stands in front of it, from `data_meta` to `data`.
    pub fn metadata(&self) -> &[u8] {
        self.stretch(self.meta, self.data)
    }

    /// The address of `data`.
    pub fn data(&self) -> u32 {
        self.base + self.data
    }

    /// The address of `data_end`.
    pub fn data_end(&self) -> u32 {
        self.base + self.end
    }

    /// The address of `data_meta`.
    pub fn data_meta(&self) -> u32 {
        self.base + self.meta
    }

    /// Where the program wants it to go. It goes there if the verdict says so too.
    pub fn redirect(&self) -> Option<Redirect> {
        self.redirect
    }

    /// The copies that the program sent.
    pub fn clones(&self) -> &[Cloned] {
        &self.clones
    }

    /// Bytes from `data` to `data_end`.
    pub(crate) fn len(&self) -> u32 {
        self.end - self.data
    }

    /// The start of the packet, counted as the places in [`Skb`] are.
    pub(crate) fn start(&self) -> u32 {
        self.data
    }

    fn pointer(&self, at: u32) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut((self.base + at) as usize)
    }

    /// Bytes between two places in the mapping; empty if they are none.
    fn stretch(&self, from: u32, to: u32) -> &[u8] {
        if from >= to || to > self.capacity {
            return &[];
        }
        // SAFETY: within the mapping, which is this packet's alone; `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.pointer(from), (to - from) as usize) }
    }

    /// The same, to write.
    fn stretch_mut(&mut self, from: u32, to: u32) -> &mut [u8] {
        if from >= to || to > self.capacity {
            return &mut [];
        }
        // SAFETY: within the mapping, which is this packet's alone; `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(from), (to - from) as usize) }
    }

    /// `len` bytes at `off` in the packet, if it has them.
    pub(crate) fn part(&self, off: u64, len: u64) -> Option<&[u8]> {
        let off = usize::try_from(off).ok()?;
        self.bytes().get(off..off.checked_add(usize::try_from(len).ok()?)?)
    }

    /// The same, to write.
    pub(crate) fn part_mut(&mut self, off: u64, len: u64) -> Option<&mut [u8]> {
        let off = usize::try_from(off).ok()?;
        let end = off.checked_add(usize::try_from(len).ok()?)?;
        self.stretch_mut(self.data, self.end).get_mut(off..end)
    }

    /// `len` bytes at `off` behind a place of [`Skb`], up to the end of the packet; headers in front of `data` can be read so.
    pub(crate) fn part_from(&self, place: u32, off: u64, len: u64) -> Option<&[u8]> {
        let from = u64::from(place).checked_add(off)?;
        let to = from.checked_add(len)?;
        if to > self.end.into() {
            return None;
        }
        Some(self.stretch(u32::try_from(from).ok()?, u32::try_from(to).ok()?))
    }

    /// Where this packet's tail may go, counted as `end`. Source: `xdp_data_hard_end`, `bpf_xdp_frags_increase_tail`.
    pub(crate) fn xdp_hard_end(&self) -> u32 {
        match self.end.checked_sub(XDP_LINEAR_END) {
            None | Some(0) => XDP_LINEAR_END,
            Some(over) => XDP_LINEAR_END + over.next_multiple_of(XDP_FRAGMENT),
        }
        .min(self.capacity)
    }

    /// Moves `data_end`; new bytes are zeros. `false` if there is no such place.
    pub(crate) fn move_end(&mut self, end: u32) -> bool {
        if end < self.data || end > self.capacity {
            return false;
        }
        let old = std::mem::replace(&mut self.end, end);
        self.reach = self.reach.max(end);
        self.stretch_mut(old, end).fill(0);
        true
    }

    /// Moves `data` and the metadata before it; new bytes are what stood there. `false` if there is no such place.
    pub(crate) fn move_data(&mut self, data: u32) -> bool {
        let metadata = self.data - self.meta;
        let Some(meta) = data.checked_sub(metadata) else { return false };
        if data > self.end {
            return false;
        }
        self.used_headroom = true;
        let from = std::mem::replace(&mut self.meta, meta);
        self.data = data;
        self.copy_within(from, meta, metadata);
        true
    }

    /// Moves `data_meta`. `false` if there is no such place.
    pub(crate) fn move_meta(&mut self, meta: u32) -> bool {
        if meta > self.data {
            return false;
        }
        self.used_headroom = true;
        self.meta = meta;
        true
    }

    fn copy_within(&mut self, from: u32, to: u32, len: u32) {
        if len > 0 && from.max(to).checked_add(len).is_some_and(|end| end <= self.capacity) {
            // SAFETY: both stretches lie within the mapping, which is this packet's alone; `copy` lets them overlap.
            unsafe { self.pointer(from).copy_to(self.pointer(to), len as usize) };
        }
    }

    /// Puts `len` zeros in, `off` bytes behind its start; what is before them moves to the front, where the headers are. The
    /// places in [`Skb`] stay where their bytes are if those are behind. `false` if there is no room.
    ///
    /// Where the packet ends before, what was behind its end comes along, as in the kernel: bytes that were cut off, or zeros.
    pub(crate) fn insert(&mut self, off: u32, len: u32) -> bool {
        if !self.make_headroom(len) || off > self.capacity - self.data {
            return false;
        }
        self.used_headroom = true;
        let old = self.data;
        self.stretch_mut(self.reach, old + off).fill(0);
        self.reach = self.reach.max(old + off);
        self.data = old - len;
        self.meta = self.data;
        self.copy_within(old, self.data, off);
        self.stretch_mut(self.data + off, self.data + off + len).fill(0);
        true
    }

    /// Takes `len` bytes out, `off` bytes behind its start; what is before them moves towards the end. `false` if it has
    /// not so many.
    pub(crate) fn remove(&mut self, off: u32, len: u32) -> bool {
        if off.checked_add(len).is_none_or(|end| end > self.len()) {
            return false;
        }
        let old = self.data;
        self.data = old + len;
        self.meta = self.data;
        self.copy_within(old, self.data, off);
        true
    }

    /// Moves the whole packet towards the end of the mapping until there is so much room in front.
    fn make_headroom(&mut self, len: u32) -> bool {
        let Some(shift) = len.checked_sub(self.data) else { return true };
        if shift == 0 {
            return true;
        }
        if self.reach.checked_add(shift).is_none_or(|reach| reach > self.capacity) {
            return false;
        }
        // Headers may stand in front of `data` where a program begins at the network header.
        let first = self.skb.mac.min(self.data).min(self.meta);
        self.copy_within(first, first + shift, self.reach - first);
        for place in
            [&mut self.data, &mut self.end, &mut self.reach, &mut self.meta, &mut self.skb.mac, &mut self.skb.network]
        {
            *place += shift;
        }
        if let Some(transport) = &mut self.skb.transport {
            *transport += shift;
        }
        true
    }

    /// The part (packet or metadata) that holds the whole access: its start and length.
    pub(crate) fn holds(&self, addr: u64, size: u64) -> Option<(u64, u64)> {
        let part = |from: u32, to: u32| {
            let (start, len) = (u64::from(self.base + from), u64::from(to - from));
            let at = addr.checked_sub(start)?;
            (at.checked_add(size)? <= len).then_some((start, len))
        };
        part(self.data, self.end).or_else(|| part(self.meta, self.data))
    }

    /// For the message of a fault.
    pub(crate) fn view(&self) -> Vec<RegionView> {
        let view =
            |name, from: u32, to: u32| RegionView { name, start: (self.base + from).into(), len: (to - from).into() };
        let mut parts = vec![view(RegionName::Packet, self.data, self.end)];
        if self.meta < self.data {
            parts.push(view(RegionName::Metadata, self.meta, self.data));
        }
        parts
    }
}

/// Bytes of metadata that an XDP packet may have: what a `u8` can say, in whole words. Source: `xdp_metalen_invalid`.
pub const MAX_METADATA: u32 = 252;

/// Offsets from here on count from the network header. Source: `SKF_NET_OFF`.
const NETWORK_OFFSET: i32 = -0x10_0000;

/// Offsets from here on count from the link-layer header. Source: `SKF_LL_OFF`.
const LINK_OFFSET: i32 = -0x20_0000;

/// The packet load of classic BPF: a number in network byte order, `None` outside the packet.
pub(crate) fn load(env: &Env, off: i32, size: NarrowSize) -> Option<u32> {
    let packet = env.packet.as_ref()?;
    let len = u64::from(skep_isa::Size::from(size).bytes());
    let bytes = match off {
        0.. => packet.part(off as u64, len),
        NETWORK_OFFSET.. => packet.part_from(packet.skb.network, (off - NETWORK_OFFSET) as u64, len),
        LINK_OFFSET.. => packet.part_from(packet.skb.mac, (off - LINK_OFFSET) as u64, len),
        _ => None,
    }?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `with_capacity`, which nothing refers to any more.
        unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(self.base as usize), self.capacity as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(bytes: &[u8]) -> Packet {
        let mut packet = Packet::with_capacity(0).unwrap();
        packet.set(bytes).unwrap();
        packet
    }

    #[test]
    fn what_is_put_in_and_taken_out_lies_between_the_headers_and_the_rest() {
        let mut packet = packet(b"headrest");
        assert!(packet.insert(4, 2));
        assert_eq!(packet.bytes(), b"head\0\0rest");
        assert!(packet.remove(3, 4));
        assert_eq!(packet.bytes(), b"hearest"[..3].iter().chain(b"est").copied().collect::<Vec<_>>());
        assert!(!packet.remove(3, 4));
        assert!(packet.insert(8, 2));
        assert_eq!(packet.bytes(), b"heaest\0\0");
    }

    #[test]
    fn a_packet_moves_where_the_room_in_front_does_not_do() {
        let mut packet = packet(b"abc");
        let network = packet.skb.network - packet.start();
        assert!(packet.insert(1, 3000));
        assert_eq!((packet.len(), packet.bytes().first(), packet.bytes().last()), (3003, Some(&b'a'), Some(&b'c')));
        assert_eq!(packet.skb.network - packet.start(), network + 3000);
        assert!(!packet.insert(1, 1 << 20));
        assert_eq!(packet.len(), 3003);
    }

    #[test]
    fn the_next_packet_sees_nothing_of_the_one_before() {
        let mut packet = packet(b"abcdef");
        assert!(packet.move_data(packet.start() - 4));
        packet.part_mut(0, 4).unwrap().fill(7);
        packet.set(b"xy").unwrap();
        assert!(packet.move_data(packet.start() - 4));
        assert_eq!(packet.bytes(), b"\0\0\0\0xy");
        assert!(packet.move_end(HEADROOM as u32 + 5));
        assert_eq!(packet.bytes(), b"\0\0\0\0xy\0\0\0");
    }

    #[test]
    fn a_packet_larger_than_the_room_is_refused() {
        let mut packet = Packet::with_capacity(100_000).unwrap();
        assert!(packet.set(&vec![1; 100_000]).is_ok());
        assert!(packet.set(&vec![1; 200_000]).is_err());
        assert_eq!(packet.len(), 100_000);
        assert!(u64::from(packet.data_end()) <= u64::from(u32::MAX));
    }

    #[test]
    fn metadata_moves_with_the_start() {
        let mut packet = packet(b"abcdef");
        packet.set_metadata(b"meta").unwrap();
        assert!(packet.move_data(packet.start() + 2));
        assert_eq!((packet.metadata(), packet.bytes()), (&b"meta"[..], &b"cdef"[..]));
        for wrong in [&[0; 3][..], &[0; 256][..]] {
            assert!(packet.set_metadata(wrong).is_err());
        }
    }
}
