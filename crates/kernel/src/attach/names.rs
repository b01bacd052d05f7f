//! What exists on this machine: tracepoints, kernel functions, interfaces, kernel options. Read only to find near names for
//! an error, to expand a pattern, or to say why the kernel refused.

use crate::error::near;
use crate::kconfig::Kconfig;
use crate::mounts::TraceFs;
use std::collections::BTreeSet;

/// How many near names an error shows.
pub(crate) const NEAR: usize = 3;

/// Functions in `/proc/kallsyms` (types `t`, `T`, `w`, `W`), sorted, each once.
pub(crate) fn kernel_functions() -> BTreeSet<String> {
    let text = std::fs::read("/proc/kallsyms").unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let kind = fields.next()?;
            let name = fields.next()?;
            matches!(kind, "t" | "T" | "w" | "W").then(|| name.to_owned())
        })
        .collect()
}

/// Functions that ftrace can attach to, sorted, each once. Empty where there is no such list.
pub(crate) fn traceable_functions() -> BTreeSet<String> {
    let Ok(tracefs) = TraceFs::shared() else { return BTreeSet::new() };
    let Ok(text) = tracefs.read_text("available_filter_functions") else { return BTreeSet::new() };
    text.lines()
        .filter_map(|l| l.split_ascii_whitespace().next())
        .filter(|name| !name.starts_with("__ftrace_invalid_address"))
        .map(str::to_owned)
        .collect()
}

/// Functions whose names fit a pattern of `*` and `?`.
pub(crate) fn matching_functions(pattern: &str) -> Vec<String> {
    let traceable = traceable_functions();
    let all = kernel_functions();
    match traceable.is_empty() {
        true => all.into_iter().filter(|n| glob(pattern, n)).collect(),
        false => traceable.into_iter().filter(|n| glob(pattern, n) && all.contains(n)).collect(),
    }
}

/// Kernel functions that look like `name`.
pub(crate) fn near_functions(name: &str) -> Vec<String> {
    near(name, kernel_functions().iter().map(String::as_str), NEAR)
}

/// Every tracepoint with a file in tracefs, as (category, name).
pub(crate) fn tracepoints() -> Vec<(String, String)> {
    let Ok(tracefs) = TraceFs::shared() else { return Vec::new() };
    let text = tracefs.read_text("available_events").unwrap_or_default();
    text.lines().filter_map(|l| l.split_once(':')).map(|(c, n)| (c.to_owned(), n.to_owned())).collect()
}

/// Names of raw tracepoints: the kernel keeps an iterator function for each.
pub(crate) fn raw_tracepoints() -> BTreeSet<String> {
    let from_symbols = kernel_functions().into_iter().filter_map(|f| f.strip_prefix("__traceiter_").map(str::to_owned));
    from_symbols.chain(tracepoints().into_iter().map(|(_, name)| name)).collect()
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

    #[test]
    fn configuration() {
        // A kernel without BPF would not get this far.
        assert_ne!(kernel_option("CONFIG_BPF_SYSCALL"), Some(false));
        assert_ne!(kernel_option("CONFIG_SKEP_IS_NO_OPTION"), Some(true));
    }
}
