//! Automation for this workspace, as a library so that tests of other crates can call it.
//!
//! The binary (`cargo xtask ...`) only parses arguments and calls into here. One module a subcommand:
//! [`guest`] boots a Debian kernel in QEMU and runs a command in it; [`bench`] measures skep against libbpf; [`fuzz`] runs
//! the fuzz targets; [`agree`] holds the verifier against the running kernel.

pub mod agree;
pub mod bench;
pub mod bench_verifier;
pub mod bench_vm;
pub mod fuzz;
pub mod guest;
mod page;

use std::path::{Path, PathBuf};

/// The root of the workspace, known from where this crate was compiled.
#[must_use]
pub fn workspace_dir() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Cargo's target directory: `$CARGO_TARGET_DIR` (relative to the workspace when relative), else `target/`.
///
/// A `target-dir` set in a cargo configuration file is not seen.
#[must_use]
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => workspace_dir().join(dir),
        _ => workspace_dir().join("target"),
    }
}
