//! Binaries on disk: from a name to a path, and from a function to its place in the file, as uprobes want it.
//!
//! `libc.so.6` is looked for among what a process has mapped (where one is named), then as the dynamic loader would:
//! `LD_LIBRARY_PATH`, the directories of `/etc/ld.so.conf`, the standard ones. `bash` without a slash is looked for in
//! `PATH` as well. A path of another process's is read through `/proc/PID/root`, so that containers work.
//!
//! A library may export a name several times, for programs that were linked with older versions of it. `posix_spawn` is the
//! one that programs are linked with now, `posix_spawn@GLIBC_2.2.5` that one.
//!
//! Limits: separate debug files are not consulted; at most 64 levels of `include` in ld.so.conf.

use crate::error::near;
use object::read::elf::{ElfFile, ElfFile32, ElfFile64, ElfSymbol, FileHeader, Sym};
use object::{Object, ObjectSegment, ObjectSymbol, ReadCache, ReadRef, SymbolKind};
use std::collections::HashSet;
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
    /// The name stands for several functions.
    Ambiguous {
        /// Each with its version and place.
        places: Vec<String>,
    },
    /// Not a binary that can be read.
    Unreadable(String),
    /// The file can't be read.
    File(io::Error),
}

/// A function of a binary.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Function {
    /// Its name, without version.
    pub name: String,
    /// The version that a library exports it with.
    pub version: Option<Version>,
    /// Its place in the file, in bytes from its start.
    pub offset: u64,
    /// Whether only its own source file calls it by this name, so that others may have the name as well.
    pub local: bool,
    /// Whether it is an indirect one: the code here chooses an implementation, once a process, and is not called after.
    pub indirect: bool,
}

/// A version of an exported function, such as `GLIBC_2.15`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    /// Its name.
    pub name: String,
    /// Whether it is what programs are linked with now (`@@`); the others are kept for programs of old (`@`).
    pub default: bool,
}

impl Function {
    /// Its name with the version, as tools show it: `posix_spawn@@GLIBC_2.15`.
    pub fn full_name(&self) -> String {
        match &self.version {
            None => self.name.clone(),
            Some(Version { name, default: true }) => format!("{}@@{name}", self.name),
            Some(Version { name, default: false }) => format!("{}@{name}", self.name),
        }
    }

    /// Whether a name means this function: `NAME` any of them, `NAME@VERSION` that version, `NAME@@VERSION` that version
    /// if it is the default.
    fn is_called(&self, wanted: &str) -> bool {
        let (name, version) = wanted.split_once('@').map_or((wanted, None), |(name, version)| (name, Some(version)));
        self.name == name
            && match (version, &self.version) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(wanted), Some(version)) => match wanted.strip_prefix('@') {
                    Some(wanted) => version.default && version.name == wanted,
                    None => version.name == wanted,
                },
            }
    }

    /// What a bare name means first: what programs are linked with, then what those of old use, then what nobody outside
    /// sees.
    fn rank(&self) -> u8 {
        match (&self.version, self.local) {
            (_, true) => 2,
            (Some(Version { default: false, .. }), _) => 1,
            _ => 0,
        }
    }
}

/// Functions of a binary from its symbol tables, sorted. A name is there several times where it stands for several places.
pub fn functions(path: &Path) -> Result<Vec<Function>, SymbolError> {
    read(path, |_| true).map(|(functions, _)| functions)
}

/// A function by its name, which may carry a version: `memcpy@GLIBC_2.2.5`. Without one it is the version that programs
/// are linked with now.
pub fn function(path: &Path, name: &str) -> Result<Function, SymbolError> {
    // Large programs have very many; all of them are looked at only to find names that look alike.
    let plain = name.split('@').next().unwrap_or(name);
    let (functions, stripped) = read(path, |n| n == plain)?;
    match functions.is_empty() {
        true => choose(&read(path, |_| true)?.0, name, stripped),
        false => choose(&functions, name, stripped),
    }
}

fn choose(functions: &[Function], name: &str, stripped: bool) -> Result<Function, SymbolError> {
    let mut found: Vec<&Function> = functions.iter().filter(|f| f.is_called(name)).collect();
    let best = found.iter().map(|f| f.rank()).min();
    found.retain(|f| Some(f.rank()) == best);
    let plain = name.split('@').next().unwrap_or(name);
    match found.as_slice() {
        [first, rest @ ..] if rest.iter().all(|f| f.offset == first.offset) => Ok((*first).clone()),
        [] => {
            let mut alike: Vec<String> =
                functions.iter().filter(|f| f.name == plain).map(Function::full_name).collect();
            if alike.is_empty() {
                alike = near(plain, functions.iter().map(|f| f.name.as_str()), 3);
            }
            alike.dedup();
            Err(SymbolError::Missing { near: alike, stripped })
        }
        several => {
            let places = several.iter().map(|f| format!("{} at {:#x}", f.full_name(), f.offset)).collect();
            Err(SymbolError::Ambiguous { places })
        }
    }
}

/// All functions with such names, and whether there are only the dynamic symbols.
fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<(Vec<Function>, bool), SymbolError> {
    let file = File::open(path).map_err(SymbolError::File)?;
    let data = ReadCache::new(file);
    let unreadable = |e: object::Error| SymbolError::Unreadable(format!("not an ELF binary that can be read: {e}"));
    match object::FileKind::parse(&data) {
        Ok(object::FileKind::Elf64) => {
            ElfFile64::<object::Endianness, _>::parse(&data).and_then(|f| collect(&f, wanted)).map_err(unreadable)
        }
        Ok(object::FileKind::Elf32) => {
            ElfFile32::<object::Endianness, _>::parse(&data).and_then(|f| collect(&f, wanted)).map_err(unreadable)
        }
        _ => Err(SymbolError::Unreadable("not an ELF binary".into())),
    }
}

fn collect<'d, Elf: FileHeader, R: ReadRef<'d>>(
    file: &ElfFile<'d, Elf, R>,
    wanted: impl Fn(&str) -> bool,
) -> object::Result<(Vec<Function>, bool)> {
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
    let entry = |symbol: &ElfSymbol<'d, '_, Elf, R>| {
        let function = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown);
        if symbol.is_undefined() || !function || symbol.address() == 0 {
            return None;
        }
        let name = symbol.name().ok().filter(|n| !n.is_empty() && !n.starts_with('$'))?;
        // Linkers write versions into the names of the full table.
        let (name, version) = name.split_once('@').map_or((name, None), |(name, version)| (name, Some(version)));
        if !wanted(name) {
            return None;
        }
        let version = version.map(|v| match v.strip_prefix('@') {
            Some(v) => Version { name: v.to_owned(), default: true },
            None => Version { name: v.to_owned(), default: false },
        });
        Some(Function {
            name: name.to_owned(),
            version,
            offset: place(symbol.address())?,
            local: symbol.is_local(),
            indirect: symbol.elf_symbol().st_type() == object::elf::STT_GNU_IFUNC,
        })
    };
    let versions = file.elf_section_table().versions(file.endian(), file.data())?;
    let mut all = Vec::new();
    for symbol in file.dynamic_symbols() {
        let Some(mut function) = entry(&symbol) else { continue };
        if let Some(versions) = &versions {
            let index = versions.version_index(file.endian(), symbol.index());
            if let Some(version) = versions.version(index.index())? {
                let name = String::from_utf8_lossy(version.name()).into_owned();
                function.version = Some(Version { name, default: !index.is_hidden() });
            }
        }
        all.push(function);
    }
    // What is exported is in both tables, and the full one may leave the version out.
    let exported: HashSet<(String, u64)> = all.iter().map(|f| (f.name.clone(), f.offset)).collect();
    let mut full = false;
    for symbol in file.symbols() {
        full = true;
        let Some(function) = entry(&symbol) else { continue };
        if function.local || !exported.contains(&(function.name.clone(), function.offset)) {
            all.push(function);
        }
    }
    all.sort();
    all.dedup();
    Ok((all, !full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_function() {
        let own = std::env::current_exe().expect("own path");
        let all = functions(&own).expect("own functions");
        assert!(all.len() > 1000, "{}", all.len());
        assert!(all.iter().any(|f| f.name == "main"));
        let Err(SymbolError::Missing { near, stripped }) = function(&own, "mainn") else { panic!("found") };
        assert!(!stripped);
        assert!(near.contains(&"main".to_owned()), "{near:?}");
    }

    #[test]
    fn libc_by_name() {
        let own = Some(std::process::id());
        for (name, pid) in [("libc.so.6", None), ("libc.so.6", own), ("libc", own), ("c", own)] {
            let found = find(name, pid).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert!(function(&found.path, "malloc").expect("malloc").offset > 0, "{found:?}");
        }
        assert!(matches!(find("libskep-is-not-there.so", None), Err(NotFound::Binary { .. })));
        assert!(matches!(find("x", Some(u32::MAX - 1)), Err(NotFound::Process(_))));
    }

    /// Two exported versions of a name are two places, and the bare name is the one that is linked with now.
    #[test]
    fn versions_of_a_function() {
        let libc = find("libc.so.6", Some(std::process::id())).expect("libc").path;
        let all = functions(&libc).expect("functions");
        let versions: Vec<&Function> = all.iter().filter(|f| f.name == "posix_spawn" && f.version.is_some()).collect();
        let default = versions.iter().find(|f| f.version.as_ref().is_some_and(|v| v.default)).expect("a default");
        assert_eq!(&&function(&libc, "posix_spawn").expect("found"), default);
        for one in &versions {
            assert_eq!(&function(&libc, &one.full_name()).expect("by its full name"), *one);
            let single = one.full_name().replace("@@", "@");
            assert_eq!(&function(&libc, &single).expect("by its version"), *one);
        }
        // Nothing of glibc's own machines without history has an old version to compare.
        if let Some(old) = versions.iter().find(|f| f.version.as_ref().is_some_and(|v| !v.default)) {
            assert_ne!(old.offset, default.offset);
            let not_default = old.full_name().replace('@', "@@");
            assert!(matches!(function(&libc, &not_default), Err(SymbolError::Missing { .. })));
        }
        let Err(SymbolError::Missing { near, .. }) = function(&libc, "posix_spawn@GLIBC_0") else { panic!("found") };
        assert!(near.contains(&default.full_name()), "{near:?}");
    }

    #[test]
    fn names_that_mean_several() {
        let one = |name: &str, version: Option<(&str, bool)>, offset, local| Function {
            name: name.into(),
            version: version.map(|(name, default)| Version { name: name.into(), default }),
            offset,
            local,
            indirect: false,
        };
        let all = [
            one("a", None, 1, true),
            one("a", None, 2, true),
            one("b", Some(("V1", false)), 3, false),
            one("b", Some(("V2", false)), 4, false),
            one("c", None, 5, true),
            one("c", None, 6, false),
            one("d", Some(("V1", false)), 7, false),
            one("d", None, 7, true),
        ];
        let offset = |name| match choose(&all, name, false) {
            Ok(function) => Ok(function.offset),
            Err(SymbolError::Ambiguous { places }) => Err(places),
            Err(e) => panic!("{name}: {e:?}"),
        };
        assert_eq!(offset("a"), Err(vec!["a at 0x1".to_owned(), "a at 0x2".to_owned()]));
        assert_eq!(offset("b"), Err(vec!["b@V1 at 0x3".to_owned(), "b@V2 at 0x4".to_owned()]));
        assert_eq!(offset("b@V2"), Ok(4));
        assert_eq!(offset("c"), Ok(6), "the one that others call");
        assert_eq!(offset("d"), Ok(7));
    }

    #[test]
    fn what_is_no_binary() {
        assert!(matches!(functions(Path::new("/etc/passwd")), Err(SymbolError::Unreadable(_))));
        assert!(matches!(functions(Path::new("/skep/none")), Err(SymbolError::File(_))));
    }
}
