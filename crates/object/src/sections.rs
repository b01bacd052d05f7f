//! Section name -> [`Hook`]: what a program is and where it goes, by libbpf's conventions.
//!
//! ```
//! use skep_object::sections::hook;
//! let found = hook("fentry.s/do_unlinkat").hook;
//! assert!(found.sleepable);
//! assert_eq!(found.prog_type.short_name(), "tracing");
//! ```
//!
//! The table has every convention of libbpf up to 1.7. A row is matched as libbpf matches it: `xdp` exactly, `kprobe+`
//! exactly or with `/EXTRAS` behind it, `?` in front for a program that is loaded only when asked for.
//!
//! Two kinds of name that libbpf 1.0 stopped taking are still met in objects: those with something appended to an exact
//! name (`xdp_prog1`, `classifier/ingress`) are recognised with a warning; those that no convention knows
//! (`2/1` of iproute2's tail calls, `from-container`) get the type `Unspec`, for the caller to choose one.
//!
//! Limits: extras are split into their parts, not looked up; whether a function or tracepoint exists is for the kernel.

use skep_abi::{AttachType, ProgramType};

use crate::{Hook, Target, UprobeTarget, near};

/// How the rest of a section name is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extras {
    /// None: the name is matched as a whole.
    No,
    Tracepoint,
    RawTracepoint,
    BtfTracepoint,
    BtfFunc,
    Lsm,
    Iter,
    Kprobe {
        ret: bool,
    },
    KprobeMulti {
        ret: bool,
        session: bool,
    },
    Ksyscall {
        ret: bool,
    },
    Uprobe {
        ret: bool,
    },
    UprobeMulti {
        ret: bool,
        session: bool,
    },
    Usdt,
    StructOps,
}

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Row {
    name: &'static str,
    prog_type: ProgramType,
    attach_type: Option<AttachType>,
    extras: Extras,
    sleepable: bool,
}

const fn exact(name: &'static str, prog_type: ProgramType, attach_type: Option<AttachType>) -> Row {
    Row { name, prog_type, attach_type, extras: Extras::No, sleepable: false }
}

const fn more(name: &'static str, prog_type: ProgramType, attach_type: Option<AttachType>, extras: Extras) -> Row {
    Row { name, prog_type, attach_type, extras, sleepable: false }
}

const fn sleepable(row: Row) -> Row {
    Row { sleepable: true, ..row }
}

use AttachType as A;
use Extras as E;
use ProgramType as P;

/// The conventions. Source: `section_defs` of libbpf, `Documentation/bpf/libbpf/program_types.rst`.
static TABLE: &[Row] = &[
    exact("socket", P::SocketFilter, None),
    exact("sk_reuseport/migrate", P::SkReuseport, Some(A::SkReuseportSelectOrMigrate)),
    exact("sk_reuseport", P::SkReuseport, Some(A::SkReuseportSelect)),
    more("kprobe", P::Kprobe, None, E::Kprobe { ret: false }),
    more("kretprobe", P::Kprobe, None, E::Kprobe { ret: true }),
    more("uprobe", P::Kprobe, None, E::Uprobe { ret: false }),
    more("uretprobe", P::Kprobe, None, E::Uprobe { ret: true }),
    sleepable(more("uprobe.s", P::Kprobe, None, E::Uprobe { ret: false })),
    sleepable(more("uretprobe.s", P::Kprobe, None, E::Uprobe { ret: true })),
    more("kprobe.multi", P::Kprobe, Some(A::TraceKprobeMulti), E::KprobeMulti { ret: false, session: false }),
    more("kretprobe.multi", P::Kprobe, Some(A::TraceKprobeMulti), E::KprobeMulti { ret: true, session: false }),
    more("kprobe.session", P::Kprobe, Some(A::TraceKprobeSession), E::KprobeMulti { ret: false, session: true }),
    more("uprobe.multi", P::Kprobe, Some(A::TraceUprobeMulti), E::UprobeMulti { ret: false, session: false }),
    more("uretprobe.multi", P::Kprobe, Some(A::TraceUprobeMulti), E::UprobeMulti { ret: true, session: false }),
    more("uprobe.session", P::Kprobe, Some(A::TraceUprobeSession), E::UprobeMulti { ret: false, session: true }),
    sleepable(more(
        "uprobe.multi.s",
        P::Kprobe,
        Some(A::TraceUprobeMulti),
        E::UprobeMulti { ret: false, session: false },
    )),
    sleepable(more(
        "uretprobe.multi.s",
        P::Kprobe,
        Some(A::TraceUprobeMulti),
        E::UprobeMulti { ret: true, session: false },
    )),
    sleepable(more(
        "uprobe.session.s",
        P::Kprobe,
        Some(A::TraceUprobeSession),
        E::UprobeMulti { ret: false, session: true },
    )),
    more("ksyscall", P::Kprobe, None, E::Ksyscall { ret: false }),
    more("kretsyscall", P::Kprobe, None, E::Ksyscall { ret: true }),
    more("usdt", P::Kprobe, None, E::Usdt),
    sleepable(more("usdt.s", P::Kprobe, None, E::Usdt)),
    exact("tc/ingress", P::SchedCls, Some(A::TcxIngress)),
    exact("tc/egress", P::SchedCls, Some(A::TcxEgress)),
    exact("tcx/ingress", P::SchedCls, Some(A::TcxIngress)),
    exact("tcx/egress", P::SchedCls, Some(A::TcxEgress)),
    exact("tc", P::SchedCls, None),
    exact("classifier", P::SchedCls, None),
    exact("action", P::SchedAct, None),
    exact("netkit/primary", P::SchedCls, Some(A::NetkitPrimary)),
    exact("netkit/peer", P::SchedCls, Some(A::NetkitPeer)),
    more("tracepoint", P::Tracepoint, None, E::Tracepoint),
    more("tp", P::Tracepoint, None, E::Tracepoint),
    more("raw_tracepoint", P::RawTracepoint, None, E::RawTracepoint),
    more("raw_tp", P::RawTracepoint, None, E::RawTracepoint),
    more("raw_tracepoint.w", P::RawTracepointWritable, None, E::RawTracepoint),
    more("raw_tp.w", P::RawTracepointWritable, None, E::RawTracepoint),
    more("tp_btf", P::Tracing, Some(A::TraceRawTp), E::BtfTracepoint),
    more("fentry", P::Tracing, Some(A::TraceFentry), E::BtfFunc),
    more("fmod_ret", P::Tracing, Some(A::ModifyReturn), E::BtfFunc),
    more("fexit", P::Tracing, Some(A::TraceFexit), E::BtfFunc),
    sleepable(more("fentry.s", P::Tracing, Some(A::TraceFentry), E::BtfFunc)),
    sleepable(more("fmod_ret.s", P::Tracing, Some(A::ModifyReturn), E::BtfFunc)),
    sleepable(more("fexit.s", P::Tracing, Some(A::TraceFexit), E::BtfFunc)),
    more("fsession", P::Tracing, Some(A::TraceFsession), E::BtfFunc),
    sleepable(more("fsession.s", P::Tracing, Some(A::TraceFsession), E::BtfFunc)),
    more("freplace", P::Ext, None, E::BtfFunc),
    more("lsm", P::Lsm, Some(A::LsmMac), E::Lsm),
    sleepable(more("lsm.s", P::Lsm, Some(A::LsmMac), E::Lsm)),
    more("lsm_cgroup", P::Lsm, Some(A::LsmCgroup), E::Lsm),
    more("iter", P::Tracing, Some(A::TraceIter), E::Iter),
    sleepable(more("iter.s", P::Tracing, Some(A::TraceIter), E::Iter)),
    sleepable(exact("syscall", P::Syscall, None)),
    exact("xdp.frags/devmap", P::Xdp, Some(A::XdpDevmap)),
    exact("xdp/devmap", P::Xdp, Some(A::XdpDevmap)),
    exact("xdp.frags/cpumap", P::Xdp, Some(A::XdpCpumap)),
    exact("xdp/cpumap", P::Xdp, Some(A::XdpCpumap)),
    exact("xdp.frags", P::Xdp, Some(A::Xdp)),
    exact("xdp", P::Xdp, Some(A::Xdp)),
    exact("perf_event", P::PerfEvent, None),
    exact("lwt_in", P::LwtIn, None),
    exact("lwt_out", P::LwtOut, None),
    exact("lwt_xmit", P::LwtXmit, None),
    exact("lwt_seg6local", P::LwtSeg6local, None),
    exact("sockops", P::SockOps, Some(A::CgroupSockOps)),
    exact("sk_skb/stream_parser", P::SkSkb, Some(A::SkSkbStreamParser)),
    exact("sk_skb/stream_verdict", P::SkSkb, Some(A::SkSkbStreamVerdict)),
    exact("sk_skb/verdict", P::SkSkb, Some(A::SkSkbVerdict)),
    exact("sk_skb", P::SkSkb, None),
    exact("sk_msg", P::SkMsg, Some(A::SkMsgVerdict)),
    exact("lirc_mode2", P::LircMode2, Some(A::LircMode2)),
    exact("flow_dissector", P::FlowDissector, Some(A::FlowDissector)),
    exact("cgroup_skb/ingress", P::CgroupSkb, Some(A::CgroupInetIngress)),
    exact("cgroup_skb/egress", P::CgroupSkb, Some(A::CgroupInetEgress)),
    exact("cgroup/skb", P::CgroupSkb, None),
    exact("cgroup/sock_create", P::CgroupSock, Some(A::CgroupInetSockCreate)),
    exact("cgroup/sock_release", P::CgroupSock, Some(A::CgroupInetSockRelease)),
    exact("cgroup/sock", P::CgroupSock, Some(A::CgroupInetSockCreate)),
    exact("cgroup/post_bind4", P::CgroupSock, Some(A::CgroupInet4PostBind)),
    exact("cgroup/post_bind6", P::CgroupSock, Some(A::CgroupInet6PostBind)),
    exact("cgroup/bind4", P::CgroupSockAddr, Some(A::CgroupInet4Bind)),
    exact("cgroup/bind6", P::CgroupSockAddr, Some(A::CgroupInet6Bind)),
    exact("cgroup/connect4", P::CgroupSockAddr, Some(A::CgroupInet4Connect)),
    exact("cgroup/connect6", P::CgroupSockAddr, Some(A::CgroupInet6Connect)),
    exact("cgroup/connect_unix", P::CgroupSockAddr, Some(A::CgroupUnixConnect)),
    exact("cgroup/sendmsg4", P::CgroupSockAddr, Some(A::CgroupUdp4Sendmsg)),
    exact("cgroup/sendmsg6", P::CgroupSockAddr, Some(A::CgroupUdp6Sendmsg)),
    exact("cgroup/sendmsg_unix", P::CgroupSockAddr, Some(A::CgroupUnixSendmsg)),
    exact("cgroup/recvmsg4", P::CgroupSockAddr, Some(A::CgroupUdp4Recvmsg)),
    exact("cgroup/recvmsg6", P::CgroupSockAddr, Some(A::CgroupUdp6Recvmsg)),
    exact("cgroup/recvmsg_unix", P::CgroupSockAddr, Some(A::CgroupUnixRecvmsg)),
    exact("cgroup/getpeername4", P::CgroupSockAddr, Some(A::CgroupInet4Getpeername)),
    exact("cgroup/getpeername6", P::CgroupSockAddr, Some(A::CgroupInet6Getpeername)),
    exact("cgroup/getpeername_unix", P::CgroupSockAddr, Some(A::CgroupUnixGetpeername)),
    exact("cgroup/getsockname4", P::CgroupSockAddr, Some(A::CgroupInet4Getsockname)),
    exact("cgroup/getsockname6", P::CgroupSockAddr, Some(A::CgroupInet6Getsockname)),
    exact("cgroup/getsockname_unix", P::CgroupSockAddr, Some(A::CgroupUnixGetsockname)),
    exact("cgroup/sysctl", P::CgroupSysctl, Some(A::CgroupSysctl)),
    exact("cgroup/getsockopt", P::CgroupSockopt, Some(A::CgroupGetsockopt)),
    exact("cgroup/setsockopt", P::CgroupSockopt, Some(A::CgroupSetsockopt)),
    exact("cgroup/dev", P::CgroupDevice, Some(A::CgroupDevice)),
    more("struct_ops", P::StructOps, None, E::StructOps),
    sleepable(more("struct_ops.s", P::StructOps, None, E::StructOps)),
    exact("sk_lookup", P::SkLookup, Some(A::SkLookup)),
    exact("netfilter", P::Netfilter, Some(A::Netfilter)),
];

/// A section name understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recognised {
    /// What it says; the type is [`ProgramType::Unspec`] where no convention knows the name.
    pub hook: Hook,
    /// What is odd about the name, for the person.
    pub warning: Option<String>,
}

/// The names of all conventions, `+` behind those that take extras.
pub fn names() -> impl Iterator<Item = String> {
    TABLE.iter().map(|row| if row.extras == Extras::No { row.name.to_owned() } else { format!("{}+", row.name) })
}

/// Conventions whose names are near an unknown section's, best first.
pub fn near(section: &str) -> Vec<&'static str> {
    let name = section.strip_prefix('?').unwrap_or(section);
    let found = near::nearest(name, TABLE.iter().map(|row| row.name));
    if !found.is_empty() {
        return found;
    }
    // The mistake may be in the first part, with extras behind it.
    match name.split_once('/') {
        Some((first, _)) => near::nearest(first, TABLE.iter().map(|row| row.name)),
        None => found,
    }
}

/// Reads a section name. Never fails: see [`Recognised`].
pub fn hook(section: &str) -> Recognised {
    let (name, autoload) = match section.strip_prefix('?') {
        Some(rest) => (rest, false),
        None => (section, true),
    };
    for row in TABLE {
        let Some(rest) = name.strip_prefix(row.name) else { continue };
        if rest.is_empty() {
            return recognised(row, None, autoload, section);
        }
        if row.extras != Extras::No
            && let Some(extras) = rest.strip_prefix('/')
        {
            return recognised(row, Some(extras), autoload, section);
        }
    }
    // The longest exact name that this one starts with, as libbpf matched before 1.0.
    let sloppy = TABLE
        .iter()
        .filter(|row| row.extras == Extras::No)
        .filter(|row| {
            name.strip_prefix(row.name)
                .and_then(|rest| rest.chars().next())
                .is_some_and(|c| matches!(c, '/' | '_' | '-' | '.') || c.is_ascii_digit())
        })
        .max_by_key(|row| row.name.len());
    if let Some(row) = sloppy {
        let mut found = recognised(row, None, autoload, section);
        found.warning = Some(format!(
            "section {section}: read as {}, because it starts so; libbpf 1.0 and later refuse it, so rename it to {}",
            row.name, row.name
        ));
        return found;
    }
    let near = near(section);
    let hint = if near.is_empty() { String::new() } else { format!(" (did you mean {}?)", near.join(", ")) };
    let hook = Hook {
        prog_type: ProgramType::Unspec,
        attach_type: None,
        target: Target::Unspecified,
        sleepable: false,
        xdp_frags: false,
        autoload,
    };
    let warning = format!("section {section}: no convention has this name{hint}, so its programs have no type");
    Recognised { hook, warning: Some(warning) }
}

fn recognised(row: &Row, extras: Option<&str>, autoload: bool, section: &str) -> Recognised {
    let (target, problem) = read_extras(row.extras, extras);
    Recognised {
        hook: Hook {
            prog_type: row.prog_type,
            attach_type: row.attach_type,
            target,
            sleepable: row.sleepable,
            xdp_frags: row.name.starts_with("xdp.frags"),
            autoload,
        },
        warning: problem
            .map(|form| format!("section {section}: expected {}/{form}, so it says no place to attach to", row.name)),
    }
}

/// Splits what stands behind the name into its parts. The second value is the form that was expected but not met.
fn read_extras(kind: Extras, extras: Option<&str>) -> (Target, Option<&'static str>) {
    // An empty rest (`kprobe/`) is a mistake; no rest (`kprobe`) leaves it open on purpose.
    fn whole(extras: Option<&str>) -> Result<Option<String>, ()> {
        extras.map(|text| if text.is_empty() { Err(()) } else { Ok(text.to_owned()) }).transpose()
    }
    fn parsed<T>(extras: Option<&str>, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ()> {
        extras.map(|text| read(text).ok_or(())).transpose()
    }
    fn done<T>(
        found: Result<Option<T>, ()>,
        form: &'static str,
        target: impl Fn(Option<T>) -> Target,
    ) -> (Target, Option<&'static str>) {
        match found {
            Ok(part) => (target(part), None),
            Err(()) => (target(None), Some(form)),
        }
    }
    match kind {
        Extras::No => (Target::Unspecified, None),
        Extras::Tracepoint => done(parsed(extras, two('/')), "CATEGORY/NAME", Target::Tracepoint),
        Extras::RawTracepoint => done(whole(extras), "NAME", Target::RawTracepoint),
        Extras::BtfTracepoint => done(whole(extras), "NAME", Target::BtfTracepoint),
        Extras::BtfFunc => done(whole(extras), "FUNCTION", Target::BtfFunc),
        Extras::Lsm => done(whole(extras), "HOOK", Target::Lsm),
        Extras::Iter => done(whole(extras), "KIND", Target::Iter),
        Extras::StructOps => done(whole(extras), "NAME", Target::StructOps),
        Extras::Kprobe { ret } => {
            let read = |text: &str| {
                let (func, offset) = func_and_offset(text)?;
                (!ret || offset == 0).then_some((func, offset))
            };
            let form = if ret { "FUNCTION" } else { "FUNCTION+OFFSET" };
            done(parsed(extras, read), form, |func| Target::Kprobe { func, ret })
        }
        Extras::KprobeMulti { ret, session } => {
            done(whole(extras), "PATTERN", |pattern| Target::KprobeMulti { pattern, ret, session })
        }
        Extras::Ksyscall { ret } => done(whole(extras), "NAME", |name| Target::Ksyscall { name, ret }),
        Extras::Uprobe { ret } => {
            let read = |text: &str| {
                // A path may hold a colon, a C function may not; the last one divides.
                let (binary, place) = text.rsplit_once(':')?;
                if binary.is_empty() {
                    return None;
                }
                let binary = binary.to_owned();
                if place.starts_with(|c: char| c.is_ascii_digit()) {
                    return Some(UprobeTarget { binary, func: None, offset: number(place)? });
                }
                let (func, offset) = func_and_offset(place)?;
                Some(UprobeTarget { binary, func: Some(func), offset })
            };
            done(parsed(extras, read), "PATH:FUNCTION+OFFSET", |at| Target::Uprobe { at, ret })
        }
        Extras::UprobeMulti { ret, session } => {
            done(parsed(extras, two(':')), "PATH:PATTERN", |at| Target::UprobeMulti { at, ret, session })
        }
        Extras::Usdt => {
            let read = |text: &str| {
                let (rest, name) = text.rsplit_once(':')?;
                let (path, provider) = rest.rsplit_once(':')?;
                let all = [path, provider, name];
                all.iter().all(|part| !part.is_empty()).then(|| (path.to_owned(), provider.to_owned(), name.to_owned()))
            };
            done(parsed(extras, read), "PATH:PROVIDER:NAME", Target::Usdt)
        }
    }
}

/// Reads two parts that are both there.
fn two(divider: char) -> impl Fn(&str) -> Option<(String, String)> {
    move |text| {
        let (first, second) = text.split_once(divider)?;
        (!first.is_empty() && !second.is_empty()).then(|| (first.to_owned(), second.to_owned()))
    }
}

/// `FUNC` or `FUNC+OFFSET`.
fn func_and_offset(text: &str) -> Option<(String, u64)> {
    let (func, offset) = match text.split_once('+') {
        Some((func, offset)) => (func, number(offset)?),
        None => (text, 0),
    };
    (!func.is_empty() && !func.contains('/')).then(|| (func.to_owned(), offset))
}

/// A number in C's decimal or hexadecimal form.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_row_without_extras_is_not_a_prefix() {
        assert_eq!(hook("socketX").hook.prog_type, P::Unspec);
        assert_eq!(hook("kprobeX").hook.prog_type, P::Unspec);
        assert_eq!(hook("xdp.frags").hook.prog_type, P::Xdp);
        assert!(hook("xdp.frags").hook.xdp_frags && hook("xdp.frags").warning.is_none());
    }

    #[test]
    fn near_names() {
        assert_eq!(near("kprob/foo"), ["kprobe"]);
        assert_eq!(near("tracepiont/sched/sched_switch"), ["tracepoint"]);
        assert!(near("cgroup/conect4").contains(&"cgroup/connect4"));
        assert!(near("2/1").is_empty());
    }

    proptest! {
        #[test]
        fn any_name_is_read(name in ".{0,60}") {
            let _ = hook(&name);
        }

        #[test]
        fn any_extras_are_read(row in 0..TABLE.len(), extras in "[a-z0-9_:/+.*x]{0,30}") {
            let _ = hook(&format!("{}/{extras}", TABLE[row].name));
        }
    }
}
