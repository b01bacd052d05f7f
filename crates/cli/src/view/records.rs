//! Records of a buffer as they come: a line each under a heading, or a JSON object each.

use super::layout::{Layout, Leaf};
use super::map::cells;
use super::table::printable;
use serde_json::{Value, json};
use skep_btf::{Btf, TypeId};

/// The heading is written again after so many lines, so that it stays on the screen.
const HEADING_EVERY: usize = 100;

/// The records of one buffer.
pub(crate) struct RecordView {
    name: String,
    layout: Option<Layout>,
    widths: Vec<usize>,
    lines: usize,
}

impl RecordView {
    /// Opens the type of the records; without one they are shown as bytes.
    pub(crate) fn new(name: &str, btf: Option<&Btf>, ty: Option<TypeId>) -> RecordView {
        let layout = btf.zip(ty).and_then(|(btf, ty)| Layout::of(btf, ty, "value").ok());
        let widths =
            layout.iter().flat_map(|layout| &layout.leaves).map(|leaf| leaf.heading().len().max(least_width(leaf)));
        RecordView { name: name.to_owned(), widths: widths.collect(), layout, lines: 0 }
    }

    /// Name of the buffer.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A line for people. `time` goes first; `again` asks for the heading: something else was written in between.
    pub(crate) fn text(&mut self, time: &str, data: &[u8], again: bool) -> String {
        let Some(layout) = self.layout.as_ref().filter(|layout| data.len() >= layout.size) else {
            return format!("{time} {} {} bytes: {}\n", self.name, data.len(), hex(data));
        };
        let cells = cells(layout, data);
        let words: Vec<String> =
            layout.leaves.iter().zip(&cells).map(|(leaf, cell)| printable(leaf.show(cell))).collect();
        let mut out = String::new();
        if again || self.lines.is_multiple_of(HEADING_EVERY) {
            let names: Vec<String> = layout.leaves.iter().map(|leaf| leaf.heading().to_uppercase()).collect();
            out.push_str(&line("TIME", time.len(), &names, &layout.leaves, &self.widths));
        }
        self.lines += 1;
        for (width, word) in self.widths.iter_mut().zip(&words) {
            // A column grows with what it has held, within reason.
            *width = (*width).max(word.chars().count().min(48));
        }
        out.push_str(&line(time, time.len(), &words, &layout.leaves, &self.widths));
        out
    }

    /// An object: `map`, `cpu` where known, and the record's members or its bytes.
    pub(crate) fn json(&self, data: &[u8], cpu: Option<u32>) -> Value {
        let mut object = json!({"type": "record", "map": self.name});
        if let Some(cpu) = cpu {
            object["cpu"] = json!(cpu);
        }
        match self.layout.as_ref().filter(|layout| data.len() >= layout.size) {
            Some(layout) => object["record"] = super::to_json(layout, &cells(layout, data)),
            None => object["bytes"] = json!(hex(data)),
        }
        object
    }
}

fn least_width(leaf: &Leaf) -> usize {
    match leaf.name.rsplit(['.', '_']).next() {
        Some("pid" | "tid" | "tgid" | "ppid") => 7,
        Some("comm") => 15,
        _ if leaf.is_numeric() => 5,
        _ => 3,
    }
}

fn line(time: &str, time_width: usize, words: &[String], leaves: &[Leaf], widths: &[usize]) -> String {
    let mut out = format!("{time:<time_width$}");
    for ((word, leaf), &width) in words.iter().zip(leaves).zip(widths) {
        out.push_str("  ");
        out.push_str(&if leaf.is_numeric() { format!("{word:>width$}") } else { format!("{word:<width$}") });
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
