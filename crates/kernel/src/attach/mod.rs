//! A loaded program to where its section says: [`attach`] turns a [`Hook`] and what the section name leaves open
//! ([`AttachOptions`]) into [`Link`]s, which end with their owner.
//!
//! ```no_run
//! use skep_kernel::attach::{AttachOptions, attach};
//! # fn example(program: &skep_kernel::Program, hook: &skep_object::Hook) -> Result<(), skep_kernel::attach::AttachError> {
//! let options = AttachOptions { interface: Some("veth0".into()), ..AttachOptions::default() };
//! let links = attach(program, hook, &options)?;
//! for link in &links {
//!     println!("{}", link.place());
//! }
//! # Ok(()) }
//! ```
//!
//! What the machine offers is found by trying: a link first, then what older kernels have in its place. When all attempts
//! fail nothing stays attached, and the error names the cause and what to do. Near names are looked for only then.
//!
//! Limits: struct_ops, light-weight tunnels, LIRC and USDT are refused with what they need. A `pid` narrows uprobes,
//! perf_event programs and task iterators; the kernel has no such filter for the other hooks, which see every process.
//! Sampling does not follow CPUs that come online.

pub(crate) mod classic_tc;
mod error;
mod group;
mod multi;
pub(crate) mod names;
mod net;
mod probe;
mod tracing;

pub use classic_tc::Leftover;
pub use error::{AttachError, Cause};

use crate::{Link, Program};
use error::Attempt;
use skep_abi::{AttachType, ProgramType};
use skep_object::{Hook, Target};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// What a section name leaves open. The default attaches what needs nothing more.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// Network interface by name, for XDP, tc and socket filters (these see all interfaces without one).
    pub interface: Option<String>,
    /// Directory of a version 2 cgroup; the root of them if `None`.
    pub cgroup: Option<PathBuf>,
    /// Process for uprobes (all its threads), perf_event programs (all its threads, and those that come) and task
    /// iterators. All processes if `None`.
    pub pid: Option<u32>,
    /// What a perf_event program samples. Without a `pid` on each CPU that is online now: one that comes online later, also
    /// one that was away in between, is not sampled.
    pub sampling: Sampling,
    /// How an XDP program is attached.
    pub xdp: XdpMode,
    /// How a cgroup program shares its hook with others.
    pub cgroup_mode: CgroupMode,
    /// A network namespace, such as `/run/netns/NAME` or `/proc/PID/ns/net`; this process's if `None`. Interfaces are
    /// looked up there.
    pub netns: Option<PathBuf>,
    /// Value that the program reads with `bpf_get_attach_cookie`.
    pub cookie: u64,
    /// For a tc or `cgroup/skb` section that does not say.
    pub direction: Direction,
    /// Where among the programs of a tcx hook.
    pub tcx_order: TcxOrder,
    /// The classic tc hook even where the kernel has tcx.
    pub classic_tc: bool,
    /// For netfilter programs.
    pub netfilter: Netfilter,
    /// Sock map or sock hash for `sk_msg` and `sk_skb` programs; the map for iterators over a map's elements.
    pub map: Option<Arc<OwnedFd>>,
    /// Socket whose group a `sk_reuseport` program serves.
    pub socket: Option<Arc<OwnedFd>>,
}

/// What a perf_event program samples.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sampling {
    /// An event by its perf name (`cpu-clock`, `cycles`), or a raw code of the processor (`r01c2`).
    pub event: String,
    /// When.
    pub rate: Rate,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { event: "cpu-clock".into(), rate: Rate::FrequencyHz(99) }
    }
}

/// When a sample is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// So often a second, on each CPU.
    FrequencyHz(u64),
    /// After so many events (nanoseconds for the clocks).
    Period(u64),
}

/// How an XDP program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XdpMode {
    /// In the driver, or where it can't, generic; the link's note then says so.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// After the socket buffer is made.
    Generic,
    /// On the card.
    Offload,
}

/// How a cgroup program shares its hook with others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CgroupMode {
    /// Beside the others, by a link.
    #[default]
    Multi,
    /// Alone, and a descendant's program takes its place there (`BPF_F_ALLOW_OVERRIDE`). Without a link: see
    /// [`Link::survives_kill`].
    Overridable,
    /// Alone, also below. Without a link.
    Exclusive,
}

/// Which way packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// In.
    #[default]
    Ingress,
    /// Out.
    Egress,
}

/// Where among the programs of a tcx hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TcxOrder {
    /// Behind those that are there.
    #[default]
    Last,
    /// In front of those that are there.
    First,
    /// In front of the program with this id.
    Before(u32),
    /// Behind the program with this id.
    After(u32),
}

/// Where a netfilter program goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Netfilter {
    /// IPv6 in place of IPv4.
    pub ipv6: bool,
    /// `enum nf_inet_hooks`: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub hook: u32,
    /// Order among the hook's functions; neither the lowest nor the highest number is free.
    pub priority: i32,
    /// Put fragments together first; takes a priority above -400.
    pub defragment: bool,
}

impl Default for Netfilter {
    /// IPv4 input, before the filter tables.
    fn default() -> Netfilter {
        Netfilter { ipv6: false, hook: 1, priority: -10, defragment: false }
    }
}

/// Attaches a program where its section says. A perf_event program gets a link for each CPU, everything else one.
pub fn attach(program: &Program, hook: &Hook, options: &AttachOptions) -> Result<Vec<Link>, AttachError> {
    match &hook.target {
        Target::Unspecified => by_type(program, hook, options),
        Target::Tracepoint(name) => one(tracing::tracepoint(program, name.as_ref(), options)),
        Target::RawTracepoint(name) => one(tracing::raw_tracepoint(program, name.as_deref(), options)),
        Target::BtfTracepoint(name) => one(tracing::by_btf(program, hook, "BTF tracepoint", name.as_deref(), options)),
        Target::BtfFunc(name) => {
            let kind = match (hook.prog_type, hook.attach_type) {
                (ProgramType::Ext, _) => "function of a program",
                (_, Some(AttachType::TraceFexit)) => "exit of kernel function",
                (_, Some(AttachType::ModifyReturn)) => "return value of kernel function",
                (_, Some(AttachType::TraceFsession)) => "entry and exit of kernel function",
                _ => "entry of kernel function",
            };
            one(tracing::by_btf(program, hook, kind, name.as_deref(), options))
        }
        Target::Lsm(name) if hook.attach_type == Some(AttachType::LsmCgroup) => {
            one(group::lsm(program, name.as_deref(), options))
        }
        Target::Lsm(name) => one(tracing::by_btf(program, hook, "LSM hook", name.as_deref(), options)),
        Target::Iter(kind) => one(tracing::iterator(program, kind.as_deref(), options)),
        Target::Kprobe { func, ret } => one(probe::kprobe(program, func.as_ref(), *ret, options)),
        Target::Ksyscall { name, ret } => one(probe::ksyscall(program, name.as_deref(), *ret, options)),
        Target::Uprobe { at, ret } => one(probe::uprobe(program, at.as_ref(), *ret, options)),
        Target::KprobeMulti { pattern, ret, session } => {
            one(multi::kprobes(program, pattern.as_deref(), *ret, *session, options))
        }
        Target::UprobeMulti { at, ret, session } => one(multi::uprobes(program, at.as_ref(), *ret, *session, options)),
        Target::Usdt(at) => {
            let place = match at {
                Some((path, provider, name)) => format!("USDT probe {path}:{provider}:{name}"),
                None => "a USDT probe".into(),
            };
            Err(Attempt::new(program, place)
                .unsupported("skep run does not place USDT probes", "attach a uprobe to the function around it"))
        }
        Target::StructOps(name) => {
            let place = format!("struct_ops {}", name.as_deref().unwrap_or("member"));
            Err(Attempt::new(program, place).unsupported(
                "a struct_ops program belongs into a map of its struct, which skep does not register",
                "register the object with bpftool struct_ops register",
            ))
        }
    }
}

fn one(result: Result<Link, AttachError>) -> Result<Vec<Link>, AttachError> {
    result.map(|link| vec![link])
}

/// Hooks for which the program's type says it all.
fn by_type(program: &Program, hook: &Hook, options: &AttachOptions) -> Result<Vec<Link>, AttachError> {
    use ProgramType as P;
    match hook.prog_type {
        P::PerfEvent => probe::perf_event(program, options),
        P::Xdp => one(net::xdp(program, hook.attach_type, options)),
        P::SchedCls => one(net::tc(program, hook.attach_type, options)),
        P::SocketFilter => one(net::socket_filter(program, options)),
        P::SkLookup => one(net::namespace(program, AttachType::SkLookup, options)),
        P::FlowDissector => one(net::namespace(program, AttachType::FlowDissector, options)),
        P::Netfilter => one(net::netfilter(program, options)),
        P::SkReuseport => one(net::reuseport(program, options)),
        P::SkMsg | P::SkSkb => one(net::sock_map(program, hook.attach_type, options)),
        P::CgroupSkb
        | P::CgroupSock
        | P::SockOps
        | P::CgroupDevice
        | P::CgroupSockAddr
        | P::CgroupSysctl
        | P::CgroupSockopt => one(group::attach(program, hook, options)),
        other => {
            let (why, next) = match other {
                P::SchedAct => (
                    "tc actions belong to a filter",
                    "make it SEC(\"tc\"): a classifier's return value is an action as well",
                ),
                P::LwtIn | P::LwtOut | P::LwtXmit | P::LwtSeg6local => (
                    "light-weight tunnel programs belong to a route",
                    "pin the program and use: ip route add ... encap bpf in|out|xmit pinned PATH",
                ),
                P::LircMode2 => ("it needs an infrared receiver", "attach it with ir-keytable --protocol"),
                P::Syscall => ("a syscall program is run, not attached", "run it by a test run"),
                P::Unspec => (
                    "no convention knows its section name",
                    "name the section for its hook, such as SEC(\"xdp\"); see libbpf's list of program types",
                ),
                _ => ("its section names no hook", "name the hook in SEC(), such as SEC(\"kprobe/do_unlinkat\")"),
            };
            let attempt = Attempt::new(program, format!("a {other} hook"));
            Err(match other {
                P::Unspec => attempt.usage(why, next),
                _ => attempt.unsupported(why, next),
            })
        }
    }
}
