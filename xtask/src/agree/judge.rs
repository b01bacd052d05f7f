//! What the running kernel, and what skep's verifier, says of a generated program.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result};
use skep_abi::KernelVersion;
use skep_btf::Btf;
use skep_kernel::LogLevel;
use skep_kernel::load::{LoadError, LoadOptions, load};
use skep_object::ProgramIdx;
use skep_progen::Generated;
use skep_verifier::{Options, Verdict, check};

/// The kernel's word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KernelSays {
    /// It loads.
    Accepts,
    /// Its verifier refuses it: error number, message, log.
    Refuses {
        /// `errno`
        errno: i32,
        /// The line that says why.
        message: String,
        /// The whole log.
        log: String,
    },
    /// It never came to the verifier: a map, a type or a hook is not to be had here. A fault of the generator.
    NotAsked(String),
}

/// skep's word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SkepSays {
    /// Safe.
    Passes,
    /// Not safe: code and message.
    Fails(String),
    /// Not modelled: the feature.
    Unsupported(String),
    /// It panicked, which it must not on any input.
    Panics(String),
}

/// What all checks share.
pub struct Judge {
    btf: Btf,
    version: KernelVersion,
}

impl Judge {
    /// Reads the running kernel's version and types.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn new() -> Result<Judge> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
        let version = release.trim().parse().context("understand the kernel's release")?;
        let btf = skep_kernel::kernel_btf().context("read the kernel's types")?;
        Ok(Judge { btf, version })
    }

    /// Whether the kernel and the verifier can both be asked, as this user.
    pub fn may_load() -> bool {
        skep_kernel::privilege::Capabilities::current().has("CAP_SYS_ADMIN")
    }

    /// Loads it, and lets go of it at once.
    /// A refusal has the message and the counts, and with `whole` the log of the path, which takes long to write for a
    /// program that is refused for its size.
    pub fn kernel(&self, program: &Generated, whole: bool) -> KernelSays {
        let refusal_level = if whole { LogLevel::Level1 } else { LogLevel::Stats };
        match load(&program.to_spec(), &LoadOptions { refusal_level, ..LoadOptions::default() }) {
            Ok(_) => KernelSays::Accepts,
            // It did not take the program's types, which is no word on the program.
            Err(LoadError::Program(refusal)) if refusal.message.contains("missing btf func_info") => {
                KernelSays::NotAsked(refusal.message.clone())
            }
            Err(LoadError::Program(refusal)) => KernelSays::Refuses {
                errno: refusal.errno.0,
                message: refusal.message.clone(),
                log: refusal.log.clone(),
            },
            Err(error) => KernelSays::NotAsked(error.to_string()),
        }
    }

    /// All that the kernel's verifier says of it, every path of an accepted program too.
    pub fn log(&self, program: &Generated) -> String {
        let options =
            LoadOptions { log_level: LogLevel::Level2, refusal_level: LogLevel::Level2, ..LoadOptions::default() };
        match load(&program.to_spec(), &options) {
            Ok(loaded) => loaded.programs().map(|program| program.log().to_owned()).collect(),
            Err(LoadError::Program(refusal)) => refusal.log.clone(),
            Err(error) => error.to_string(),
        }
    }

    /// Checks it by the running kernel's rules.
    pub fn skep(&self, program: &Generated) -> SkepSays {
        let spec = program.to_spec();
        let options = Options { kernel: self.version, target_btf: Some(&self.btf), ..Options::default() };
        let checked = catch_unwind(AssertUnwindSafe(|| check(&spec, ProgramIdx(0), &options)));
        match checked.map(|report| report.verdict) {
            Ok(Verdict::Pass) => SkepSays::Passes,
            Ok(Verdict::Unsupported(what)) => SkepSays::Unsupported(what.feature),
            Ok(Verdict::Fail(why)) => {
                let facts: String = why.facts.iter().map(|fact| format!("\n  {fact}")).collect();
                SkepSays::Fails(format!("{:?} at {}: {} ({}){facts}", why.code, why.insn, why.title, why.label))
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                SkepSays::Panics(text.unwrap_or_default())
            }
        }
    }
}

/// How two words compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// Both accept.
    BothAccept,
    /// Both refuse.
    BothRefuse,
    /// skep refuses what the kernel accepts.
    TooStrict,
    /// skep passes what the kernel refuses: the worst.
    TooLax,
    /// skep does not model it.
    Unsupported,
    /// The kernel was not asked.
    NotAsked,
    /// skep panicked.
    Panic,
    /// They differ in a way that is known and explained.
    Explained,
}

impl Outcome {
    /// Every outcome, in the order of the table's columns.
    pub const ALL: [Outcome; 8] = [
        Outcome::BothAccept,
        Outcome::BothRefuse,
        Outcome::TooStrict,
        Outcome::TooLax,
        Outcome::Unsupported,
        Outcome::NotAsked,
        Outcome::Panic,
        Outcome::Explained,
    ];

    /// The column's title.
    pub fn title(self) -> &'static str {
        match self {
            Outcome::BothAccept => "both accept",
            Outcome::BothRefuse => "both refuse",
            Outcome::TooStrict => "too strict",
            Outcome::TooLax => "TOO LAX",
            Outcome::Unsupported => "unsupported",
            Outcome::NotAsked => "not asked",
            Outcome::Panic => "panic",
            Outcome::Explained => "explained",
        }
    }

    /// Whether somebody has to look at it.
    pub fn is_disagreement(self) -> bool {
        matches!(self, Outcome::TooStrict | Outcome::TooLax | Outcome::Panic)
    }

    /// Compares two words.
    pub fn of(kernel: &KernelSays, skep: &SkepSays) -> Outcome {
        match (kernel, skep) {
            (_, SkepSays::Panics(_)) => Outcome::Panic,
            (KernelSays::NotAsked(_), _) => Outcome::NotAsked,
            (_, SkepSays::Unsupported(_)) => Outcome::Unsupported,
            (KernelSays::Accepts, SkepSays::Passes) => Outcome::BothAccept,
            (KernelSays::Accepts, SkepSays::Fails(_)) => Outcome::TooStrict,
            (KernelSays::Refuses { .. }, SkepSays::Passes) => Outcome::TooLax,
            (KernelSays::Refuses { .. }, SkepSays::Fails(_)) => Outcome::BothRefuse,
        }
    }
}
