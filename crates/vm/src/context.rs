//! What r1 points to: the memory of the caller, or a context struct of a program type, with the packet it is about.
//!
//! Contexts stand in memory exactly as programs see them (`struct xdp_md`, `struct __sk_buff`, ...): no access needs
//! converting while a program runs. The 32-bit `data` and `data_end` hold true addresses, because packets lie below 4 GB
//! (see [`Packet`]). Which bytes may be read and written, and by which sizes, is looked up in `abi::context` when the
//! checked mode asks.

use crate::memory::{Region, RegionName};
pub use crate::packet::Packet;
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
fn fields_allow(access: &skep_abi::context::Access, off: u64, size: u64, write: bool) -> Result<(), String> {
    let context = access.context;
    let verb = if write { "write" } else { "read" };
    let refuse =
        |field: &str| Err(format!("programs of this type may not {verb} {size} bytes of {}.{field}", context.name));
    let mut inside = None;
    for field in context.fields {
        let (start, end) = (u64::from(field.offset), u64::from(field.offset) + u64::from(field.size));
        if off < start || off.saturating_add(size) > end {
            continue;
        }
        inside.get_or_insert(field.name);
        let Some(allowed) = access.of(field.name) else { continue };
        let sizes = u64::from(if write { allowed.writes } else { allowed.reads });
        if sizes & size != 0 && size.is_power_of_two() && off.is_multiple_of(size) {
            return Ok(());
        }
    }
    match inside {
        Some(field) => refuse(field),
        None => Err(format!("no field of {} has {size} bytes at offset {off}", context.name)),
    }
}

/// What r1 points to in a run.
#[derive(Debug)]
pub struct Context<'a> {
    region: Region,
    second: Option<u64>,
    access: Access,
    packet: Option<Packet>,
    /// The memory, where it is the context's own.
    owned: Option<Box<[u64]>>,
    borrowed: PhantomData<&'a mut [u8]>,
}

impl<'a> Context<'a> {
    /// The caller's memory: r1 is its address, r2 its length. Null and 0 where it is empty.
    pub fn memory(memory: &'a mut [u8]) -> Context<'a> {
        let len = memory.len() as u64;
        let start = if len == 0 { 0 } else { memory.as_mut_ptr().expose_provenance() as u64 };
        let region = Region { start, len, writable: true, name: RegionName::Memory };
        Context {
            region,
            second: Some(len),
            access: Access::ReadWrite,
            packet: None,
            owned: None,
            borrowed: PhantomData,
        }
    }

    /// A context of these bytes, 8-byte aligned; r1 is its address.
    pub fn of_bytes(bytes: &[u8], access: Access) -> Context<'static> {
        let mut owned = vec![0u64; bytes.len().div_ceil(8).max(1)].into_boxed_slice();
        for (word, chunk) in owned.iter_mut().zip(bytes.chunks(8)) {
            let mut full = [0; 8];
            for (to, from) in full.iter_mut().zip(chunk) {
                *to = *from;
            }
            *word = u64::from_ne_bytes(full);
        }
        let region = Region {
            start: owned.as_mut_ptr().expose_provenance() as u64,
            len: bytes.len() as u64,
            writable: access != Access::ReadOnly,
            name: RegionName::Context,
        };
        Context { region, second: None, access, packet: None, owned: Some(owned), borrowed: PhantomData }
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

    /// r1 and r2 at the start.
    pub(crate) fn arguments(&self) -> [u64; 5] {
        [self.region.start, self.second.unwrap_or_default(), 0, 0, 0]
    }

    /// What a run borrows.
    pub(crate) fn lend(&mut self) -> (Region, Access, Option<Packet>) {
        (self.region.clone(), self.access, self.packet.take())
    }

    /// What it gives back.
    pub(crate) fn give_back(&mut self, packet: Option<Packet>) {
        self.packet = packet;
    }
}
