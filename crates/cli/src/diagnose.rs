//! A failure of the engine as a report for the person: for a refused program its source line, the instruction, the
//! kernel's reason and what is usually done about it.

use crate::failure::{Exit, Failure};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use skep_engine::{Error, LoadError, Refusal, SourceLine};
use std::io::IsTerminal;

/// Lines of source shown before the one that matters, where the file is at hand.
const CONTEXT_LINES: u32 = 2;

/// A failure with its exit code. `log` adds the whole verifier log.
pub(crate) fn failure(error: &Error, log: bool) -> Failure {
    let exit = match error {
        Error::Command { .. } => Exit::NoCommand,
        _ => Exit::from(error.class()),
    };
    if let Error::Load(error) = error
        && let LoadError::Program(refusal) = error.as_ref()
    {
        let styled = std::io::stderr().is_terminal();
        return Failure::rendered(exit, refused(refusal, log, styled, &read_source));
    }
    Failure::say(exit, error)
}

/// A source file. Its name comes from the object, which may name anything: what is no file, or no text of a sensible size, is
/// not read.
pub(crate) fn read_source(path: &str) -> Option<String> {
    const MOST_BYTES: u64 = 16 << 20;
    let about = std::fs::metadata(path).ok()?;
    if about.is_file() && about.len() <= MOST_BYTES { std::fs::read_to_string(path).ok() } else { None }
}

/// Lays out the report. `read` gives the text of a source file, where it can be had.
fn refused(refusal: &Refusal, log: bool, styled: bool, read: &dyn Fn(&str) -> Option<String>) -> String {
    let advice = refusal.advice();
    let title = match &advice {
        Some(advice) => format!("the kernel refused program `{}`: {}", refusal.program, advice.title),
        None => format!("the kernel refused program `{}`: {}", refusal.program, refusal.message),
    };
    let source = refusal.source.as_ref().map(|line| excerpt(line, read));
    let mut group = Group::with_title(Level::ERROR.primary_title(title.as_str()));
    if let (Some(excerpt), Some(line)) = (&source, &refusal.source) {
        let mut snippet = Snippet::source(excerpt.text.as_str())
            .line_start(excerpt.first_line as usize)
            .fold(false)
            .annotation(AnnotationKind::Primary.span(excerpt.span.clone()).label(refusal.message.as_str()));
        if !line.file.is_empty() {
            snippet = snippet.path(from_here(&line.file));
        }
        group = group.element(snippet);
    }
    let mut notes = Vec::new();
    if let Some(insn) = refusal.insn {
        let text = refusal.insn_text.as_deref().unwrap_or_default();
        notes.push(format!("instruction {insn}: {text}").trim_end_matches([':', ' ']).to_owned());
    }
    notes.push(format!("the kernel says: {} ({})", refusal.message, refusal.errno));
    notes.extend(registers(refusal).map(|register| format!("register {register}")));
    if let Some(poisoned) = &refusal.poisoned {
        notes.push(poisoned.clone());
    }
    for note in &notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    if let Some(advice) = &advice {
        group = group.element(Level::NOTE.message(advice.why)).element(Level::HELP.message(advice.fix));
    }
    if !log && !refusal.log.is_empty() {
        group = group.element(Level::NOTE.with_name("log").message("--log prints all that the verifier said"));
    }
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    let mut out = renderer.render(&[group]).to_string();
    if log && !refusal.log.is_empty() {
        out.push_str("\n\nverifier log:\n");
        out.push_str(refusal.log.trim_end());
    }
    out
}

/// A path below the working directory as one would write it there.
pub(crate) fn from_here(path: &str) -> &str {
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| std::path::Path::new(path).strip_prefix(here).ok()?.to_str());
    relative.filter(|relative| !relative.is_empty()).unwrap_or(path)
}

/// The registers that the instruction or the reason names, as `R1=scalar()`: the others are noise here, and in the log.
fn registers(refusal: &Refusal) -> impl Iterator<Item = &str> {
    let all = refusal.registers.as_deref().unwrap_or_default();
    let starts: Vec<usize> =
        all.match_indices('R').map(|(at, _)| at).filter(|&at| at == 0 || all[..at].ends_with(' ')).collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([all.len()]).collect();
    let said = format!("{} {}", refusal.insn_text.as_deref().unwrap_or_default(), refusal.message);
    let words: Vec<String> = said
        .split(|c: char| !c.is_ascii_alphanumeric())
        .map(|word| word.to_ascii_uppercase().replace('W', "R"))
        .collect();
    starts.into_iter().zip(ends).filter_map(move |(start, end)| {
        // Stack slots stand behind the last register.
        let register = all.get(start..end)?;
        let register = register.split_once(" fp-").map_or(register, |(register, _)| register).trim_end();
        let (name, _) = register.split_once('=')?;
        words.iter().any(|word| word == name).then_some(register)
    })
}

struct Excerpt {
    text: String,
    first_line: u32,
    span: std::ops::Range<usize>,
}

/// The line with some before it from the file, if the file still says the same there; else the line alone.
fn excerpt(line: &SourceLine, read: &dyn Fn(&str) -> Option<String>) -> Excerpt {
    let file = if line.file.is_empty() || line.line == 0 { None } else { read(&line.file) };
    let (text, first_line, offset) = file
        .and_then(|file| {
            let lines: Vec<&str> = file.lines().collect();
            let index = line.line as usize - 1;
            if lines.get(index)?.trim() != line.text.trim() {
                return None;
            }
            let first = index.saturating_sub(CONTEXT_LINES as usize);
            let before: usize = lines[first..index].iter().map(|l| l.len() + 1).sum();
            Some((lines[first..=index].join("\n"), first as u32 + 1, before))
        })
        .unwrap_or_else(|| (line.text.clone(), line.line.max(1), 0));
    let own = &text[offset..];
    let indent = own.len() - own.trim_start().len();
    // A column counts bytes from 1; it may point behind a tab-expanded or cut line, then the whole line is marked.
    let column = (line.column as usize).saturating_sub(1);
    let start = if line.column > 0 && column < own.len() && own.is_char_boundary(column) { column } else { indent };
    let start = start.max(indent.min(own.len()));
    Excerpt { first_line, span: offset + start..text.trim_end().len().max(offset + start), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shown_with_what_stands_before_it() {
        let line = SourceLine { file: "a.c".into(), line: 3, column: 9, text: "\treturn *value;".into() };
        let shown = excerpt(&line, &|_| Some("int f()\n{\n\treturn *value;\n}\n".into()));
        assert_eq!((shown.first_line, &shown.text[shown.span.clone()]), (1, "*value;"));
        assert_eq!(shown.text, "int f()\n{\n\treturn *value;");
    }

    #[test]
    fn a_file_that_has_changed_is_not_shown() {
        let line = SourceLine { file: "a.c".into(), line: 2, column: 0, text: "  x = *p;".into() };
        for read in [&(|_: &str| None) as &dyn Fn(&str) -> Option<String>, &|_| Some("other\ntext\n".into())] {
            let shown = excerpt(&line, read);
            assert_eq!((shown.first_line, shown.text.as_str()), (2, "  x = *p;"));
            assert_eq!(&shown.text[shown.span], "x = *p;");
        }
    }
}
