//! Why there is no object, in words for the person who has to do something about it.

use crate::{Clang, Headers};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

const INSTALL_CLANG: &str = "install it (Debian, Ubuntu: apt install clang; Fedora: dnf install clang), or set CLANG";
const INSTALL_LIBBPF: &str =
    "install libbpf's headers (Debian, Ubuntu: apt install libbpf-dev; Fedora: dnf install libbpf-devel)";

/// Why a C file could not be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CcError {
    /// The source cannot be read.
    #[error("compile {source_file:?}: {cause}")]
    Source {
        /// The C file.
        source_file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// No clang in the search path.
    #[error("compile C for BPF: no clang in {search_path:?}; {INSTALL_CLANG}")]
    NoClang {
        /// The directories that were searched.
        search_path: OsString,
    },
    /// The clang that was asked for is not there or cannot be run.
    #[error(
        "compile C for BPF: the clang asked for, {name:?}, is no executable file; correct $CLANG, or unset it to use the newest clang on the path"
    )]
    NamedClangMissing {
        /// As it was asked for.
        name: PathBuf,
    },
    /// What should be clang does not call itself so.
    #[error("compile C for BPF: {path:?} is not clang (--version says {said:?}); {INSTALL_CLANG}")]
    NotClang {
        /// The program.
        path: PathBuf,
        /// The first line that it printed.
        said: String,
    },
    /// clang lacks what is needed.
    #[error("compile C for BPF: {path:?} is version {version}, but {what} needs clang {needed} or newer; {INSTALL_CLANG}", path = clang.path, version = clang.version)]
    ClangTooOld {
        /// The newest that was found.
        clang: Clang,
        /// The release that would do.
        needed: u32,
        /// For what.
        what: &'static str,
    },
    /// This clang was built without BPF.
    #[error("compile {source_file:?}: {path:?} (version {version}) cannot make BPF code; {INSTALL_CLANG} to one whose --print-targets lists bpf", path = clang.path, version = clang.version)]
    NoBpfTarget {
        /// The C file.
        source_file: PathBuf,
        /// The compiler.
        clang: Clang,
        /// What it wrote.
        diagnostics: Vec<u8>,
    },
    /// clang could not be started.
    #[error("run {clang:?}: {cause}")]
    Run {
        /// The compiler.
        clang: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// clang was ended from outside, or crashed.
    #[error("compile {source_file:?}: {path:?} (version {version}) ended by {status}{}", Text(diagnostics), path = clang.path, version = clang.version)]
    Ended {
        /// The C file.
        source_file: PathBuf,
        /// The compiler.
        clang: Clang,
        /// By which signal.
        status: ExitStatus,
        /// What it wrote.
        diagnostics: Vec<u8>,
    },
    /// clang refused the source. The message is clang's own.
    #[error("compile {source_file:?}: clang refuses it{}", Text(diagnostics))]
    Refused {
        /// The C file.
        source_file: PathBuf,
        /// What clang wrote, unchanged.
        diagnostics: Vec<u8>,
    },
    /// The source includes a header of libbpf's that this machine does not have.
    #[error("compile {source_file:?}: <{header}> is not on this machine; {INSTALL_LIBBPF}{}", Text(diagnostics))]
    NoLibbpfHeaders {
        /// The C file.
        source_file: PathBuf,
        /// The first header that was missing, such as `bpf/bpf_helpers.h`.
        header: String,
        /// What clang wrote, unchanged.
        diagnostics: Vec<u8>,
    },
    /// The source includes `vmlinux.h`, which cannot be written here.
    #[error(
        "compile {source_file:?}: it includes vmlinux.h, but the kernel's types cannot be had from {btf_source:?}: {cause}; give the BTF of the kernel that it is meant for, put a vmlinux.h beside the source, or run a kernel built with CONFIG_DEBUG_INFO_BTF=y{}",
        Text(diagnostics)
    )]
    NoKernelTypes {
        /// The C file.
        source_file: PathBuf,
        /// Where the types should have come from.
        btf_source: PathBuf,
        /// Why they did not.
        cause: String,
        /// What clang wrote, unchanged.
        diagnostics: Vec<u8>,
    },
    /// A generated header could not be written, neither in the cache nor in a temporary directory.
    #[error(
        "write headers to {dir:?}: {cause}; free some room there, or set XDG_CACHE_HOME to a directory that can be written"
    )]
    Headers {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl CcError {
    /// What clang wrote, unchanged; empty where it did not come to run. The error's own text has it too, except that bytes
    /// which are not UTF-8 are replaced there.
    pub fn diagnostics(&self) -> &[u8] {
        match self {
            CcError::NoBpfTarget { diagnostics, .. }
            | CcError::Ended { diagnostics, .. }
            | CcError::Refused { diagnostics, .. }
            | CcError::NoLibbpfHeaders { diagnostics, .. }
            | CcError::NoKernelTypes { diagnostics, .. } => diagnostics,
            _ => &[],
        }
    }
}

/// Diagnostics below a message, from their own line on.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.0);
        let text = text.trim_end();
        if text.is_empty() { Ok(()) } else { write!(f, "\n{text}") }
    }
}

/// Tells from what clang wrote which of the usual causes it was. clang does not translate its messages.
pub(crate) fn explain(
    source: &std::path::Path,
    clang: Clang,
    status: ExitStatus,
    diagnostics: Vec<u8>,
    headers: &Headers,
) -> CcError {
    let source_file = source.to_path_buf();
    let text = String::from_utf8_lossy(&diagnostics).into_owned();
    if status.code().is_none() {
        return CcError::Ended { source_file, clang, status, diagnostics };
    }
    match missing_header(&text) {
        Some("vmlinux.h") => {
            if let Some(cause) = headers.missing_types() {
                let (btf_source, cause) = (headers.btf_source().into(), cause.into());
                return CcError::NoKernelTypes { source_file, btf_source, cause, diagnostics };
            }
        }
        Some(header) if header.starts_with("bpf/") => {
            let header = header.into();
            return CcError::NoLibbpfHeaders { source_file, header, diagnostics };
        }
        _ => {}
    }
    if text.contains("unable to create target") || text.contains("unknown target triple") {
        return CcError::NoBpfTarget { source_file, clang, diagnostics };
    }
    CcError::Refused { source_file, diagnostics }
}

/// The header that stopped clang, out of `fatal error: 'NAME' file not found`, colour codes or not.
fn missing_header(text: &str) -> Option<&str> {
    let (before, _) = text.split_once("' file not found")?;
    before.rsplit_once('\'').map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_header_is_named() {
        let text = "a.c:1:10: \x1b[0;1;31mfatal error: \x1b[0m\x1b[1m'bpf/x.h' file not found\x1b[0m\n";
        assert_eq!(missing_header(text), Some("bpf/x.h"));
        assert_eq!(missing_header("it's a c file: error: expected ';'"), None);
    }
}
