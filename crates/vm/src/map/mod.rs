//! Maps.

/// A map.
#[derive(Debug)]
pub struct Map;
