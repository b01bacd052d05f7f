//! What exists on this machine: tracepoints, kernel functions, interfaces, kernel options. Read only to find near names for
//! an error, to expand a pattern, or to say why the kernel refused.
//!
//! The kernel has some 100,000 functions. They pass by one at a time; only those that were asked for are kept.

use crate::error::{Near, Result};
use crate::kallsyms;
use crate::kconfig::Kconfig;
use crate::mounts::TraceFs;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// How many near names an error shows.
pub(crate) const NEAR: usize = 3;

/// Every kernel function in turn; a name may come several times.
pub(crate) fn each_kernel_function(mut visit: impl FnMut(&str)) -> Result<()> {
    kallsyms::walk(|symbol| {
        if matches!(symbol.kind, b't' | b'T' | b'w' | b'W') {
            visit(symbol.name);
        }
    })
}

/// Functions that ftrace can attach to and whose names fit a pattern, sorted, each once. `None` where there is no list of
/// them.
fn traceable_functions(pattern: &str) -> Option<BTreeSet<String>> {
    let file = File::open(TraceFs::shared().ok()?.path("available_filter_functions")).ok()?;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let (mut line, mut any, mut fit) = (String::new(), false, BTreeSet::new());
    while reader.read_line(&mut line).ok()? > 0 {
        let name = line.split_ascii_whitespace().next().unwrap_or_default();
        any |= !name.is_empty();
        if glob(pattern, name) && !name.starts_with("__ftrace_invalid_address") {
            fit.insert(name.to_owned());
        }
        line.clear();
    }
    any.then_some(fit)
}

/// Functions whose names fit a pattern of `*` and `?`, sorted.
pub(crate) fn matching_functions(pattern: &str) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    match traceable_functions(pattern) {
        // The list has names that the kernel does not find by name.
        Some(traceable) => each_kernel_function(|name| {
            if traceable.contains(name) && !found.contains(name) {
                found.insert(name.to_owned());
            }
        })?,
        None => each_kernel_function(|name| {
            if glob(pattern, name) && !found.contains(name) {
                found.insert(name.to_owned());
            }
        })?,
    }
    Ok(found.into_iter().collect())
}

/// Kernel functions that look like `name`; none where there are no symbols to look at.
pub(crate) fn near_functions(name: &str) -> Vec<String> {
    let mut near = Near::new(name, NEAR);
    match each_kernel_function(|known| near.offer(known)) {
        Ok(()) => near.found(),
        Err(_) => Vec::new(),
    }
}

/// Every tracepoint with a file in tracefs, as (category, name).
pub(crate) fn tracepoints() -> Vec<(String, String)> {
    let Ok(tracefs) = TraceFs::shared() else { return Vec::new() };
    let text = tracefs.read_text("available_events").unwrap_or_default();
    text.lines().filter_map(|l| l.split_once(':')).map(|(c, n)| (c.to_owned(), n.to_owned())).collect()
}

/// Names of raw tracepoints: the kernel keeps an iterator function for each.
pub(crate) fn raw_tracepoints() -> BTreeSet<String> {
    let mut all: BTreeSet<String> = tracepoints().into_iter().map(|(_, name)| name).collect();
    // Where there are no symbols to look at, the files in tracefs are what is known.
    let _ = each_kernel_function(|f| all.extend(f.strip_prefix("__traceiter_").map(str::to_owned)));
    all
}

/// Names of the network interfaces of this network namespace.
pub(crate) fn interfaces() -> Vec<String> {
    match std::fs::read_to_string("/proc/thread-self/net/dev") {
        Ok(text) => {
            text.lines().skip(2).filter_map(|l| l.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
        }
        Err(_) => Vec::new(),
    }
}

/// Whether the running kernel was built with an option; `None` where its configuration can't be read.
pub(crate) fn kernel_option(option: &str) -> Option<bool> {
    Some(matches!(Kconfig::read().ok()?.get(option), Some("y" | "m")))
}

/// Whether a text fits a pattern in which `*` is any run of characters and `?` any one.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star turns out not to fit.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == b'?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or(&[]).iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("vfs_*", "vfs_read", true),
            ("vfs_*", "xvfs_read", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*read*", "vfs_readv", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    /// Peak resident set in kB, as the kernel counted it.
    fn peak_kb() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// In a process of its own: what the other tests take would count.
    #[test]
    fn kernel_functions_are_not_all_kept() {
        const CHILD: &str = "SKEP_TEST_CHILD";
        if std::env::var_os(CHILD).is_none() {
            let own = std::env::current_exe().expect("own path");
            let test = "attach::names::tests::kernel_functions_are_not_all_kept";
            let mut command = std::process::Command::new(own);
            let output = command.args(["--exact", test, "--nocapture"]).env(CHILD, "1").output().expect("run itself");
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        let mut count = 0;
        each_kernel_function(|_| count += 1).expect("symbols");
        assert!(count > 20_000, "{count}");
        let before = peak_kb();
        assert!(near_functions("do_unlinkatt").contains(&"do_unlinkat".to_owned()));
        assert!(matching_functions("vfs_rea?").expect("symbols").iter().any(|f| f == "vfs_read"));
        assert!(raw_tracepoints().contains("sched_switch"));
        let more = peak_kb() - before;
        assert!(more < 2000, "{more} kB more for {count} functions");
    }

    #[test]
    fn configuration() {
        // A kernel without BPF would not get this far.
        assert_ne!(kernel_option("CONFIG_BPF_SYSCALL"), Some(false));
        assert_ne!(kernel_option("CONFIG_SKEP_IS_NO_OPTION"), Some(true));
    }
}
