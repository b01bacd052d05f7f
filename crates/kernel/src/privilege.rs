//! Why the kernel says "not permitted", and what to do about it.
//!
//! Since 5.8 loading takes CAP_BPF, tracing CAP_PERFMON besides, networking CAP_NET_ADMIN; CAP_SYS_ADMIN has them all.
//! Source: `capabilities(7)`.

use skep_abi::ProgramType;

/// The capabilities that BPF work needs, by bit.
const CAPS: [(u32, &str); 4] = [(39, "CAP_BPF"), (38, "CAP_PERFMON"), (12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// The effective capabilities of this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Reads them from `/proc/self/status`; none if that can't be read.
    pub fn current() -> Capabilities {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Capabilities(field(&status, "CapEff:").and_then(|v| u64::from_str_radix(v, 16).ok()).unwrap_or(0))
    }

    /// Whether `CAP_...` is there; CAP_SYS_ADMIN stands for those that were split from it.
    pub fn has(self, name: &str) -> bool {
        let bit = |wanted: &str| CAPS.iter().any(|(bit, n)| *n == wanted && self.0 >> bit & 1 == 1);
        bit(name) || (matches!(name, "CAP_BPF" | "CAP_PERFMON") && bit("CAP_SYS_ADMIN"))
    }

    /// Those of `wanted` that are missing.
    pub fn missing<'a>(self, wanted: &[&'a str]) -> Vec<&'a str> {
        wanted.iter().copied().filter(|name| !self.has(name)).collect()
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim)
}

/// What a program type needs.
pub fn needed(prog_type: Option<ProgramType>) -> &'static [&'static str] {
    use ProgramType as P;
    match prog_type {
        Some(
            P::Kprobe
            | P::Tracepoint
            | P::PerfEvent
            | P::RawTracepoint
            | P::RawTracepointWritable
            | P::Tracing
            | P::Lsm
            | P::StructOps
            | P::Ext,
        ) => &["CAP_BPF", "CAP_PERFMON"],
        Some(P::SocketFilter | P::CgroupSkb | P::Syscall) | None => &["CAP_BPF"],
        Some(_) => &["CAP_BPF", "CAP_NET_ADMIN"],
    }
}

/// What is missing and how to get it, after an `EPERM`.
pub fn diagnose(wanted: &[&str]) -> (String, String) {
    cause(wanted).unwrap_or_else(|| {
        (
            "the kernel refused although the capabilities are there".into(),
            "look for a security module that forbids it (dmesg, audit log)".into(),
        )
    })
}

/// [`diagnose`], with `None` when this process has every right that it could have.
pub(crate) fn cause(wanted: &[&str]) -> Option<(String, String)> {
    let missing = Capabilities::current().missing(wanted);
    if !missing.is_empty() {
        let list = missing.join(" and ");
        let remedy = format!("run as root (sudo), or give the process {list}");
        return Some((format!("this process has no {list}"), remedy));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let (why, remedy) = if lockdown.contains("[confidentiality]") {
        (
            "the kernel is locked down (confidentiality), which forbids reading kernel memory",
            "boot without lockdown=confidentiality (it comes with Secure Boot on some systems)",
        )
    } else if in_user_namespace() {
        (
            "this is a user namespace, whose root has no rights over the whole machine",
            "run in the first user namespace: outside of the container, or in a privileged one",
        )
    } else if field(&status, "Seccomp:") == Some("2") {
        (
            "a seccomp filter (a container's or a service's) stands between",
            "run outside of the container, or allow bpf and perf_event_open in its seccomp profile",
        )
    } else {
        return None;
    };
    Some((why.into(), remedy.into()))
}

fn in_user_namespace() -> bool {
    // The first namespace maps every id to itself.
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_ascii_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits() {
        let none = Capabilities(0);
        assert_eq!(none.missing(&["CAP_BPF", "CAP_NET_ADMIN"]), ["CAP_BPF", "CAP_NET_ADMIN"]);
        let admin = Capabilities(1 << 21);
        assert_eq!(admin.missing(&["CAP_BPF", "CAP_NET_ADMIN"]), ["CAP_NET_ADMIN"]);
    }
}
