//! Numbers that are known in part: known bits plus signed and unsigned bounds. (V2 replaces this file; V1 codes against these names.)

/// Known bits: a bit that is 1 in `mask` is unknown, else it is that of `value`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tnum {
    /// Known ones.
    pub value: u64,
    /// Unknown bits.
    pub mask: u64,
}

/// What is known of a 64-bit number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scalar {
    /// Known bits.
    pub tnum: Tnum,
    /// Least unsigned value.
    pub umin: u64,
    /// Greatest unsigned value.
    pub umax: u64,
    /// Least signed value.
    pub smin: i64,
    /// Greatest signed value.
    pub smax: i64,
    /// Bounds of the low half.
    pub u32_min: u32,
    /// Bounds of the low half.
    pub u32_max: u32,
    /// Bounds of the low half.
    pub s32_min: i32,
    /// Bounds of the low half.
    pub s32_max: i32,
}
