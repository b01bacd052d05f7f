//! Which function stands behind which number or name.
#![expect(unsafe_code, reason = "the form in which compiled code calls helpers")]

use crate::helper::{Builtin, helper_fn};

/// Rows `number name = function`.
macro_rules! helpers {
    ($($id:literal $name:literal = $function:path;)*) => {
        &[$(Builtin { id: $id, name: $name, function: helper_fn!($function) },)*]
    };
}

/// Rows `name = function`.
macro_rules! kfuncs {
    ($($name:literal = $function:path;)*) => {
        &[$(Builtin { id: 0, name: $name, function: helper_fn!($function) },)*]
    };
}

/// By number.
static HELPERS: &[Builtin] = helpers! {
};

/// By name, sorted.
static KFUNCS: &[Builtin] = kfuncs! {
};

/// The helper with this number.
pub(super) fn by_id(id: u32) -> Option<&'static Builtin> {
    let at = HELPERS.binary_search_by_key(&id, |helper| helper.id).ok()?;
    HELPERS.get(at)
}

/// The kernel function with this name.
pub(super) fn kfunc(name: &str) -> Option<&'static Builtin> {
    let at = KFUNCS.binary_search_by_key(&name, |function| function.name).ok()?;
    KFUNCS.get(at)
}
