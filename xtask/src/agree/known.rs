//! Disagreements that are known and explained: `tests/verifier/disagreements.txt`.
//!
//! ```text
//! name: bpf-loop-no-rounds
//! outcome: too lax
//! kernel: No program to jit
//! skep:
//! why: bpf_loop with 0 rounds never looks at its function, which 6.18 then leaves out and misses.
//! ```
//!
//! An entry is about a disagreement when the outcome is the same and both texts (which may be empty) are part of what
//! the kernel's and skep's messages say.

use anyhow::{Context, Result, bail};

use super::judge::{KernelSays, Outcome, SkepSays};

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// A name for it.
    pub name: String,
    /// Title of the outcome.
    pub outcome: String,
    /// Part of the kernel's message.
    pub kernel: String,
    /// Part of skep's message.
    pub skep: String,
    /// Why it is so, and why it stays.
    pub why: String,
}

impl Known {
    /// Whether this is it.
    pub fn explains(&self, outcome: Outcome, kernel: &KernelSays, skep: &SkepSays) -> bool {
        let theirs = match kernel {
            KernelSays::Refuses { message, .. } => message.as_str(),
            _ => "",
        };
        let ours = match skep {
            SkepSays::Fails(message) => message.as_str(),
            _ => "",
        };
        outcome.title().eq_ignore_ascii_case(&self.outcome)
            && theirs.contains(&self.kernel)
            && ours.contains(&self.skep)
    }
}

/// Reads entries; blank lines separate them, lines with `#` are comments.
///
/// # Errors
/// A line that is not of the form, an entry without its parts.
pub(super) fn parse(text: &str) -> Result<Vec<Known>> {
    let mut out = Vec::new();
    for (number, entry) in text.split("\n\n").enumerate() {
        let mut known = Known::default();
        let lines = entry.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let mut any = false;
        for line in lines {
            any = true;
            let (key, value) = line.split_once(':').with_context(|| format!("{line:?} is no `key: value`"))?;
            let value = value.trim().to_owned();
            match key {
                "name" => known.name = value,
                "outcome" => known.outcome = value,
                "kernel" => known.kernel = value,
                "skep" => known.skep = value,
                "why" => known.why = value,
                _ => bail!("there is no key {key:?}"),
            }
        }
        if !any {
            continue;
        }
        let general = known.kernel.is_empty() && known.skep.is_empty();
        if known.name.is_empty() || known.why.is_empty() || known.outcome.is_empty() || general {
            bail!("entry {} has no name, outcome or reason, or explains everything", number + 1);
        }
        out.push(known);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_apply() {
        let text = "# comment\n\nname: a\noutcome: TOO LAX\nkernel: to jit\nskep:\nwhy: because\n";
        let known = parse(text).expect("an entry");
        assert_eq!(known.len(), 1);
        let says = |message: &str| KernelSays::Refuses { errno: 14, message: message.into(), log: String::new() };
        assert!(known[0].explains(Outcome::TooLax, &says("No program to jit at insn 3"), &SkepSays::Passes));
        assert!(!known[0].explains(Outcome::TooLax, &says("R1 !read_ok"), &SkepSays::Passes));
        assert!(!known[0].explains(Outcome::TooStrict, &says("to jit"), &SkepSays::Passes));
        assert!(parse("name: all\noutcome: too lax\nwhy: so\n").is_err());
    }
}
