//! Disagreements that are known and explained: `tests/verifier/disagreements.txt`.
//!
//! ```text
//! name: finer-sign-extension
//! outcome: TOO LAX
//! kernel: min value is negative | outside of the allowed memory range
//! skep:
//! has: (s8) | (s16)
//! why: Linux forgets the bounds of what is sign-extended; here they are kept, and the access is inside.
//! ```
//!
//! What is held against `has` is the program made as small as it disagrees. An entry is about a disagreement when the outcome is the same, the kernel's and skep's messages each have one of the
//! texts, and so has the program. ` | ` stands between alternatives; nothing fits everything.

use anyhow::{Context, Result, bail};
use skep_progen::Generated;

use super::judge::{KernelSays, Outcome, SkepSays};

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// A name for it.
    pub name: String,
    /// Title of the outcome.
    pub outcome: String,
    /// Parts of the kernel's message, one of which must be there.
    pub kernel: Vec<String>,
    /// The same for skep's message.
    pub skep: Vec<String>,
    /// The same for the program's text.
    pub has: Vec<String>,
    /// Why it is so, and why it stays.
    pub why: String,
}

impl Known {
    /// Whether this is it.
    pub fn explains(&self, outcome: Outcome, kernel: &KernelSays, skep: &SkepSays, program: &Generated) -> bool {
        let theirs = match kernel {
            KernelSays::Refuses { message, .. } => message.as_str(),
            _ => "",
        };
        let ours = match skep {
            SkepSays::Fails(message) => message.as_str(),
            _ => "",
        };
        let fits = |parts: &[String], text: &str| parts.is_empty() || parts.iter().any(|part| text.contains(part));
        outcome.title().eq_ignore_ascii_case(&self.outcome)
            && fits(&self.kernel, theirs)
            && fits(&self.skep, ours)
            && (self.has.is_empty() || fits(&self.has, &code(program)))
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
                "kernel" => known.kernel = parts(&value),
                "skep" => known.skep = parts(&value),
                "has" => known.has = parts(&value),
                "why" => known.why = value,
                _ => bail!("there is no key {key:?}"),
            }
        }
        if !any {
            continue;
        }
        let general = known.kernel.is_empty() && known.skep.is_empty() && known.has.is_empty();
        if known.name.is_empty() || known.why.is_empty() || known.outcome.is_empty() || general {
            bail!("entry {} has no name, outcome or reason, or explains everything", number + 1);
        }
        out.push(known);
    }
    Ok(out)
}

/// Map types and instructions: what was done to a program is not part of it.
fn code(program: &Generated) -> String {
    let maps = program.maps.iter().map(|map| match &map.inner {
        Some(inner) => format!("map {} of {}\n", map.map_type, inner.map_type),
        None => format!("map {}\n", map.map_type),
    });
    maps.chain(program.insns.iter().map(|insn| format!("{insn}\n"))).collect()
}

fn parts(text: &str) -> Vec<String> {
    text.split('|').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_apply() {
        let text = "# comment\n\nname: a\noutcome: TOO LAX\nkernel: so | to jit\nskep:\nhas: exit\nwhy: because\n";
        let known = parse(text).expect("an entry");
        assert_eq!(known.len(), 1);
        let says = |message: &str| KernelSays::Refuses { errno: 14, message: message.into(), log: String::new() };
        let program = Generated::parse("type xdp\ncode\nr0 = 0\nexit\n").expect("a program");
        assert!(known[0].explains(Outcome::TooLax, &says("No program to jit at insn 3"), &SkepSays::Passes, &program));
        assert!(!known[0].explains(Outcome::TooLax, &says("R1 !read_ok"), &SkepSays::Passes, &program));
        assert!(!known[0].explains(Outcome::TooStrict, &says("to jit"), &SkepSays::Passes, &program));
        assert!(parse("name: all\noutcome: too lax\nwhy: so\n").is_err());
    }
}
