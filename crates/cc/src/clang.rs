//! Finding clang: a search path to a [`Clang`] whose version is known.
//!
//! `clang-19` is taken before `clang-9`, by number, and any `clang-N` before a plain `clang`, which on Debian is whatever
//! the distribution took for its default years ago.

use crate::CcError;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest clang that writes field relocations (CO-RE) and BTF for functions.
pub(crate) const OLDEST: u32 = 10;

/// A version of clang, such as 19.1.7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    /// The release.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
    /// The patch level.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A clang on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Clang {
    /// Where it is.
    pub path: PathBuf,
    /// What it says it is.
    pub version: Version,
}

impl Clang {
    /// Whether this clang was built with the BPF back end, by its own list. Runs it once.
    pub fn has_bpf_target(&self) -> Result<bool, CcError> {
        let targets = run(&self.path, "--print-targets")?;
        Ok(targets.lines().any(|line| line.split_whitespace().next() == Some("bpf")))
    }
}

/// The clang that is asked for, or the newest in `search_path`.
pub(crate) fn find(asked: Option<&Path>, search_path: &OsStr) -> Result<Clang, CcError> {
    let path = match asked {
        // A bare name is looked for, a path is taken as it stands.
        Some(name) if name.components().count() == 1 && !name.is_absolute() => std::env::split_paths(search_path)
            .map(|dir| dir.join(name))
            .find(|path| is_executable(path))
            .ok_or_else(|| CcError::NamedClangMissing { name: name.into() })?,
        Some(path) if is_executable(path) => path.into(),
        Some(path) => return Err(CcError::NamedClangMissing { name: path.into() }),
        None => newest(search_path).ok_or_else(|| CcError::NoClang { search_path: search_path.into() })?,
    };
    let text = run(&path, "--version")?;
    let Some(version) = parse_version(&text) else {
        let said = text.lines().next().unwrap_or_default().chars().take(200).collect();
        return Err(CcError::NotClang { path, said });
    };
    let clang = Clang { path, version };
    if version.major < OLDEST {
        return Err(CcError::ClangTooOld { clang, needed: OLDEST, what: "BTF and CO-RE" });
    }
    Ok(clang)
}

fn newest(search_path: &OsStr) -> Option<PathBuf> {
    let mut best: Option<(u32, PathBuf)> = None;
    let mut plain = None;
    for dir in std::env::split_paths(search_path) {
        // A directory of $PATH that is missing or closed to us is usual and holds no clang for us.
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let number = match name.to_str() {
                Some("clang") => None,
                Some(name) => match name.strip_prefix("clang-").and_then(|digits| digits.parse::<u32>().ok()) {
                    Some(number) => Some(number),
                    None => continue,
                },
                None => continue,
            };
            let path = entry.path();
            if !is_executable(&path) {
                continue;
            }
            match number {
                None if plain.is_none() => plain = Some(path),
                // Of two with one number, the directory that comes first in $PATH wins.
                Some(number) if best.as_ref().is_none_or(|(most, _)| number > *most) => best = Some((number, path)),
                _ => {}
            }
        }
    }
    best.map(|(_, path)| path).or(plain)
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn run(path: &Path, flag: &str) -> Result<String, CcError> {
    let output = Command::new(path)
        .arg(flag)
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| CcError::Run { clang: path.into(), cause })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads the version out of what `clang --version` prints, with whatever a distribution puts around it.
fn parse_version(text: &str) -> Option<Version> {
    let (_, rest) = text.split_once("clang version ")?;
    let number = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    let major = parts.next()??;
    let mut next = || parts.next().flatten().unwrap_or(0);
    Some(Version { major, minor: next(), patch: next() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_distributions_print_them() {
        let version = |text| parse_version(text).map(|version| version.to_string());
        assert_eq!(version("Debian clang version 19.1.7 (3~deb12u1)\nTarget: x").as_deref(), Some("19.1.7"));
        assert_eq!(version("Ubuntu clang version 14.0.0-1ubuntu1.1\n").as_deref(), Some("14.0.0"));
        assert_eq!(version("clang version 20.1.8 (Fedora 20.1.8-4.fc42)\n").as_deref(), Some("20.1.8"));
        assert_eq!(version("clang version 21.0.0git (https://x)\n").as_deref(), Some("21.0.0"));
        assert_eq!(version("clang version 12\n").as_deref(), Some("12.0.0"));
        assert_eq!(version("gcc (Debian 12.2.0-14) 12.2.0"), None);
        assert_eq!(version("clang version "), None);
        assert_eq!(version(""), None);
    }
}
