//! `cargo xtask fuzz`: every fuzz target of `fuzz/` for a while, by cargo-fuzz.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only these targets
    targets: Vec<String>,
}

/// Runs it.
pub fn main(args: &Args) -> Result<()> {
    let have = Command::new("cargo").args(["fuzz", "--version"]).output().is_ok_and(|o| o.status.success());
    if !have {
        let status = Command::new("cargo").args(["install", "--locked", "cargo-fuzz"]).status()?;
        ensure!(status.success(), "fuzz: cargo install cargo-fuzz failed");
    }
    let fuzz = crate::workspace_dir().join("fuzz");
    let listed = cargo_fuzz(&fuzz).arg("list").output().context("start cargo fuzz list")?;
    ensure!(listed.status.success(), "cargo fuzz list: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let targets = listed.split_whitespace().filter(|t| args.targets.is_empty() || args.targets.iter().any(|a| a == t));
    let mut count = 0;
    for target in targets {
        println!("fuzz: {target} for {} s", args.seconds);
        let mut command = cargo_fuzz(&fuzz);
        command.args(["run", "--release", target, "--", "-rss_limit_mb=2048", "-timeout=10"]);
        command.arg(format!("-max_total_time={}", args.seconds));
        let status = command.status().context("start cargo fuzz run")?;
        ensure!(status.success(), "fuzz target {target} found something: see fuzz/artifacts/{target}");
        count += 1;
    }
    ensure!(count > 0, "fuzz: no such target; there are: {}", listed.replace('\n', " "));
    Ok(())
}

/// The sanitizers are unstable compiler flags; RUSTC_BOOTSTRAP lets the stable compiler take them.
fn cargo_fuzz(dir: &std::path::Path) -> Command {
    let mut command = Command::new("cargo");
    command.env("RUSTC_BOOTSTRAP", "1").arg("fuzz").current_dir(dir.parent().unwrap_or(dir));
    command
}
