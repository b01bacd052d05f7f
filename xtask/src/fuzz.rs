//! `cargo xtask fuzz`: every fuzz target of `fuzz/` for a while, by cargo-fuzz; then the campaigns of generated programs
//! that tests run in short: the vm's engines against each other ([`Args::programs`] of them), the verifier against the
//! running kernel, and accepted programs against what was computed for them.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Generated programs that run in every engine of the vm; a twentieth of that is asked of verifier and kernel, and a
    /// tenth is run after it was accepted
    #[arg(long, default_value_t = 1_000_000)]
    programs: u64,
    /// Only these targets and campaigns (engines, agree, soundness)
    targets: Vec<String>,
}

/// Runs it.
pub fn main(args: &Args) -> Result<()> {
    let wanted = |name: &str| args.targets.is_empty() || args.targets.iter().any(|target| target == name);
    let mut count = 0;
    let names = campaigns(args.programs);
    let only_campaigns =
        !args.targets.is_empty() && args.targets.iter().all(|target| names.iter().any(|(name, _)| name == target));
    if !only_campaigns {
        count += targets(args, &wanted)?;
    }
    for (name, mut command) in names {
        if wanted(name) {
            println!("fuzz: {name}");
            let status = command.status().with_context(|| format!("start the campaign {name}"))?;
            ensure!(status.success(), "the campaign {name} found something, see above");
            count += 1;
        }
    }
    ensure!(count > 0, "fuzz: there is no such target or campaign; `cargo fuzz list` and engines, agree, soundness");
    Ok(())
}

fn targets(args: &Args, wanted: &dyn Fn(&str) -> bool) -> Result<usize> {
    let have = Command::new("cargo").args(["fuzz", "--version"]).output().is_ok_and(|o| o.status.success());
    if !have {
        let status = Command::new("cargo").args(["install", "--locked", "cargo-fuzz"]).status()?;
        ensure!(status.success(), "fuzz: cargo install cargo-fuzz failed");
    }
    let fuzz = crate::workspace_dir().join("fuzz");
    let listed = cargo_fuzz(&fuzz).arg("list").output().context("start cargo fuzz list")?;
    ensure!(listed.status.success(), "cargo fuzz list: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut count = 0;
    for target in listed.split_whitespace().filter(|target| wanted(target)) {
        println!("fuzz: {target} for {} s", args.seconds);
        let mut command = cargo_fuzz(&fuzz);
        command.args(["run", "--release", target, "--", "-rss_limit_mb=2048", "-timeout=10"]);
        command.arg(format!("-max_total_time={}", args.seconds));
        let status = command.status().context("start cargo fuzz run")?;
        ensure!(status.success(), "fuzz target {target} found something: see fuzz/artifacts/{target}");
        count += 1;
    }
    Ok(count)
}

/// The sanitizers are unstable compiler flags; RUSTC_BOOTSTRAP lets the stable compiler take them.
fn cargo_fuzz(dir: &std::path::Path) -> Command {
    let mut command = Command::new("cargo");
    command.env("RUSTC_BOOTSTRAP", "1").arg("fuzz").current_dir(dir.parent().unwrap_or(dir));
    command
}

/// Name and command of each campaign.
fn campaigns(programs: u64) -> [(&'static str, Command); 3] {
    let test = |package: &str, test: &str, variable: &str, count: u64| {
        let mut command = Command::new("cargo");
        command.args(["test", "--release", "-p", package, "--test", test, "--", "--nocapture"]);
        command.env(variable, count.to_string()).current_dir(crate::workspace_dir());
        command
    };
    let mut agree = Command::new("cargo");
    agree.args(["run", "--release", "--package", "xtask", "--", "agree", "--count"]);
    agree.arg((programs / 20).to_string()).current_dir(crate::workspace_dir());
    [
        ("engines", test("skep-vm", "differential", "SKEP_DIFFERENTIAL", programs)),
        ("agree", agree),
        ("soundness", test("skep-verifier", "soundness", "SKEP_SOUNDNESS", programs / 10)),
    ]
}
