//! The licences under which a program may call what the kernel keeps for GPL-compatible ones.
//!
//! Source: `include/linux/license.h`. The kernel compares whole strings: `GPLv2` and `gpl` are none of them, and a
//! program with such a licence loads, without those helpers.

/// The names the kernel takes, the one most programs have first.
pub static GPL_COMPATIBLE: &[&str] =
    &["GPL", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL", "GPL v2", "GPL and additional rights"];

/// Whether the kernel takes this licence for GPL-compatible.
pub fn is_gpl_compatible(licence: &str) -> bool {
    GPL_COMPATIBLE.contains(&licence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_strings_count() {
        assert!(is_gpl_compatible("GPL") && is_gpl_compatible("Dual MIT/GPL"));
        assert!(
            !is_gpl_compatible("gpl")
                && !is_gpl_compatible("GPLv2")
                && !is_gpl_compatible("MIT")
                && !is_gpl_compatible("")
        );
    }
}
