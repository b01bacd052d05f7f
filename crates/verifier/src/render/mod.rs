//! A [`Report`] as text for a person, in the manner of rustc: the source line with what is wrong under it, the way that
//! leads there, what is known, and what to write instead.
//!
//! ```text
//! error[SKEP0009]: `count` may be null here
//!   --> counter.bpf.c:21:5
//!    |
//! 20 |     __u64 *count = bpf_map_lookup_elem(&counts, &key);
//!    |                    ---------------------------------- `count` is looked up in map `counts`: null where it has no such element
//! 21 |     *count += 1;
//!    |     ^^^^^^^^^^^ this reads 8 bytes through it
//!    |
//!    = note: instruction 9 of `on_switch` ("tp_btf/sched_switch"): r1 = *(u64 *)(r0 + 0)
//!    = help: test it first: `if (!count) return 0;`
//! ```
//!
//! Source lines come from the object's line records, which hold their text; a file is read only where [`Layout::read`] is
//! given, and shown only if it still says the same. An object without line records gets its instructions shown in their
//! place. A variable's name is used where the lines leave one plausible choice ([`names`]), else the register is named.
//!
//! Limits: [`MAX_STEPS`] steps of a path are shown, those that say most; longer lines than [`MAX_LINE`] bytes are cut.

mod names;
mod source;
mod steps;

use crate::{Code, Rejection, Report, Unsupported, Verdict};
use annotate_snippets::{AnnotationKind, Element, Group, Level, Renderer, Snippet};
use names::Names;
use skep_isa::InsnIdx;
use skep_object::{ObjectSpec, ProgramIdx, ProgramSpec};
use source::{Excerpt, Mark, Sources, excerpts};

pub use source::{SourceLine, function_at, source_line};

/// Most steps of a path that are shown.
pub const MAX_STEPS: usize = 8;

/// Bytes of a source line that are shown.
pub const MAX_LINE: usize = 500;

/// From a file's name to its text, if it can be had.
pub type ReadSource<'a> = &'a dyn Fn(&str) -> Option<String>;

/// From an instruction of a program to the line it was made from: for objects without line records of their own, where the
/// caller has read debug information.
pub type FindLine<'a> = &'a dyn Fn(&ProgramSpec, InsnIdx) -> Option<SourceLine>;

/// How a report is laid out.
#[derive(Clone, Copy, Default)]
pub struct Layout<'a> {
    /// With terminal colours.
    pub styled: bool,
    /// Gives the text of a source file, if it can be had: for the lines around those that the object holds.
    pub read: Option<ReadSource<'a>>,
    /// Gives lines that the object's records do not have.
    pub lines: Option<FindLine<'a>>,
    /// Gives a file's name as the person would write it.
    pub name: Option<&'a dyn Fn(&str) -> String>,
}

/// The report as text without a line break at its end; `None` for a program that passed.
pub fn render(spec: &ObjectSpec, program: ProgramIdx, report: &Report, layout: &Layout<'_>) -> Option<String> {
    let program = spec.programs.get(program.0)?;
    let sources = Sources { spec, program, lines: layout.lines };
    match &report.verdict {
        Verdict::Pass => None,
        Verdict::Fail(rejection) => Some(rejected(&sources, rejection, layout)),
        Verdict::Unsupported(unsupported) => Some(not_supported(&sources, unsupported, layout)),
    }
}

/// What is wrong in one line, with names of variables where the lines give them: the title and what stands under the source
/// line. The `message` of a JSON report.
pub fn message(spec: &ObjectSpec, program: ProgramIdx, rejection: &Rejection) -> String {
    let text = match rejection.label.as_str() {
        // The title says it all.
        "" | "needed here" => rejection.title.clone(),
        label => format!("{}: {label}", rejection.title),
    };
    match spec.programs.get(program.0) {
        Some(program) => {
            let sources = Sources { spec, program, lines: None };
            singular(&clean(&Names::of(&sources, rejection).apply(&text)))
        }
        None => clean(&text),
    }
}

fn rejected(sources: &Sources<'_>, rejection: &Rejection, layout: &Layout<'_>) -> String {
    let names = Names::of(sources, rejection);
    let text = |text: &str| singular(&clean(&names.apply(text)));
    let mut marks = vec![Mark { insn: rejection.insn, text: text(&rejection.label), primary: true }];
    marks.extend(steps::marks(sources, rejection, &names));

    let id = rejection.code.to_string();
    let title = Level::ERROR.primary_title(text(&rejection.title)).id(id);
    let mut notes: Vec<(Level<'_>, String)> = vec![(Level::NOTE, place(sources, rejection.insn))];
    notes.extend(rejection.facts.iter().map(|fact| (Level::NOTE, text(fact))));
    if let Some(says) = &rejection.kernel_says {
        notes.push((Level::NOTE, format!("the kernel would say: {}", clean(says))));
    }
    let help = rejection.help.iter().map(|help| match (rejection.code, names.subject()) {
        // The advice for a pointer `p`, for the pointer that it is.
        (Code::MaybeNull, Some(name)) => text(&help.replace("(!p)", &format!("(!{name})"))),
        _ => text(help),
    });
    notes.extend(help.map(|help| (Level::HELP, help)));
    lay_out(title.into_group(), &excerpts(sources, &marks, layout), notes, layout)
}

fn not_supported(sources: &Sources<'_>, unsupported: &Unsupported, layout: &Layout<'_>) -> String {
    let title = Level::WARNING.with_name("unsupported").primary_title(clean(&unsupported.feature));
    let (mut excerpt, mut notes) = (Vec::new(), Vec::new());
    if let Some(insn) = unsupported.insn {
        let mark = Mark { insn, text: "used here".to_owned(), primary: true };
        excerpt = excerpts(sources, &[mark], layout);
        notes.push((Level::NOTE, place(sources, insn)));
    }
    let meaning = "skep does not judge what it does not model: the program may be safe or not; the kernel decides";
    notes.push((Level::NOTE, meaning.to_owned()));
    lay_out(title.into_group(), &excerpt, notes, layout)
}

/// What makes a group of a title; a method, so that both kinds of titles read alike above.
trait IntoGroup<'a> {
    fn into_group(self) -> Group<'a>;
}

impl<'a> IntoGroup<'a> for annotate_snippets::Title<'a> {
    fn into_group(self) -> Group<'a> {
        Group::with_title(self)
    }
}

fn lay_out(group: Group<'_>, excerpts: &[Excerpt], notes: Vec<(Level<'_>, String)>, layout: &Layout<'_>) -> String {
    let mut elements: Vec<Element<'_>> = Vec::new();
    for excerpt in excerpts {
        let mut snippet = Snippet::source(excerpt.text.as_str()).line_start(excerpt.first_line).fold(true);
        if !excerpt.path.is_empty() {
            snippet = snippet.path(excerpt.path.as_str());
        }
        for label in &excerpt.labels {
            let kind = if label.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            snippet = snippet.annotation(kind.span(label.span.clone()).label(label.text.as_str()));
        }
        elements.push(snippet.into());
    }
    elements.extend(notes.into_iter().map(|(level, text)| level.message(text).into()));
    let group = group.elements(elements);
    let renderer = if layout.styled { Renderer::styled() } else { Renderer::plain() };
    let text = renderer.render(&[group]).to_string();
    // A gutter before an empty line leaves blanks at its end.
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// `instruction 9 of `on_switch` ("tp_btf/sched_switch"): r1 = *(u64 *)(r0 + 0)`.
fn place(sources: &Sources<'_>, insn: InsnIdx) -> String {
    let program = sources.program;
    let function = function_at(program, insn);
    let within = match function {
        Some(function) if function != program.name => format!("`{}`, called from `{}`", function, program.name),
        _ => format!("`{}`", program.name),
    };
    let text = source::insn_text(sources.spec, program, insn);
    clean(&format!("instruction {} of {within} (\"{}\"): {text}", insn.0, program.section))
}

/// `1 bytes` as it is said.
fn singular(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("1 bytes") {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let whole = !out.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
        out.push_str(if whole { "1 byte" } else { "1 bytes" });
        rest = &after["1 bytes".len()..];
    }
    out + rest
}

/// Names and source lines come from a file, which may hold anything: what would steer a terminal is shown as a mark.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::spec as test_spec;
