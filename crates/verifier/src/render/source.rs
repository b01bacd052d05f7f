//! From instructions to the lines they were made from, laid out as excerpts of files.

use super::{FindLine, Layout, MAX_LINE, clean};
use skep_btf::Btf;
use skep_isa::{Call, Insn, InsnIdx, decode_at};
use skep_object::{ObjectSpec, ProgramSpec, RelocKind};
use std::collections::BTreeMap;
use std::ops::Range;

/// A line of source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceLine {
    /// File name as the compiler wrote it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1; 0 when unknown.
    pub column: u32,
    /// Its text, with its indentation; empty when unknown.
    pub text: String,
}

/// The source line that an instruction was made from, where the object says.
pub fn source_line(spec: &ObjectSpec, program: &ProgramSpec, insn: InsnIdx) -> Option<SourceLine> {
    let line = program.line_of(insn)?;
    // Line records of one function say nothing about the next.
    let start = program.funcs.iter().map(|span| span.start).filter(|start| *start <= insn).max()?;
    if line.insn < start || line.line == 0 {
        return None;
    }
    let text = |btf: &Btf, at: u32| btf.string(at).ok().map(str::to_owned);
    let btf = spec.btf.as_ref()?;
    Some(SourceLine {
        file: clean(&text(btf, line.file_name_off)?),
        line: line.line,
        column: line.column,
        text: cut(&clean(&text(btf, line.text_off)?)).to_owned(),
    })
}

/// A program, and where its lines come from.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) spec: &'a ObjectSpec,
    pub(super) program: &'a ProgramSpec,
    /// What else knows lines.
    pub(super) lines: Option<FindLine<'a>>,
}

impl Sources<'_> {
    /// The line that an instruction was made from, if its text is known.
    pub(super) fn line(&self, insn: InsnIdx) -> Option<SourceLine> {
        let shown = |line: &SourceLine| !line.text.trim().is_empty();
        source_line(self.spec, self.program, insn).filter(shown).or_else(|| {
            let mut line = self.lines?(self.program, insn)?;
            line.file = clean(&line.file);
            line.text = cut(&clean(&line.text)).to_owned();
            Some(line).filter(shown)
        })
    }
}

/// The function that an instruction is in.
pub fn function_at(program: &ProgramSpec, insn: InsnIdx) -> Option<&str> {
    program.funcs.iter().rfind(|span| span.start <= insn).map(|span| span.name.as_ref())
}

/// The instruction as assembler text, with the name of what it refers to where that is known.
pub(super) fn insn_text(spec: &ObjectSpec, program: &ProgramSpec, insn: InsnIdx) -> String {
    let Ok(decoded) = decode_at(&program.insns, insn) else {
        return "no valid instruction".to_owned();
    };
    let reloc = program.relocs.iter().find(|reloc| reloc.insn == insn);
    let name = match (reloc.map(|reloc| reloc.kind), decoded) {
        (Some(RelocKind::Map(map) | RelocKind::MapValue(map)), _) => {
            spec.maps.get(map.0).map(|map| format!("map {}", map.name))
        }
        (Some(RelocKind::Extern(index) | RelocKind::ExternCall(index)), _) => {
            spec.externs.get(index.0).map(|external| external.name.clone())
        }
        (None, Insn::Call(Call::Helper(id))) => skep_abi::helpers::by_id(id).map(|helper| helper.name.to_owned()),
        (None, Insn::Call(Call::Subprog(_))) => {
            decoded.target(insn).and_then(|target| function_at(program, target)).map(str::to_owned)
        }
        _ => None,
    };
    match name {
        Some(name) => format!("{decoded}  ; {name}"),
        None => decoded.to_string(),
    }
}

fn cut(line: &str) -> &str {
    let mut end = line.len().min(MAX_LINE);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// Something to be said about an instruction.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) insn: InsnIdx,
    pub(super) text: String,
    pub(super) primary: bool,
}

/// Something to be said about a part of an excerpt.
#[derive(Clone, Debug)]
pub(super) struct Label {
    /// Bytes of the excerpt's text.
    pub(super) span: Range<usize>,
    pub(super) text: String,
    pub(super) primary: bool,
}

/// Lines of one file.
#[derive(Clone, Debug)]
pub(super) struct Excerpt {
    pub(super) path: String,
    pub(super) text: String,
    pub(super) first_line: usize,
    pub(super) labels: Vec<Label>,
}

/// Excerpts with all that is to be said: the file of the first mark first. Instructions stand in for source lines where the
/// first mark has none.
pub(super) fn excerpts(sources: &Sources<'_>, marks: &[Mark], layout: &Layout<'_>) -> Vec<Excerpt> {
    let Some(first) = marks.first() else { return Vec::new() };
    match sources.line(first.insn) {
        None => vec![instructions(sources.spec, sources.program, marks)],
        Some(line) => {
            let mut files = vec![line.file];
            let mut located: Vec<(SourceLine, &Mark)> = Vec::new();
            for mark in marks {
                let Some(line) = sources.line(mark.insn) else { continue };
                if !files.contains(&line.file) {
                    files.push(line.file.clone());
                }
                located.push((line, mark));
            }
            files.iter().map(|file| of_file(sources, file, &located, layout)).collect()
        }
    }
}

/// Lines between two that are shown are known only from a file, or where they have records of their own: this many may be
/// empty before the excerpt is broken.
const MAX_LINES: u32 = 20_000;

fn of_file(sources: &Sources<'_>, file: &str, located: &[(SourceLine, &Mark)], layout: &Layout<'_>) -> Excerpt {
    let mut located: Vec<&(SourceLine, &Mark)> = located.iter().filter(|(line, _)| line.file == file).collect();
    // A line far from the first is left out rather than a page of unknown ones laid out.
    let near = located.first().map_or(0, |(line, _)| line.line);
    located.retain(|(line, _)| line.line.abs_diff(near) < MAX_LINES);
    let (first, last) = located
        .iter()
        .map(|(line, _)| line.line)
        .fold((u32::MAX, 0), |(first, last), line| (first.min(line), last.max(line)));
    let lines = from_file(file, &located, first, last, layout).unwrap_or_else(|| {
        let mut known = known_lines(sources.spec, sources.program, file, first, last);
        for (line, _) in &located {
            known.entry(line.line).or_insert_with(|| line.text.clone());
        }
        (first..=last).map(|line| known.get(&line).cloned().unwrap_or_default()).collect()
    });
    let mut starts = Vec::with_capacity(lines.len());
    let mut text = String::new();
    for line in &lines {
        starts.push(text.len());
        text.push_str(line);
        text.push('\n');
    }
    let mut labels: Vec<Label> = Vec::new();
    for (line, mark) in located {
        let Some(start) = starts.get((line.line - first) as usize) else { continue };
        let within = span(&line.text, line.column);
        let label =
            Label { span: start + within.start..start + within.end, text: mark.text.clone(), primary: mark.primary };
        if !labels.iter().any(|other| other.span == label.span && other.text == label.text) {
            labels.push(label);
        }
    }
    let path = match layout.name {
        Some(name) => name(file),
        None => file.to_owned(),
    };
    Excerpt { path, text, first_line: first as usize, labels }
}

/// The lines from the file, if it can be read and still has the lines that the object was made from.
fn from_file(
    file: &str,
    located: &[&(SourceLine, &Mark)],
    first: u32,
    last: u32,
    layout: &Layout<'_>,
) -> Option<Vec<String>> {
    let text = layout.read?(file)?;
    let lines: Vec<&str> = text.lines().skip(first as usize - 1).take((last - first) as usize + 1).collect();
    let same = located
        .iter()
        .all(|(line, _)| lines.get((line.line - first) as usize).is_some_and(|found| cut(&clean(found)) == line.text));
    same.then(|| lines.into_iter().map(|line| cut(&clean(line)).to_owned()).collect())
}

/// What the program's line records say of a file's lines.
fn known_lines(spec: &ObjectSpec, program: &ProgramSpec, file: &str, first: u32, last: u32) -> BTreeMap<u32, String> {
    let Some(btf) = &spec.btf else { return BTreeMap::new() };
    let mut known = BTreeMap::new();
    for line in program.lines.iter().filter(|line| (first..=last).contains(&line.line)) {
        if btf.string(line.file_name_off).is_ok_and(|name| clean(name) == file)
            && let Ok(text) = btf.string(line.text_off)
        {
            known.entry(line.line).or_insert_with(|| cut(&clean(text)).to_owned());
        }
    }
    known
}

/// The instructions around the marks, a line each, numbered as they are.
fn instructions(spec: &ObjectSpec, program: &ProgramSpec, marks: &[Mark]) -> Excerpt {
    let end = program.insns.len().saturating_sub(1);
    let at = |mark: &Mark| (mark.insn.0 as usize).min(end);
    let first = marks.iter().map(at).min().unwrap_or(0);
    let last = marks.iter().map(at).max().unwrap_or(0).min(first + MAX_LINES as usize);
    let mut text = String::new();
    let mut labels = Vec::new();
    let mut second_slot = false;
    for index in first..=last {
        let start = text.len();
        if second_slot {
            second_slot = false;
        } else {
            let insn = InsnIdx(index as u32);
            text.push_str(&clean(&insn_text(spec, program, insn)));
            second_slot = decode_at(&program.insns, InsnIdx(index as u32)).is_ok_and(|decoded| decoded.slots() == 2);
        }
        let end = text.len();
        for mark in marks.iter().filter(|mark| at(mark) == index) {
            labels.push(Label { span: start..end.max(start + 1), text: mark.text.clone(), primary: mark.primary });
        }
        text.push('\n');
    }
    let path = format!("{}, instructions", clean(&program.name));
    Excerpt { path, text, first_line: first, labels }
}

/// What a line record is about. Its column is where the compiler places an expression: at its first character, or at its
/// operator. From there the expression is found: `eth->h_proto` for a member, all of a comparison or an assignment for its
/// operator. All of the line without a column.
fn span(line: &str, column: u32) -> Range<usize> {
    let line = without_comment(line);
    let end = line.trim_end().len();
    let indent = (line.len() - line.trim_start().len()).min(end);
    let start = match (column as usize).checked_sub(1) {
        Some(start) if start >= indent && start < end && line.is_char_boundary(start) => start,
        _ => return statement(line, indent, end),
    };
    let rest = &line[start..end];
    let word = rest.len() - rest.trim_start_matches(is_word).len();
    let found = if word > 0 && ["return", "if", "for", "while", "switch"].contains(&&rest[..word]) {
        statement(line, start, end)
    } else if word > 0 || rest.starts_with(['(', '*', '&', '!', '~', '"', '\'']) && !rest.starts_with("&&") {
        let first = if line[..start].ends_with("->") || line[..start].ends_with('.') {
            primary_before(line, start).max(indent)
        } else {
            start
        };
        first..postfix_end(line, start, end)
    } else {
        operator(line, start, indent, end)
    };
    if found.is_empty() { start..end } else { found }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn without_comment(line: &str) -> &str {
    let end = line.find("//").into_iter().chain(line.find("/*")).min().unwrap_or(line.len());
    &line[..end]
}

/// From `start` to the semicolon, brace or unbalanced parenthesis that ends it.
fn statement(line: &str, start: usize, end: usize) -> Range<usize> {
    let mut depth = 0_i32;
    for (at, c) in line[start..end].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        if at > 0 && (depth < 0 || depth == 0 && matches!(c, ';' | '{' | '}')) {
            return start..start + line[start..start + at].trim_end().len();
        }
    }
    start..end
}

/// Where the chain of members, indices and calls that starts here ends, prefix operators and casts included.
fn postfix_end(line: &str, start: usize, end: usize) -> usize {
    let bytes = &line.as_bytes()[..end];
    let mut at = start;
    while matches!(bytes.get(at), Some(b'*' | b'&' | b'!' | b'~')) {
        at += 1;
    }
    let mut operand = false;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'(' | b'[' => {
                let close = closing(bytes, at);
                // A cast is followed by what it casts.
                operand = bytes.get(close).is_some_and(|next| !(next.is_ascii_alphanumeric() || *next == b'_'));
                at = close;
            }
            b'"' | b'\'' => {
                let close = bytes[at + 1..].iter().position(|other| *other == byte);
                at = close.map_or(bytes.len(), |close| at + close + 2);
                operand = true;
            }
            b'.' => at += 1,
            b'-' if bytes.get(at + 1) == Some(&b'>') => at += 2,
            byte if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 => {
                at += 1;
                operand = true;
            }
            b'*' | b'&' if !operand => at += 1,
            _ => break,
        }
    }
    at.min(end)
}

/// Behind the bracket that closes the one here.
fn closing(bytes: &[u8], open: usize) -> usize {
    let mut depth = 0_i32;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    bytes.len()
}

/// Where the expression starts whose member is named at `at`.
fn primary_before(line: &str, at: usize) -> usize {
    let bytes = line.as_bytes();
    let (mut at, mut depth) = (at, 0_i32);
    while at > 0 {
        let byte = bytes[at - 1];
        match byte {
            b')' | b']' => depth += 1,
            b'(' | b'[' if depth == 0 => break,
            b'(' | b'[' => depth -= 1,
            _ if depth > 0 => {}
            b'>' if at > 1 && bytes[at - 2] == b'-' => at -= 1,
            b'.' => {}
            byte if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 => {}
            _ => break,
        }
        at -= 1;
    }
    at
}

/// All of what an operator makes: the statement for an assignment, else what the parentheses around it hold.
fn operator(line: &str, start: usize, indent: usize, end: usize) -> Range<usize> {
    let rest = &line[start..end];
    let assigns = rest.starts_with('=') && !rest.starts_with("==")
        || ["+=", "-=", "*=", "/=", "%=", "|=", "&=", "^=", "<<=", ">>=", "++", "--"]
            .iter()
            .any(|operator| rest.starts_with(operator));
    let stops: &[char] = if assigns { &[';', '{'] } else { &[';', '{', '=', ','] };
    let mut depth = 0_i32;
    let mut first = indent;
    for (at, c) in line[indent..start].char_indices().rev() {
        let at = indent + at;
        match c {
            ')' | ']' => depth += 1,
            '(' | '[' => depth -= 1,
            _ => {}
        }
        if depth < 0 || depth == 0 && stops.contains(&c) {
            first = at + c.len_utf8();
            break;
        }
    }
    let text = &line[first..start];
    first += text.len() - text.trim_start().len();
    if let Some(after) = line[first..end].strip_prefix("return ") {
        first = end - after.trim_start().len();
    }
    let least = start + rest.chars().next().map_or(0, char::len_utf8);
    first..statement(line, first, end).end.max(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_line_has_a_span(line in "[ -~\t\u{e9}\u{2192}]{0,40}", column in 0_u32..50) {
            let span = span(&line, column);
            prop_assert!(line.get(span).is_some());
        }
    }

    #[test]
    fn spans_are_expressions() {
        let check = |line: &str, column, expected: &str| assert_eq!(&line[span(line, column)], expected, "{line}");
        check("\treturn table[i];", 9, "table[i]");
        check("\treturn table[i];", 0, "return table[i]");
        check("  if (data + 14 > data_end) {", 17, "data + 14 > data_end");
        check("  if (data + 14 > data_end) {", 7, "data");
        check("\tif (eth->h_proto == 0x0608)", 11, "eth->h_proto");
        check("\tif (eth->h_proto == 0x0608)", 19, "eth->h_proto == 0x0608");
        check("\t*count += 1;", 9, "*count += 1");
        check("\t*count += 1;", 2, "*count");
        check("\t*(volatile __u32 *)(buf + 1) = skb->len;", 31, "*(volatile __u32 *)(buf + 1) = skb->len");
        check("  struct event *e = f(&events, sizeof(*e), 0);", 21, "f(&events, sizeof(*e), 0)");
        check("  x = (__u32 *)p->a[i + 1].b + 2;", 7, "(__u32 *)p->a[i + 1].b");
        check("  return a.b(c)->d + 1;", 19, "a.b(c)->d + 1");
        check("  }", 3, "}");
        check("  \u{e9}->x = 3; // \u{e9}", 6, "\u{e9}->x = 3");
        check("  if (data + 14 > data_end) {", 3, "if (data + 14 > data_end)");
        check("  x = f(\"ab\", 1); // why", 5, "x = f(\"ab\", 1)");
        check("", 5, "");
        check(";", 1, ";");
        check("   ", 2, "");
    }
}
