//! The flag bits of the interface, one module a place where they are passed, each with its names as a table.
//!
//! ```
//! use skep_abi::flags::{self, map_create};
//! let flags = map_create::BPF_F_NO_PREALLOC | map_create::BPF_F_RDONLY_PROG | 1 << 40;
//! assert_eq!(flags::names(map_create::ALL, flags), "BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG | 0x10000000000");
//! ```
//!
//! The same bit means different things in different places, so a name is only ever looked up in its own table.
//! Sources: `include/uapi/linux/bpf.h`, `include/uapi/linux/if_link.h`.

use crate::KernelVersion;

/// A flag bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag {
    /// The name in the kernel's header.
    pub name: &'static str,
    /// The bit.
    pub bit: u64,
    /// The first kernel that knows it.
    pub since: KernelVersion,
}

/// The bits of `flags` by name, joined with ` | `, those without a name as one hexadecimal number; `0` for none.
pub fn names(table: &[Flag], flags: u64) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = flags;
    for flag in table.iter().filter(|flag| flags & flag.bit == flag.bit) {
        parts.push(flag.name.to_owned());
        rest &= !flag.bit;
    }
    if rest != 0 {
        parts.push(format!("{rest:#x}"));
    }
    if parts.is_empty() { "0".to_owned() } else { parts.join(" | ") }
}

/// The flag with this name; the prefixes `BPF_F_`, `BPF_` and `XDP_FLAGS_` may be left out, case does not matter.
pub fn by_name<'a>(table: &'a [Flag], name: &str) -> Option<&'a Flag> {
    table.iter().find(|flag| {
        let short = ["BPF_F_", "XDP_FLAGS_", "BPF_"].iter().find_map(|prefix| flag.name.strip_prefix(prefix));
        flag.name.eq_ignore_ascii_case(name) || short.is_some_and(|short| short.eq_ignore_ascii_case(name))
    })
}

macro_rules! flags {
    ($(#[$doc:meta])* $module:ident { $($name:ident = $bit:expr, ($major:literal, $minor:literal), $what:literal;)* }) => {
        $(#[$doc])*
        pub mod $module {
            use super::{Flag, KernelVersion};
            $(#[doc = concat!($what, " Since ", $major, ".", $minor, ".")] pub const $name: u64 = $bit;)*
            /// All of them, lowest bit first.
            pub static ALL: &[Flag] =
                &[$(Flag { name: stringify!($name), bit: $name, since: KernelVersion::new($major, $minor) },)*];
        }
    };
}

flags! {
    /// `map_flags` of `BPF_MAP_CREATE`.
    map_create {
        BPF_F_NO_PREALLOC = 1 << 0, (4, 6), "Elements are allocated when they come (hash), not when the map is made.";
        BPF_F_NO_COMMON_LRU = 1 << 1, (4, 10), "Each CPU has an LRU list of its own.";
        BPF_F_NUMA_NODE = 1 << 2, (4, 14), "`numa_node` says where the memory is to be.";
        BPF_F_RDONLY = 1 << 3, (4, 15), "System calls through this descriptor may only read.";
        BPF_F_WRONLY = 1 << 4, (4, 15), "System calls through this descriptor may only write.";
        BPF_F_STACK_BUILD_ID = 1 << 5, (4, 17), "A stack map holds build ids and file offsets instead of addresses.";
        BPF_F_ZERO_SEED = 1 << 6, (5, 0), "The hash seed is 0: for tests that need the same order each time.";
        BPF_F_RDONLY_PROG = 1 << 7, (5, 2), "Programs may only read.";
        BPF_F_WRONLY_PROG = 1 << 8, (5, 2), "Programs may only write.";
        BPF_F_CLONE = 1 << 9, (5, 4), "A socket made by accept(2) takes over the listener's storage.";
        BPF_F_MMAPABLE = 1 << 10, (5, 5), "The map's memory can be mapped into a process.";
        BPF_F_PRESERVE_ELEMS = 1 << 11, (5, 10), "Perf events stay in the array when the descriptor that put them there closes.";
        BPF_F_INNER_MAP = 1 << 12, (5, 10), "An inner array may have another size than the template.";
        BPF_F_LINK = 1 << 13, (6, 4), "A struct_ops map is put to use by a link, not by an update.";
        BPF_F_PATH_FD = 1 << 14, (6, 5), "`BPF_OBJ_PIN` and `BPF_OBJ_GET`: the path is relative to `path_fd`.";
        BPF_F_VTYPE_BTF_OBJ_FD = 1 << 15, (6, 9), "`value_type_btf_obj_fd` names the module whose BTF has the struct_ops type.";
        BPF_F_TOKEN_FD = 1 << 16, (6, 9), "`map_token_fd` is given.";
        BPF_F_SEGV_ON_FAULT = 1 << 17, (6, 9), "A user access to an arena page that is not there is SIGSEGV.";
        BPF_F_NO_USER_CONV = 1 << 18, (6, 9), "No user address is computed for an arena pointer.";
        BPF_F_RB_OVERWRITE = 1 << 19, (6, 19), "A full ring buffer drops its oldest record instead of the newest.";
    }
}

flags! {
    /// `prog_flags` of `BPF_PROG_LOAD`.
    prog_load {
        BPF_F_STRICT_ALIGNMENT = 1 << 0, (4, 12), "The verifier checks alignment as if the machine had no unaligned access.";
        BPF_F_ANY_ALIGNMENT = 1 << 1, (5, 0), "The verifier does not check alignment.";
        BPF_F_TEST_RND_HI32 = 1 << 2, (5, 3), "For tests: upper halves that no one reads are filled at random.";
        BPF_F_TEST_STATE_FREQ = 1 << 3, (5, 4), "For tests: the verifier keeps a state at every instruction.";
        BPF_F_SLEEPABLE = 1 << 4, (5, 10), "The program may sleep.";
        BPF_F_XDP_HAS_FRAGS = 1 << 5, (5, 18), "The program knows packets in several buffers.";
        BPF_F_XDP_DEV_BOUND_ONLY = 1 << 6, (6, 3), "Bound to one device (`prog_ifindex`) for its metadata functions.";
        BPF_F_TEST_REG_INVARIANTS = 1 << 7, (6, 8), "For tests: a register whose bounds contradict each other is an error.";
        BPF_F_TOKEN_FD = 1 << 16, (6, 9), "`prog_token_fd` is given.";
    }
}

flags! {
    /// `attach_flags` of `BPF_PROG_ATTACH`, `flags` of the links of cgroups, tcx and netkit.
    attach {
        BPF_F_ALLOW_OVERRIDE = 1 << 0, (4, 10), "A cgroup below may have a program of its own instead of this.";
        BPF_F_ALLOW_MULTI = 1 << 1, (4, 15), "Several programs stand side by side, and those of cgroups above run too.";
        BPF_F_REPLACE = 1 << 2, (5, 6), "`replace_bpf_fd` goes, this comes.";
        BPF_F_BEFORE = 1 << 3, (6, 6), "In front of the program or link that `relative_fd` names, or of all.";
        BPF_F_AFTER = 1 << 4, (6, 6), "Behind the program or link that `relative_fd` names, or of all.";
        BPF_F_ID = 1 << 5, (6, 6), "`relative_id`, not a descriptor.";
        BPF_F_PREORDER = 1 << 6, (6, 15), "Runs on the way down the cgroup tree, before the programs of cgroups below.";
        BPF_F_LINK = 1 << 13, (6, 6), "What is given relative to is a link, not a program.";
    }
}

flags! {
    /// `query_flags` of `BPF_PROG_QUERY`.
    query {
        BPF_F_QUERY_EFFECTIVE = 1 << 0, (4, 15), "What runs for the cgroup, not only what is attached to it.";
    }
}

flags! {
    /// `flags` of a kprobe_multi link.
    kprobe_multi {
        BPF_F_KPROBE_MULTI_RETURN = 1 << 0, (5, 18), "At the functions' return.";
    }
}

flags! {
    /// `flags` of a uprobe_multi link.
    uprobe_multi {
        BPF_F_UPROBE_MULTI_RETURN = 1 << 0, (6, 6), "At the functions' return.";
    }
}

flags! {
    /// `flags` of a netfilter link.
    netfilter {
        BPF_F_NETFILTER_IP_DEFRAG = 1 << 0, (6, 6), "The program sees whole packets: fragments are put together first.";
    }
}

flags! {
    /// `flags` of an XDP link and of the netlink message. Source: `include/uapi/linux/if_link.h`.
    xdp {
        XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0, (4, 10), "Fail where a program is attached already.";
        XDP_FLAGS_SKB_MODE = 1 << 1, (4, 12), "In the network stack: works with every driver, after the socket buffer is made.";
        XDP_FLAGS_DRV_MODE = 1 << 2, (4, 12), "In the driver.";
        XDP_FLAGS_HW_MODE = 1 << 3, (4, 13), "In the card.";
        XDP_FLAGS_REPLACE = 1 << 4, (5, 7), "Only where the program named as expected is attached.";
    }
}

flags! {
    /// `flags` of `BPF_MAP_UPDATE_ELEM` and of the helper of the same name: one of the first two, or neither.
    map_update {
        BPF_NOEXIST = 1, (3, 19), "Only where the key is not there.";
        BPF_EXIST = 2, (3, 19), "Only where the key is there.";
        BPF_F_LOCK = 4, (5, 1), "The value is read or written under its own spin lock.";
        BPF_F_CPU = 8, (7, 0), "Of a per-CPU map, only the value of the CPU in the upper half of the flags.";
        BPF_F_ALL_CPUS = 16, (7, 0), "Of a per-CPU map, the one value given for every CPU.";
    }
}

flags! {
    /// `flags` of `BPF_PROG_TEST_RUN`.
    test_run {
        BPF_F_TEST_RUN_ON_CPU = 1 << 0, (5, 10), "On the CPU that `cpu` names.";
        BPF_F_TEST_XDP_LIVE_FRAMES = 1 << 1, (5, 18), "XDP: the frames are really sent and passed on.";
        BPF_F_TEST_SKB_CHECKSUM_COMPLETE = 1 << 2, (6, 12), "The socket buffer comes with a checksum over all of it.";
    }
}

flags! {
    /// `flags` of `bpf_ringbuf_output`, `_submit` and `_discard`.
    ringbuf {
        BPF_RB_NO_WAKEUP = 1 << 0, (5, 8), "The reader is not woken.";
        BPF_RB_FORCE_WAKEUP = 1 << 1, (5, 8), "The reader is woken even when it is behind.";
    }
}

flags! {
    /// `flags` of `bpf_get_stackid` and `bpf_get_stack`; the low eight bits are how many frames to skip.
    stack {
        BPF_F_USER_STACK = 1 << 8, (4, 6), "The stack of the process, not of the kernel.";
        BPF_F_FAST_STACK_CMP = 1 << 9, (4, 6), "Stacks are the same when their hashes are.";
        BPF_F_REUSE_STACKID = 1 << 10, (4, 6), "A stack with the same hash is overwritten.";
        BPF_F_USER_BUILD_ID = 1 << 11, (4, 18), "Build ids and file offsets instead of addresses.";
    }
}

flags! {
    /// `flags` of `bpf_redirect`, `bpf_redirect_map` and their kin.
    redirect {
        BPF_F_INGRESS = 1 << 0, (4, 4), "To the device's input, not its output.";
        BPF_F_BROADCAST = 1 << 3, (5, 14), "XDP: to every device in the map.";
        BPF_F_EXCLUDE_INGRESS = 1 << 4, (5, 14), "XDP: to every device in the map but the one it came from.";
    }
}

/// The mask in the flags of `bpf_perf_event_output` that says into which place of the array; all ones is this CPU's.
pub const BPF_F_INDEX_MASK: u64 = 0xffff_ffff;
/// This CPU's place of a perf event array, for `bpf_perf_event_output`.
pub const BPF_F_CURRENT_CPU: u64 = BPF_F_INDEX_MASK;
/// How many bytes of the packet follow the record, in the flags of `bpf_perf_event_output` from a packet program.
pub const BPF_F_CTXLEN_MASK: u64 = 0xf_ffff << 32;
/// The low bits of the stack helpers' flags: frames to skip.
pub const BPF_F_SKIP_FIELD_MASK: u64 = 0xff;
/// `flags` of the `*_storage_get` helpers: make the element where there is none. Since 5.2.
pub const BPF_LOCAL_STORAGE_GET_F_CREATE: u64 = 1;
/// The bits of [`map_create`] that a descriptor has, not a map: what `BPF_OBJ_GET` takes in `file_flags`.
pub const ACCESS_FLAGS: u64 = map_create::BPF_F_RDONLY | map_create::BPF_F_WRONLY;

/// Bits in the header word of a ring buffer record. Source: `BPF_RINGBUF_BUSY_BIT` and its neighbours, `kernel/bpf/ringbuf.c`.
pub mod ringbuf_header {
    /// The record is still being written: a reader stops here.
    pub const BPF_RINGBUF_BUSY_BIT: u32 = 1 << 31;
    /// The record was discarded: a reader skips it.
    pub const BPF_RINGBUF_DISCARD_BIT: u32 = 1 << 30;
    /// Bytes of the header before each record: length and flags, then the page offset.
    pub const BPF_RINGBUF_HDR_SZ: usize = 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_table(table: &[Flag]) {
        for (index, flag) in table.iter().enumerate() {
            assert_eq!(flag.bit.count_ones(), 1, "{}", flag.name);
            assert!(table[..index].iter().all(|other| other.bit < flag.bit), "{}", flag.name);
            assert_eq!(by_name(table, flag.name), Some(flag));
            assert_eq!(names(table, flag.bit), flag.name);
        }
    }

    #[test]
    fn bits_and_names_come_once_in_each_table() {
        for table in [
            map_create::ALL,
            prog_load::ALL,
            attach::ALL,
            query::ALL,
            kprobe_multi::ALL,
            uprobe_multi::ALL,
            netfilter::ALL,
            xdp::ALL,
            map_update::ALL,
            test_run::ALL,
            ringbuf::ALL,
            stack::ALL,
            redirect::ALL,
        ] {
            check_table(table);
        }
    }

    #[test]
    fn short_names_are_found() {
        assert_eq!(by_name(map_create::ALL, "no_prealloc").map(|flag| flag.bit), Some(1));
        assert_eq!(by_name(xdp::ALL, "skb_mode").map(|flag| flag.bit), Some(2));
        assert_eq!(by_name(map_update::ALL, "noexist").map(|flag| flag.bit), Some(1));
        assert_eq!(by_name(map_create::ALL, "nosuch"), None);
        assert_eq!(names(attach::ALL, 0), "0");
    }
}
