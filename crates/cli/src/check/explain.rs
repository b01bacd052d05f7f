//! `--explain`: the page of an error code.

use crate::failure::{Exit, Failure};
use crate::output::Output;
use skep_verifier::Code;

/// Prints the page of a code.
pub(super) fn explain(name: &str) -> Result<(), Failure> {
    let Some(code) = Code::from_name(name.trim()) else {
        let last = Code::ALL.last().map(Code::to_string).unwrap_or_default();
        return Err(Failure::say(
            Exit::Usage,
            format!("explain {name}: there is no such code; they run from SKEP0001 to {last}"),
        ));
    };
    let mut out = Output::new();
    out.text(&skep_verifier::pages::page(code));
    out.end()
}
