//! Binaries on disk: from a name to a path, and from a function to its place in the file, as uprobes want it.
//!
//! `libc.so.6` is looked for among what a process has mapped (where one is named), then as the dynamic loader would:
//! `LD_LIBRARY_PATH`, the directories of `/etc/ld.so.conf`, the standard ones. `bash` without a slash is looked for in
//! `PATH` as well. A path of another process's is read through `/proc/PID/root`, so that containers work.
//!
//! Limits: separate debug files are not consulted; at most 64 levels of `include` in ld.so.conf.

use crate::error::near;
use object::read::elf::{ElfFile32, ElfFile64};
use object::{Object, ObjectSegment, ObjectSymbol, ReadCache, SymbolKind};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A binary that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binary {
    /// A path that this process can open.
    pub path: PathBuf,
    /// The path for people, as its own process sees it.
    pub shown: PathBuf,
}

/// What was not found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotFound {
    /// No process with this id.
    Process(u32),
    /// No such file.
    Binary {
        /// Names that look alike.
        near: Vec<String>,
    },
}

/// Finds a binary by path or name, with a process as that process sees it.
pub fn find(name: &str, pid: Option<u32>) -> Result<Binary, NotFound> {
    let root = match pid {
        None => PathBuf::new(),
        Some(pid) => {
            let process = PathBuf::from(format!("/proc/{pid}"));
            if !process.exists() {
                return Err(NotFound::Process(pid));
            }
            process.join("root")
        }
    };
    let inside = |path: &Path| match pid {
        None => path.to_path_buf(),
        Some(_) => root.join(path.strip_prefix("/").unwrap_or(path)),
    };
    let found = |shown: PathBuf| {
        let path = inside(&shown);
        path.is_file().then_some(Binary { path, shown })
    };
    if name.contains('/') {
        // A relative path is relative to this process, not to the other one's root.
        let shown = std::path::absolute(name).unwrap_or_else(|_| PathBuf::from(name));
        return found(shown.clone()).ok_or_else(|| {
            let wanted = shown.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let beside = shown.parent().map(|p| files_in(&inside(p))).unwrap_or_default();
            NotFound::Binary { near: near(wanted, beside.iter().map(String::as_str), 3) }
        });
    }
    if let Some(pid) = pid
        && let Some(binary) = mapped(pid, name).into_iter().find_map(found)
    {
        return Ok(binary);
    }
    let libraries = library_directories(&inside);
    let programs = std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect::<Vec<_>>()).unwrap_or_default();
    let directories = if name.contains(".so") { libraries } else { [programs, libraries].concat() };
    let exact = directories.iter().find_map(|dir| found(dir.join(name)));
    // `libc` stands for the newest `libc.so*` that a program would load.
    let by_stem = || {
        let starts = [format!("{name}.so"), format!("lib{name}.so")];
        directories.iter().find_map(|dir| {
            let mut fits = files_in(&inside(dir));
            fits.retain(|f| starts.iter().any(|s| f == s || f.starts_with(&format!("{s}."))));
            fits.sort_by(|a, b| b.cmp(a));
            // A text file (a linker script) of this name is no library.
            fits.into_iter().filter_map(|f| found(dir.join(f))).find(|b| is_elf(&b.path))
        })
    };
    exact.or_else(by_stem).ok_or_else(|| {
        let all: Vec<String> = directories.iter().flat_map(|dir| files_in(&inside(dir))).collect();
        NotFound::Binary { near: near(name, all.iter().map(String::as_str), 3) }
    })
}

fn files_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    entries.into_iter().filter_map(|e| e.file_name().into_string().ok()).collect()
}

fn is_elf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// Files that a process has mapped whose name is `name`, or starts with it and goes on as library names do.
fn mapped(pid: u32, name: &str) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut paths: Vec<PathBuf> =
        text.lines().filter_map(|l| l.find('/').and_then(|at| l.get(at..))).map(PathBuf::from).collect();
    paths.sort();
    paths.dedup();
    let starts = [format!("{name}.so"), format!("lib{name}.so"), format!("{name}-")];
    let file_name = |p: &PathBuf| p.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    let (exact, rest): (Vec<PathBuf>, Vec<PathBuf>) = paths.into_iter().partition(|p| file_name(p) == name);
    let alike = rest.into_iter().filter(|p| starts.iter().any(|s| file_name(p).starts_with(s.as_str())));
    exact.into_iter().chain(alike).collect()
}

/// Where the dynamic loader looks.
fn library_directories(inside: &impl Fn(&Path) -> PathBuf) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::env::var_os("LD_LIBRARY_PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default();
    read_conf(Path::new("/etc/ld.so.conf"), inside, 0, &mut all);
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    all.extend([format!("/lib/{machine}"), format!("/usr/lib/{machine}")].map(PathBuf::from));
    all.extend(["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"].map(PathBuf::from));
    let mut seen = std::collections::HashSet::new();
    all.retain(|p| !p.as_os_str().is_empty() && seen.insert(p.clone()));
    all
}

/// Reads a file of ld.so.conf's format: a directory a line, or `include PATTERN`.
fn read_conf(path: &Path, inside: &impl Fn(&Path) -> PathBuf, depth: usize, all: &mut Vec<PathBuf>) {
    if depth > 64 {
        return;
    }
    let Ok(text) = std::fs::read_to_string(inside(path)) else { return };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line.strip_prefix("include") {
            Some(pattern) => {
                let pattern = Path::new(pattern.trim());
                let dir = pattern.parent().filter(|p| p.is_absolute()).unwrap_or(Path::new("/etc"));
                let file = pattern.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                let mut names = files_in(&inside(dir));
                names.retain(|n| crate::attach::names::glob(file, n));
                names.sort();
                for name in names {
                    read_conf(&dir.join(name), inside, depth + 1, all);
                }
            }
            None if line.starts_with('/') => all.push(PathBuf::from(line)),
            None => {}
        }
    }
}

/// Why a function was not found in a binary.
#[derive(Debug)]
pub enum SymbolError {
    /// The binary has no function of this name.
    Missing {
        /// Names that look alike.
        near: Vec<String>,
        /// Whether it has only its dynamic symbols.
        stripped: bool,
    },
    /// Not a binary that can be read.
    Unreadable(String),
    /// The file can't be read.
    File(io::Error),
}

/// Functions of a binary with their places in the file, from its symbol tables; a name that stands for several places is
/// there once, with the place of the global one.
pub fn functions(path: &Path) -> Result<BTreeMap<String, u64>, SymbolError> {
    read(path).map(|(functions, _)| functions)
}

/// The place in the file of a function, in bytes from its start.
///
/// A name may carry a version (`memcpy@GLIBC_2.14`), which is passed over: exported symbols carry theirs elsewhere.
pub fn function_offset(path: &Path, name: &str) -> Result<u64, SymbolError> {
    let (functions, stripped) = read(path)?;
    let plain = name.split('@').next().unwrap_or(name);
    if let Some(offset) = functions.get(name).or_else(|| functions.get(plain)) {
        return Ok(*offset);
    }
    let near = near(plain, functions.keys().map(String::as_str), 3);
    Err(SymbolError::Missing { near, stripped })
}

/// All functions, and whether there are only the dynamic symbols.
fn read(path: &Path) -> Result<(BTreeMap<String, u64>, bool), SymbolError> {
    let file = File::open(path).map_err(SymbolError::File)?;
    let data = ReadCache::new(file);
    let unreadable = |e: object::Error| SymbolError::Unreadable(format!("not an ELF binary that can be read: {e}"));
    match object::FileKind::parse(&data) {
        Ok(object::FileKind::Elf64) => {
            ElfFile64::<object::Endianness, _>::parse(&data).map(|f| collect(&f)).map_err(unreadable)
        }
        Ok(object::FileKind::Elf32) => {
            ElfFile32::<object::Endianness, _>::parse(&data).map(|f| collect(&f)).map_err(unreadable)
        }
        _ => Err(SymbolError::Unreadable("not an ELF binary".into())),
    }
}

fn collect<'d>(file: &impl Object<'d>) -> (BTreeMap<String, u64>, bool) {
    // Address, length, place in the file of what is loaded.
    let segments: Vec<(u64, u64, u64)> = file
        .segments()
        .map(|s| {
            let (offset, size) = s.file_range();
            (s.address(), size, offset)
        })
        .collect();
    let place = |address: u64| {
        segments.iter().find_map(|(start, size, offset)| {
            let within = address.checked_sub(*start)?;
            (within < *size).then(|| offset.saturating_add(within))
        })
    };
    let mut all = BTreeMap::new();
    let mut add = |symbol: &dyn Fn() -> Option<(String, u64)>, global: bool| {
        if let Some((name, offset)) = symbol() {
            if global {
                all.insert(name, offset);
            } else {
                all.entry(name).or_insert(offset);
            }
        }
    };
    let mut full = false;
    let entry = |name: Option<&str>, kind: SymbolKind, address: u64, undefined: bool| {
        // Indirect functions have a kind of their own in ELF, which the reader gives as unknown.
        let function = matches!(kind, SymbolKind::Text | SymbolKind::Unknown);
        if undefined || !function || address == 0 {
            return None;
        }
        let name = name.filter(|n| !n.is_empty() && !n.starts_with('$'))?;
        Some((name.to_owned(), place(address)?))
    };
    for symbol in file.symbols() {
        full = true;
        let found = entry(symbol.name().ok(), symbol.kind(), symbol.address(), symbol.is_undefined());
        add(&|| found.clone(), symbol.is_global());
    }
    for symbol in file.dynamic_symbols() {
        let found = entry(symbol.name().ok(), symbol.kind(), symbol.address(), symbol.is_undefined());
        add(&|| found.clone(), symbol.is_global());
    }
    (all, !full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_function() {
        let own = std::env::current_exe().expect("own path");
        let all = functions(&own).expect("own functions");
        assert!(all.len() > 1000, "{}", all.len());
        assert!(all.contains_key("main"));
        let Err(SymbolError::Missing { near, stripped }) = function_offset(&own, "mainn") else { panic!("found") };
        assert!(!stripped);
        assert!(near.contains(&"main".to_owned()), "{near:?}");
    }

    #[test]
    fn libc_by_name() {
        let own = Some(std::process::id());
        for (name, pid) in [("libc.so.6", None), ("libc.so.6", own), ("libc", own), ("c", own)] {
            let found = find(name, pid).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert!(function_offset(&found.path, "malloc").expect("malloc") > 0, "{found:?}");
        }
        assert!(matches!(find("libskep-is-not-there.so", None), Err(NotFound::Binary { .. })));
        assert!(matches!(find("x", Some(u32::MAX - 1)), Err(NotFound::Process(_))));
    }

    #[test]
    fn what_is_no_binary() {
        assert!(matches!(functions(Path::new("/etc/passwd")), Err(SymbolError::Unreadable(_))));
        assert!(matches!(functions(Path::new("/skep/none")), Err(SymbolError::File(_))));
    }
}
