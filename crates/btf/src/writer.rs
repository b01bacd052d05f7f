//! Writes BTF.
use crate::{Btf, Endian, Error, Type, TypeId};
