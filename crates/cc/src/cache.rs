//! The generated headers: a BTF file to a directory that holds `vmlinux.h` and skep's own headers.
//!
//! ```text
//! ~/.cache/skep/headers-1c9f.../vmlinux.h         the kernel's types as C
//!                              /skep.h            what bpf/include holds, from inside this binary
//!                              /skep_syscalls.h
//! ```
//!
//! A directory is named by a hash of all that went into it, so it is right for as long as it exists, and a kernel update
//! or a new skep makes another. It is filled under another name and then renamed: a process sees it whole or not at all,
//! however many start at once. The least recently used go when there are more than [`KEPT`].

use crate::CcError;
use skep_btf::{Btf, c_header};
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use xxhash_rust::xxh3::Xxh3;

/// Directories of headers that are kept, at about 3 MB each.
const KEPT: usize = 8;
/// A directory that was being filled this long ago belonged to a process that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Part of the key. Raise it when the text that `skep-btf` writes for the same BTF changes.
const GENERATION: u64 = 1;

const NAME: &str = "headers-";
const UNFINISHED: &str = ".unfinished-";

/// skep's own headers, carried along so that an installed binary needs no source tree.
const OWN: [(&str, &str); 2] = [
    ("skep.h", include_str!("../../../bpf/include/skep.h")),
    ("skep_syscalls.h", include_str!("../../../bpf/include/skep_syscalls.h")),
];

/// A directory for `-I`, and whether `vmlinux.h` is in it. Without a usable cache the directory is a temporary one and
/// goes with this value.
#[derive(Debug)]
pub struct Headers {
    dir: PathBuf,
    btf_source: PathBuf,
    missing_types: Option<String>,
    _temporary: Option<TempDir>,
}

impl Headers {
    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The BTF that `vmlinux.h` is written from.
    pub fn btf_source(&self) -> &Path {
        &self.btf_source
    }

    /// Why there is no `vmlinux.h`; `None` where there is one. It is no error until a source includes it.
    pub fn missing_types(&self) -> Option<&str> {
        self.missing_types.as_deref()
    }
}

/// Finds or makes the headers for a BTF file.
pub(crate) fn headers(btf_source: &Path, cache_dir: Option<&Path>) -> Result<Headers, CcError> {
    let (btf, mut missing_types) = match fs::read(btf_source) {
        Ok(btf) if btf.is_empty() => (btf, Some("the file is empty".to_owned())),
        Ok(btf) => (btf, None),
        Err(cause) => (Vec::new(), Some(cause.to_string())),
    };
    let found = |dir, missing_types, temporary| Headers {
        dir,
        btf_source: btf_source.into(),
        missing_types,
        _temporary: temporary,
    };

    let cache_dir = cache_dir.filter(|dir| is_usable(dir));
    let mut name = directory_name(&btf);
    if let Some(dir) = cache_dir.map(|dir| dir.join(&name)).filter(|dir| dir.is_dir()) {
        touch(&dir);
        return Ok(found(dir, missing_types, None));
    }

    let mut vmlinux = None;
    if missing_types.is_none() {
        match vmlinux_header(btf) {
            Ok(text) => vmlinux = Some(text),
            // As with no BTF at all: skep's own headers only. What cannot be decoded never gets a name in the cache, so
            // its cause is told each time.
            Err(cause) => {
                missing_types = Some(cause);
                name = directory_name(&[]);
            }
        }
    }
    if let Some(cache_dir) = cache_dir
        && let Ok(unfinished) = private_dir(UNFINISHED, cache_dir)
        && fill(unfinished.path(), vmlinux.as_deref()).is_ok()
    {
        let dir = cache_dir.join(&name);
        if publish(unfinished, &dir).is_ok() {
            prune(cache_dir, &dir);
            return Ok(found(dir, missing_types, None));
        }
    }
    // No cache, a full disk, a directory of somebody else's: a directory of our own for this once.
    let temporary_root = std::env::temp_dir();
    let temporary = private_dir("skep-headers-", &temporary_root)
        .map_err(|cause| CcError::Headers { dir: temporary_root, cause })?;
    fill(temporary.path(), vmlinux.as_deref())
        .map_err(|cause| CcError::Headers { dir: temporary.path().into(), cause })?;
    Ok(found(temporary.path().into(), missing_types, Some(temporary)))
}

/// A new directory that only we can read and write, whatever the umask; deleted with the value.
fn private_dir(prefix: &str, parent: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(prefix).permissions(fs::Permissions::from_mode(0o700)).tempdir_in(parent)
}

/// The name of the directory for this BTF; for empty BTF, of the one without `vmlinux.h`.
fn directory_name(btf: &[u8]) -> String {
    format!("{NAME}{:032x}", key(btf))
}

/// xxh3, 128 bits: 5.5 MB of kernel BTF in about a millisecond, the same value on every machine and in every release.
/// Nobody gains by a collision, who could choose the BTF could as well choose the C file; so it need not be cryptographic.
fn key(btf: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&GENERATION.to_le_bytes());
    hash.update(env!("CARGO_PKG_VERSION").as_bytes());
    for (name, text) in OWN {
        for part in [name, text] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.update(btf);
    hash.digest128()
}

fn vmlinux_header(btf: Vec<u8>) -> Result<String, String> {
    let btf = Btf::parse(btf).map_err(|cause| cause.to_string())?;
    c_header::text(&btf, &c_header::Options::default()).map_err(|cause| cause.to_string())
}

fn fill(dir: &Path, vmlinux: Option<&str>) -> io::Result<()> {
    if let Some(text) = vmlinux {
        fs::write(dir.join("vmlinux.h"), text)?;
    }
    for (name, text) in OWN {
        fs::write(dir.join(name), text)?;
    }
    Ok(())
}

/// Gives a filled directory its name. Losing the race to another process is as good: theirs has the same content.
fn publish(unfinished: TempDir, dir: &Path) -> io::Result<()> {
    match fs::rename(unfinished.path(), dir) {
        Ok(()) => {
            // Now under its own name: nothing is left for the guard to delete.
            let _ = unfinished.keep();
            Ok(())
        }
        Err(_) if dir.is_dir() => Ok(()),
        Err(cause) => Err(cause),
    }
}

/// Whether we may keep headers there: it exists or can be made, and is nobody else's. What root loads into the kernel must
/// not be compiled with a header that another user could have written (`sudo` with the caller's HOME).
fn is_usable(dir: &Path) -> bool {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let (Ok(()), Ok(meta), Ok(me)) = (made, fs::metadata(dir), fs::metadata("/proc/self")) else { return false };
    meta.is_dir() && meta.uid() == me.uid() && meta.mode() & 0o022 == 0
}

/// Marks a directory as used now. Where that fails, it is merely pruned earlier.
fn touch(dir: &Path) {
    let _ = File::open(dir).and_then(|dir| dir.set_times(FileTimes::new().set_modified(SystemTime::now())));
}

/// Deletes what is beyond the bound, the least recently used first, and what killed processes left. Failing is harmless:
/// the next process that adds something tries again.
fn prune(cache_dir: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(cache_dir) else { return };
    let now = SystemTime::now();
    let mut others = Vec::new();
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.as_encoded_bytes();
        let Ok(used) = entry.metadata().and_then(|meta| meta.modified()) else { continue };
        if name.starts_with(UNFINISHED.as_bytes()) {
            if now.duration_since(used).is_ok_and(|age| age > ABANDONED) {
                let _ = fs::remove_dir_all(path);
            }
        } else if name.starts_with(NAME.as_bytes()) && path != current {
            others.push((used, path));
        }
    }
    others.sort();
    let excess = (others.len() + 1).saturating_sub(KEPT);
    for (_, path) in others.into_iter().take(excess) {
        let _ = fs::remove_dir_all(path);
    }
}
