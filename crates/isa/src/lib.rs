//! eBPF instructions: bytes, values, text.

mod raw;

pub use raw::{Endian, InsnIdx, Raw};
