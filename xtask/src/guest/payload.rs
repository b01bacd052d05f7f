//! Files of the host to entries of a cpio archive for one run, with the shared libraries they need.
//!
//! For example `--file /usr/sbin/bpftool` becomes /bin/bpftool, and next to it, at the places where the host
//! has them, libc, libelf, ... and the dynamic loader.
//!
//! Limits: libraries are found by asking ldd, so those that a program opens by itself later (dlopen), and a
//! script's interpreter, have to be passed by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{apt, cpio};

/// Where the guest's loader looks by itself.
const LIBRARY_DIRS: &[&str] = &["/lib", "/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"];
/// The most entries one `--dir` may bring.
const MAX_DIR_ENTRIES: usize = 100_000;

/// What one run adds to the base image.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    /// Guest path to what stands there; ordered, so that equal input gives equal bytes.
    entries: BTreeMap<PathBuf, Entry>,
    library_dirs: BTreeSet<PathBuf>,
}

#[derive(Debug)]
enum Entry {
    Directory,
    Host(PathBuf),
    Symlink(PathBuf),
    Bytes(Vec<u8>),
}

impl Payload {
    /// A file of the host, and the libraries it needs. Without a guest path, a program goes to /bin and
    /// anything else to /root, where commands start.
    pub(crate) fn add_file(&mut self, host: &Path, guest: Option<&Path>) -> Result<()> {
        let action = || format!("pass the file {} to the guest", host.display());
        let meta = fs::metadata(host).with_context(action)?;
        if !meta.is_file() {
            bail!("pass {} to the guest: not a regular file; a directory goes in with --dir", host.display());
        }
        let host = host.canonicalize().with_context(action)?;
        let guest = match guest {
            Some(path) => path.to_path_buf(),
            None => {
                let dir = if meta.permissions().mode() & 0o111 == 0 { "/root" } else { "/bin" };
                Path::new(dir).join(host.file_name().context("a file without a name")?)
            }
        };
        self.add_libraries(&host).with_context(action)?;
        self.put(&guest, Entry::Host(host))
    }

    /// A directory of the host with all it holds; without a guest path it goes under /root by its name.
    pub(crate) fn add_dir(&mut self, host: &Path, guest: Option<&Path>) -> Result<()> {
        let action = || format!("pass the directory {} to the guest", host.display());
        let host = host.canonicalize().with_context(action)?;
        let guest = match guest {
            Some(path) => path.to_path_buf(),
            None => Path::new("/root").join(host.file_name().context("the root directory cannot be passed")?),
        };
        self.put(&guest, Entry::Directory)?;
        let mut left = vec![(host.clone(), guest)];
        let mut seen = 0;
        while let Some((from, to)) = left.pop() {
            for entry in fs::read_dir(&from).with_context(action)? {
                let entry = entry.with_context(action)?;
                seen += 1;
                if seen > MAX_DIR_ENTRIES {
                    bail!("{}: more than {MAX_DIR_ENTRIES} entries; pass a smaller directory", action());
                }
                let (path, to) = (entry.path(), to.join(entry.file_name()));
                let kind = entry.file_type().with_context(action)?;
                if kind.is_dir() {
                    self.put(&to, Entry::Directory)?;
                    left.push((path, to));
                } else if kind.is_symlink() {
                    self.put(&to, Entry::Symlink(fs::read_link(&path).with_context(action)?))?;
                } else if kind.is_file() {
                    if entry.metadata().with_context(action)?.permissions().mode() & 0o111 != 0 {
                        self.add_libraries(&path).with_context(action)?;
                    }
                    self.put(&to, Entry::Host(path))?;
                }
                // Sockets, pipes and devices have no content to pass.
            }
        }
        Ok(())
    }

    /// A file with these bytes, for the runner's own use.
    pub(crate) fn add_bytes(&mut self, guest: &Path, bytes: Vec<u8>) -> Result<()> {
        self.put(guest, Entry::Bytes(bytes))
    }

    /// Library directories that the guest's loader has to be told about.
    pub(crate) fn library_dirs(&self) -> impl Iterator<Item = &Path> {
        self.library_dirs.iter().map(PathBuf::as_path)
    }

    /// Writes the archive; `present` are the directories of the base image.
    pub(crate) fn write(&self, out: impl Write, present: Vec<PathBuf>) -> Result<()> {
        let mut archive = cpio::Writer::new(BufWriter::with_capacity(1 << 20, out), present);
        for (guest, entry) in &self.entries {
            let written = match entry {
                Entry::Directory => archive.directory(guest),
                Entry::Symlink(target) => archive.symlink(guest, target),
                Entry::Bytes(bytes) => archive.file(guest, 0o644, bytes),
                Entry::Host(host) => File::open(host).and_then(|file| {
                    let meta = file.metadata()?;
                    archive.file_from(guest, meta.permissions().mode(), meta.len(), file)
                }),
            };
            written.with_context(|| format!("write {} into the guest's file system", guest.display()))?;
        }
        archive.finish()?;
        Ok(())
    }

    fn put(&mut self, guest: &Path, entry: Entry) -> Result<()> {
        self.entries.insert(in_guest(guest)?, entry);
        Ok(())
    }

    fn add_libraries(&mut self, host: &Path) -> Result<()> {
        for library in libraries(host)? {
            let dir = library.parent().unwrap_or(Path::new("/"));
            if !LIBRARY_DIRS.iter().any(|known| Path::new(known) == dir) {
                self.library_dirs.insert(in_guest(dir)?);
            }
            let real = library.canonicalize().with_context(|| format!("read {}", library.display()))?;
            self.put(&library, Entry::Host(real))?;
        }
        Ok(())
    }
}

/// Where a path stands in the guest, whose /usr is the same as its root (see `image.rs`).
fn in_guest(path: &Path) -> Result<PathBuf> {
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        bail!("the guest path {} has to be absolute and without ..", path.display());
    }
    let merged = [("/usr/bin", "/bin"), ("/usr/sbin", "/bin"), ("/sbin", "/bin"), ("/usr/lib", "/lib")];
    for (from, to) in merged.iter().chain(&[("/usr/lib64", "/lib64")]) {
        if let Ok(rest) = path.strip_prefix(from) {
            return Ok(Path::new(to).join(rest));
        }
    }
    Ok(path.components().collect())
}

/// The shared libraries that an ELF file needs, the dynamic loader among them; none for anything else.
pub(crate) fn libraries(host: &Path) -> Result<Vec<PathBuf>> {
    let mut magic = [0; 4];
    let is_elf = File::open(host).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF";
    if !is_elf {
        return Ok(Vec::new());
    }
    // ldd fails on what is no dynamic program (a static one, a BPF object, another machine's): those need none.
    let listing = match apt::run(Command::new("ldd").arg(host)) {
        Ok(text) => text,
        Err(error) if format!("{error:#}").contains("not a dynamic executable") => return Ok(Vec::new()),
        Err(error) => return Err(error.context(format!("ask ldd for the libraries of {}", host.display()))),
    };
    parse_ldd(&listing).with_context(|| format!("find the libraries of {}", host.display()))
}

fn parse_ldd(listing: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in listing.lines().map(str::trim) {
        // "libc.so.6 => /lib/.../libc.so.6 (0x...)", "/lib64/ld-linux-x86-64.so.2 (0x...)", "linux-vdso.so.1 (0x...)"
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place.starts_with("not found") {
            bail!("the shared library {name} is not installed on this machine");
        }
        if let Some(path) = place.split(" (").next().filter(|path| path.starts_with('/')) {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines_give_paths_and_a_missing_library_is_named() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x2)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let paths = parse_ldd(text).unwrap();
        assert_eq!(paths, [Path::new("/lib/x86_64-linux-gnu/libelf.so.1"), Path::new("/lib64/ld-linux-x86-64.so.2")]);
        let error = parse_ldd("\tlibx.so.3 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libx.so.3"), "{error}");
        assert!(parse_ldd("\tstatically linked\n").unwrap().is_empty());
    }

    #[test]
    fn guest_paths_are_absolute_and_merged() {
        assert_eq!(in_guest(Path::new("/usr/sbin/ip")).unwrap(), Path::new("/bin/ip"));
        assert_eq!(in_guest(Path::new("/usr/lib/x/y.so")).unwrap(), Path::new("/lib/x/y.so"));
        assert_eq!(in_guest(Path::new("/root/./a")).unwrap(), Path::new("/root/a"));
        assert!(in_guest(Path::new("a")).is_err());
        assert!(in_guest(Path::new("/a/../b")).is_err());
    }

    #[test]
    fn a_program_brings_its_libraries_and_a_directory_all_it_holds() {
        let mut payload = Payload::default();
        payload.add_file(Path::new("/bin/sh"), Some(Path::new("/bin/host-sh"))).unwrap();
        assert!(payload.entries.contains_key(Path::new("/bin/host-sh")));
        assert!(payload.entries.contains_key(Path::new("/lib64/ld-linux-x86-64.so.2")));
        payload.add_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None).unwrap();
        assert!(payload.entries.contains_key(Path::new("/root/src/guest/payload.rs")));
        let error = payload.add_file(Path::new("/etc"), None).unwrap_err();
        assert!(error.to_string().contains("--dir"), "{error}");
    }
}
