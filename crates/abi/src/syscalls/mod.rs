//! System calls by number: `(x86-64, 257)` <-> `openat` <-> the kernel function `sys_openat`.
//!
//! ```
//! use skep_abi::syscalls::{Arch, by_name, by_number};
//! assert_eq!(by_number(Arch::X86_64, 257).map(|call| call.name), Some("openat"));
//! assert_eq!(by_name(Arch::Aarch64, "uname").map(|call| call.tracepoint()), Some(Some("newuname")));
//! ```
//!
//! The tables go up to 471 (7.0); a number behind their end is `None`, and shown as a number. 32-bit calls (i386, x32,
//! 32-bit Arm) are other tables and are not here: a probe that sees them must ask for the task's ABI first.

mod tables;

/// An architecture with its own table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arch {
    /// 64-bit x86: numbers of its own up to 336, the common ones from 424.
    X86_64,
    /// 64-bit Arm: the kernel's generic table, which RISC-V and LoongArch have too but for a few calls.
    Aarch64,
}

impl Arch {
    /// Both.
    pub const ALL: &'static [Arch] = &[Arch::X86_64, Arch::Aarch64];

    /// The architecture with the name that `uname -m`, Rust (`std::env::consts::ARCH`) or libbpf has for it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "x86_64" | "amd64" | "x86" => Some(Arch::X86_64),
            "aarch64" | "arm64" => Some(Arch::Aarch64),
            _ => None,
        }
    }

    /// The one this code was compiled for, `None` on an architecture without a table.
    pub fn of_this_build() -> Option<Self> {
        Self::from_name(std::env::consts::ARCH)
    }

    /// `x86_64` or `aarch64`, as `uname -m` prints.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// What stands before `sys_` in the name of a call's kernel function, where a kprobe is attached: `__x64_`.
    pub fn function_prefix(self) -> &'static str {
        match self {
            Arch::X86_64 => "__x64_",
            Arch::Aarch64 => "__arm64_",
        }
    }
}

/// One system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syscall {
    /// The number the program puts in the register.
    pub number: u32,
    /// The name in `asm/unistd.h` without `__NR_`.
    pub name: &'static str,
    /// The kernel function without its `sys_`; `None` where the number is kept but nothing answers.
    pub entry: Option<&'static str>,
}

impl Syscall {
    /// What stands after `sys_enter_` and `sys_exit_` in the name of its tracepoints: mostly the call's own name, but
    /// `newstat` for `stat`. `None` for a call that is gone.
    pub fn tracepoint(&self) -> Option<&'static str> {
        self.entry
    }

    /// The kernel function to attach a kprobe to, such as `__x64_sys_newstat`.
    pub fn function(&self, arch: Arch) -> Option<String> {
        self.entry.map(|entry| format!("{}sys_{entry}", arch.function_prefix()))
    }
}

/// Every call of an architecture, by number.
pub fn all(arch: Arch) -> &'static [Syscall] {
    match arch {
        Arch::X86_64 => tables::X86_64,
        Arch::Aarch64 => tables::AARCH64,
    }
}

/// The call with this number.
pub fn by_number(arch: Arch, number: u32) -> Option<&'static Syscall> {
    let table = all(arch);
    table.binary_search_by_key(&number, |call| call.number).ok().and_then(|index| table.get(index))
}

/// The call with this name, or whose tracepoint has it.
pub fn by_name(arch: Arch, name: &str) -> Option<&'static Syscall> {
    let table = all(arch);
    table.iter().find(|call| call.name == name).or_else(|| table.iter().find(|call| call.entry == Some(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_names_come_once() {
        for &arch in Arch::ALL {
            let table = all(arch);
            assert!(table.windows(2).all(|pair| pair[0].number < pair[1].number), "{arch:?}");
            for call in table {
                assert_eq!(by_name(arch, call.name), Some(call));
                assert_eq!(by_number(arch, call.number), Some(call));
            }
        }
        assert_eq!(by_number(Arch::X86_64, 400), None);
        assert_eq!(by_name(Arch::Aarch64, "open"), None);
    }

    #[test]
    fn common_numbers_agree_between_architectures() {
        for call in all(Arch::X86_64).iter().filter(|call| call.number >= 424) {
            assert_eq!(by_number(Arch::Aarch64, call.number).map(|other| other.name), Some(call.name));
        }
    }
}
