//! What r1 points to: the memory of the caller, or a context struct of a program type, with the packet it is about.
//!
//! ```
//! use skep_abi::ProgramType;
//! use skep_vm::context::{Arrival, PacketRunner};
//! use skep_vm::{Config, Vm};
//! // An XDP program that takes off the first 4 bytes.
//! let text = "r6 = r1\nr2 = 4\ncall 44\nr0 = 2\nexit";
//! let vm = Vm::new(Config::default());
//! let slots = skep_isa::encode(&skep_isa::assemble(text).expect("it is right"));
//! let program = vm.load_slots("strip", ProgramType::Xdp, &slots)?;
//! let mut runner = PacketRunner::new(&vm, &program, None, 1500)?;
//! let outcome = runner.run(&[7; 60], &Arrival::default())?;
//! assert_eq!((outcome.verdict(), runner.packet().len()), (Some("XDP_PASS"), 56));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Contexts stand in memory exactly as programs see them (`struct xdp_md`, `struct __sk_buff`, ...): no access needs
//! converting while a program runs. The 32-bit `data` and `data_end` hold true addresses, because packets lie below 4 GB
//! (see [`Packet`]). Which bytes may be read and written, and by which sizes, is looked up in `abi::context` when the
//! checked mode asks.
//!
//! Limits: `tc_index`, `tc_classid` and `queue_mapping` of `struct __sk_buff` keep 16 bits in the kernel. Here a program that
//! writes more reads all of it back; what is given out after the run is cut. A queue of 65,535 and above, which the kernel
//! does not take, is written like any other.

mod packets;
mod skb;
mod sock;
mod support;
mod traced;

pub use crate::packet::{Cloned, HEADROOM, MAX_CLONES, MAX_GROWN_BYTES, MAX_METADATA, Packet, Redirect};
pub use packets::{Fate, Outcome, PacketRunner, RunError};
pub use skb::{Arrival, LinkHeader, PacketError};
pub(crate) use skb::{sk_buff, xdp_md};
pub use sock::{Sock, SockAddr};
pub use support::{Needs, Start, Unsupported, supported};
pub use traced::{TypedArgument, typed_arguments};

use crate::memory::{Region, RegionName};
use std::marker::PhantomData;

/// What a program may do with its context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read any byte.
    ReadOnly,
    /// Read any byte but these first ones (the common header of a tracepoint record).
    ReadFrom(u16),
    /// Read and write any byte.
    ReadWrite,
    /// What the kernel allows programs of a type: by field and size.
    Fields(&'static skep_abi::context::Access),
}

impl Access {
    /// Whether an access of `size` bytes at `off` is allowed: the stretch of memory around it that may be used alike
    /// (none: each access must be looked at), or why not.
    pub(crate) fn allows(&self, off: u64, size: u64, write: bool) -> Result<Option<crate::env::Cached>, String> {
        match self {
            Access::ReadWrite => Ok(None),
            Access::ReadOnly if !write => Ok(None),
            Access::ReadFrom(first) if !write && off >= u64::from(*first) => Ok(None),
            Access::ReadFrom(first) if !write => {
                Err(format!("the first {first} bytes of the context are not for programs"))
            }
            Access::ReadOnly | Access::ReadFrom(_) => Err("the context is read-only".to_owned()),
            Access::Fields(access) => fields_allow(access, off, size, write).map(|()| None),
        }
    }
}

/// Looks the access up by field: as large as the field or one of its elements, or a narrower read within it.
///
/// Source: `bpf_ctx_narrow_access_ok`, `bpf_ctx_wide_access_ok`; every size at a multiple of itself.
fn fields_allow(access: &skep_abi::context::Access, off: u64, size: u64, write: bool) -> Result<(), String> {
    let context = access.context;
    let verb = if write { "write" } else { "read" };
    let mut inside = None;
    for field in context.fields {
        let (start, end) = (u64::from(field.offset), u64::from(field.offset) + u64::from(field.size));
        // A field may be read with a larger size than its own where padding follows (`dst_port` of `bpf_sock`).
        if off < start || off >= end || (off > start && off.saturating_add(size) > end) {
            continue;
        }
        inside.get_or_insert(field.name);
        let Some(allowed) = access.of(field.name) else { continue };
        let mut sizes = u64::from(if write { allowed.writes } else { allowed.reads });
        // Addresses of 16 bytes that do not start at a multiple of 8 have one inside.
        if context.name == "bpf_sock_addr" && field.size == 16 {
            sizes |= 8;
        }
        // Those of `bpf_sock` that are no addresses can be read narrower at their start only.
        if context.name == "bpf_sock" && off > start && !field.name.contains("_ip") && field.name != "dst_port" {
            continue;
        }
        let fits = off.saturating_add(size) <= end || off == start;
        if fits && size.is_power_of_two() && sizes & size != 0 && off.is_multiple_of(size) {
            return Ok(());
        }
    }
    match inside {
        Some(field) => {
            let place = off - context.field(field).map_or(0, |field| u64::from(field.offset));
            let place = if place == 0 { String::new() } else { format!(" at byte {place}") };
            let bytes = if size == 1 { "1 byte".to_owned() } else { format!("{size} bytes") };
            Err(format!("programs of this type may not {verb} {bytes}{place} of {}.{field}", context.name))
        }
        None => Err(format!("{} has no field at offset {off}", context.name)),
    }
}

/// Bytes between a context and what it points to.
const GAP: usize = 64;

/// What r1 points to in a run.
#[derive(Debug)]
pub struct Context<'a> {
    region: Region,
    second: Option<u64>,
    access: Access,
    packet: Option<Packet>,
    /// Memory that the context points to: read-only, within `owned`.
    pointee: Option<Region>,
    /// What a cgroup program's caller gets, see [`Context::retval`].
    retval: i32,
    /// The memory, where it is the context's own.
    owned: Option<Box<[u64]>>,
    borrowed: PhantomData<&'a mut [u8]>,
}

impl<'a> Context<'a> {
    /// The caller's memory: r1 is its address, r2 its length. Null and 0 where it is empty.
    pub fn memory(memory: &'a mut [u8]) -> Context<'a> {
        let len = memory.len() as u64;
        Context { second: Some(len), ..Context::caller(memory) }
    }

    /// The caller's memory as programs of type `syscall` get it: r1 is its address. Null where it is empty.
    pub fn caller(memory: &'a mut [u8]) -> Context<'a> {
        let len = memory.len() as u64;
        let start = if len == 0 { 0 } else { memory.as_mut_ptr().expose_provenance() as u64 };
        let region = Region { start, len, writable: true, name: RegionName::Memory };
        Context {
            region,
            second: None,
            access: Access::ReadWrite,
            packet: None,
            pointee: None,
            retval: 0,
            owned: None,
            borrowed: PhantomData,
        }
    }

    /// A context of these bytes, 8-byte aligned; r1 is its address.
    pub fn of_bytes(bytes: &[u8], access: Access) -> Context<'static> {
        Context::of_parts(bytes, access, &[])
    }

    /// The same, with memory behind it that it can point to. See [`Context::point`].
    fn of_parts(bytes: &[u8], access: Access, pointee: &[u8]) -> Context<'static> {
        // A gap that belongs to neither, so that what runs past the one is not in the other.
        let split = bytes.len().next_multiple_of(8) + if pointee.is_empty() { 0 } else { GAP };
        let mut owned = vec![0u64; (split + pointee.len()).div_ceil(8).max(1)].into_boxed_slice();
        put(&mut owned, 0, bytes);
        put(&mut owned, split, pointee);
        let start = owned.as_mut_ptr().expose_provenance() as u64;
        let region =
            Region { start, len: bytes.len() as u64, writable: access != Access::ReadOnly, name: RegionName::Context };
        let pointee = (!pointee.is_empty()).then_some(Region {
            start: start + split as u64,
            len: pointee.len() as u64,
            writable: false,
            name: RegionName::Context,
        });
        Context {
            region,
            second: None,
            access,
            packet: None,
            pointee,
            retval: 0,
            owned: Some(owned),
            borrowed: PhantomData,
        }
    }

    /// Makes the 8 bytes at `off` a pointer to the memory behind.
    fn point(&mut self, off: usize) {
        let target = self.pointee.as_ref().map_or(0, |region| region.start);
        self.put(off, &target.to_ne_bytes());
    }

    /// Writes its own bytes.
    fn put(&mut self, off: usize, bytes: &[u8]) {
        if let Some(owned) = &mut self.owned {
            put(owned, off, bytes);
            self.region.start = owned.as_mut_ptr().expose_provenance() as u64;
        }
    }

    /// Writes all of its own bytes.
    fn fill(&mut self, words: &[u64]) {
        if let Some(owned) = self.owned.as_mut().filter(|owned| owned.len() == words.len()) {
            owned.copy_from_slice(words);
            self.region.start = owned.as_mut_ptr().expose_provenance() as u64;
        }
    }

    /// The same about a packet.
    pub fn with_packet(mut self, packet: Packet) -> Context<'a> {
        self.packet = Some(packet);
        self
    }

    /// The packet, changed by the programs that ran.
    pub fn packet(&self) -> Option<&Packet> {
        self.packet.as_ref()
    }

    /// The packet, to put another in its place.
    pub fn packet_mut(&mut self) -> Option<&mut Packet> {
        self.packet.as_mut()
    }

    /// The context's own bytes, as changed by the programs that ran; empty for the caller's memory, which the caller has.
    pub fn bytes(&self) -> Vec<u8> {
        let words = self.owned.iter().flatten();
        words.flat_map(|word| word.to_ne_bytes()).take(self.region.len as usize).collect()
    }

    /// A field of at most 8 bytes by its name in the kernel's struct, as changed by the programs that ran; `None` for a
    /// context that has no such field.
    pub fn field(&self, name: &str) -> Option<u64> {
        let Access::Fields(access) = self.access else { return None };
        let field = access.context.field(name)?;
        let cut = matches!(name, "tc_index" | "tc_classid" | "queue_mapping") && access.context.name == "__sk_buff";
        self.number(field.offset.into(), if cut { 2 } else { field.size.into() })
    }

    /// `bpf_set_retval`: the number that a cgroup hook makes its system call return, 0 unless the program has set it.
    pub fn retval(&self) -> i32 {
        self.retval
    }

    /// A number of at most 8 bytes.
    fn number(&self, off: usize, size: usize) -> Option<u64> {
        let word = self.owned.as_ref()?.get(off / 8)?.to_ne_bytes();
        let bytes = word.get(off % 8..(off % 8).checked_add(size)?)?;
        Some(match *bytes {
            [a] => a.into(),
            [a, b] => u16::from_ne_bytes([a, b]).into(),
            [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
            _ => u64::from_ne_bytes(bytes.try_into().ok()?),
        })
    }

    /// r1 and r2 at the start.
    pub(crate) fn arguments(&self) -> [u64; 5] {
        [self.region.start, self.second.unwrap_or_default(), 0, 0, 0]
    }

    /// What a run borrows: what r1 points to, what may be done with it, and (in place of none) the packet.
    pub(crate) fn lend(&mut self, packet: &mut Option<Packet>) -> (&Region, Access) {
        std::mem::swap(&mut self.packet, packet);
        (&self.region, self.access)
    }

    /// Memory that the context points to.
    pub(crate) fn pointee(&self) -> Option<&Region> {
        self.pointee.as_ref()
    }

    /// What it gives back, with what the program set as the call's result.
    pub(crate) fn give_back(&mut self, packet: &mut Option<Packet>, retval: i32) {
        std::mem::swap(&mut self.packet, packet);
        self.retval = retval;
    }
}

/// Writes bytes into words, as many as there is room for.
fn put(words: &mut [u64], off: usize, bytes: &[u8]) {
    let (mut at, mut bytes) = (off, bytes);
    while let Some(word) = words.get_mut(at / 8).filter(|_| !bytes.is_empty()) {
        let (now, rest) = bytes.split_at(bytes.len().min(8 - at % 8));
        let mut whole = word.to_ne_bytes();
        if let Some(part) = whole.get_mut(at % 8..at % 8 + now.len()) {
            part.copy_from_slice(now);
        }
        *word = u64::from_ne_bytes(whole);
        at += now.len();
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::{AttachType, ProgramType, context};

    fn check(program: ProgramType, attach: Option<AttachType>, off: u64, size: u64, write: bool, good: bool) {
        let access = Access::Fields(context::access(program, attach).unwrap());
        let allowed = access.allows(off, size, write);
        assert_eq!(allowed.is_ok(), good, "{program} {attach:?} {off} {size} {write}: {allowed:?}");
    }

    #[test]
    fn access_is_by_field_size_and_place() {
        let tc = |off, size, write, good| check(ProgramType::SchedCls, None, off, size, write, good);
        for (off, size, write, good) in [
            (0, 4, false, true),   // len
            (0, 2, false, true),   // its lower half
            (2, 2, false, true),   // its upper half
            (3, 1, false, true),   // its last byte
            (1, 2, false, false),  // across
            (0, 8, false, false),  // with pkt_type
            (0, 4, true, false),   // len is read-only
            (8, 4, true, true),    // mark
            (8, 2, true, false),   // half of it
            (48, 8, false, true),  // cb[0..2]
            (56, 8, true, true),   // cb[2..4]
            (52, 8, false, false), // cb[1..3] is not aligned
            (64, 4, true, true),   // cb[4]
            (64, 8, false, false), // past cb
            (76, 4, false, true),  // data
            (76, 2, false, false), // half a pointer
            (88, 4, false, false), // family is not for tc
            (168, 8, false, true), // sk
            (180, 1, false, true), // tstamp_type
            (181, 1, false, false),
            (192, 4, false, false),
        ] {
            tc(off, size, write, good);
        }
    }

    #[test]
    fn access_depends_on_the_hook() {
        use AttachType as A;
        let address = |attach, off, size, write, good| {
            check(ProgramType::CgroupSockAddr, Some(attach), off, size, write, good);
        };
        address(A::CgroupInet4Connect, 4, 4, true, true);
        address(A::CgroupInet6Connect, 4, 4, true, false);
        address(A::CgroupInet6Connect, 8, 8, false, true);
        address(A::CgroupInet6Connect, 16, 8, true, true);
        address(A::CgroupInet6Connect, 12, 8, false, false);
        address(A::CgroupUdp6Sendmsg, 48, 8, false, true);
        address(A::CgroupUdp6Sendmsg, 44, 8, false, false);
        check(ProgramType::CgroupSock, Some(A::CgroupInet4PostBind), 48, 4, false, true);
        check(ProgramType::CgroupSock, Some(A::CgroupInet4PostBind), 50, 4, false, false);
    }

    #[test]
    fn bytes_are_put_across_words() {
        let mut words = [0; 2];
        put(&mut words, 6, &[1, 2, 3, 4]);
        put(&mut words, 14, &[5, 6, 7]);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 5, 6]);
    }
}
