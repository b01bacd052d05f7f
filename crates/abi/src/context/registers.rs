//! The registers at a probe: `(x86-64, "di")` -> offset 112 in `struct pt_regs`; which hold arguments and the result.
//!
//! Sources: `arch/x86/include/asm/ptrace.h` (`struct pt_regs`), `arch/arm64/include/uapi/asm/ptrace.h`
//! (`struct user_pt_regs`, which is what probes there are given), and the calling conventions of the two.

use crate::syscalls::Arch;

/// A register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    /// The field's name in the kernel's struct; `x0` to `x30` for arm64, where that is an array.
    pub name: &'static str,
    /// Where it is, in bytes; each is 8 bytes.
    pub offset: u16,
}

/// The registers of an architecture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    /// The struct's name in C and in BTF.
    pub struct_name: &'static str,
    /// Its size in bytes, as far as programs may read it.
    pub size: u16,
    /// All of them, by offset.
    pub all: &'static [Register],
    /// Which hold a function's arguments, in order; more are on the stack.
    pub arguments: &'static [&'static str],
    /// Which hold a system call's arguments, in order.
    pub syscall_arguments: &'static [&'static str],
    /// Which holds a function's result.
    pub result: &'static str,
    /// The program counter.
    pub ip: &'static str,
    /// The stack pointer.
    pub sp: &'static str,
    /// The frame pointer.
    pub fp: &'static str,
    /// Where the return address is at a function's entry: a register, or `None` where it is the word on top of the stack.
    pub return_address: Option<&'static str>,
}

impl Registers {
    /// Where the register with this name is; on x86-64 the names of the manuals (`rdi`) are known as well.
    pub fn offset(&self, name: &str) -> Option<u16> {
        let by_name =
            |name: &str| self.all.iter().find(|register| register.name == name).map(|register| register.offset);
        by_name(name).or_else(|| name.strip_prefix('r').and_then(by_name))
    }

    /// Where the function argument with this number is, counted from 0; `None` for one on the stack.
    pub fn argument(&self, number: usize) -> Option<u16> {
        self.arguments.get(number).and_then(|name| self.offset(name))
    }
}

const fn register(name: &'static str, offset: u16) -> Register {
    Register { name, offset }
}

static X86_64: Registers = Registers {
    struct_name: "pt_regs",
    size: 168,
    all: &[
        register("r15", 0),
        register("r14", 8),
        register("r13", 16),
        register("r12", 24),
        register("bp", 32),
        register("bx", 40),
        register("r11", 48),
        register("r10", 56),
        register("r9", 64),
        register("r8", 72),
        register("ax", 80),
        register("cx", 88),
        register("dx", 96),
        register("si", 104),
        register("di", 112),
        register("orig_ax", 120),
        register("ip", 128),
        register("cs", 136),
        register("flags", 144),
        register("sp", 152),
        register("ss", 160),
    ],
    arguments: &["di", "si", "dx", "cx", "r8", "r9"],
    syscall_arguments: &["di", "si", "dx", "r10", "r8", "r9"],
    result: "ax",
    ip: "ip",
    sp: "sp",
    fp: "bp",
    return_address: None,
};

static AARCH64: Registers = Registers {
    struct_name: "user_pt_regs",
    size: 272,
    all: &[
        register("x0", 0),
        register("x1", 8),
        register("x2", 16),
        register("x3", 24),
        register("x4", 32),
        register("x5", 40),
        register("x6", 48),
        register("x7", 56),
        register("x8", 64),
        register("x9", 72),
        register("x10", 80),
        register("x11", 88),
        register("x12", 96),
        register("x13", 104),
        register("x14", 112),
        register("x15", 120),
        register("x16", 128),
        register("x17", 136),
        register("x18", 144),
        register("x19", 152),
        register("x20", 160),
        register("x21", 168),
        register("x22", 176),
        register("x23", 184),
        register("x24", 192),
        register("x25", 200),
        register("x26", 208),
        register("x27", 216),
        register("x28", 224),
        register("x29", 232),
        register("x30", 240),
        register("sp", 248),
        register("pc", 256),
        register("pstate", 264),
    ],
    arguments: &["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"],
    // The first one is kept apart in the kernel's struct (orig_x0), which programs cannot read from their context;
    // at the call's entry x0 still has it.
    syscall_arguments: &["x0", "x1", "x2", "x3", "x4", "x5"],
    result: "x0",
    ip: "pc",
    sp: "sp",
    fp: "x29",
    return_address: Some("x30"),
};

/// The registers of an architecture.
pub fn registers(arch: Arch) -> &'static Registers {
    match arch {
        Arch::X86_64 => &X86_64,
        Arch::Aarch64 => &AARCH64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_register_is_there() {
        for &arch in Arch::ALL {
            let set = registers(arch);
            let roles = [set.result, set.ip, set.sp, set.fp];
            for name in set.arguments.iter().chain(set.syscall_arguments).chain(&roles).chain(&set.return_address) {
                assert!(set.offset(name).is_some(), "{arch:?} {name}");
            }
            assert!(set.all.windows(2).all(|pair| pair[0].offset + 8 == pair[1].offset), "{arch:?}");
            assert_eq!(set.all.last().map(|last| last.offset + 8), Some(set.size));
        }
        assert_eq!(registers(Arch::X86_64).argument(0), Some(112));
        assert_eq!(registers(Arch::X86_64).offset("rdi"), Some(112));
        assert_eq!(registers(Arch::X86_64).argument(6), None);
        assert_eq!(registers(Arch::Aarch64).argument(7), Some(56));
    }
}
