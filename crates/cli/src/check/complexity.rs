//! `--complexity`: where the instructions went that the check looked at, by function, loop and source line.

use super::Checked;
use crate::args::Format;
use crate::output::Output;
use crate::view::table::{Column, printable, set};
use serde_json::json;
use skep_isa::{Insn, InsnIdx, decode};
use skep_object::{ObjectSpec, ProgramSpec};
use skep_verifier::render::{function_at, source_line};
use std::collections::BTreeMap;

/// Rows of each table.
const TOP: usize = 10;

/// A part of a program and how much of the work it was.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Part {
    /// `function`, `loop` or `line`.
    kind: &'static str,
    name: String,
    /// Instructions looked at.
    insns: u64,
    /// How often its first instruction was.
    visits: u64,
}

/// Prints the parts of a program that took most.
pub(super) fn show(spec: &ObjectSpec, checked: &Checked, format: Format, out: &mut Output) {
    let Some(program) = spec.programs.get(checked.program.0) else { return };
    let counts = &checked.report.complexity;
    let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    let parts = [functions(program, counts), loops(spec, program, counts), lines(spec, program, counts)];
    for mut parts in parts {
        parts.sort_by_key(|part| std::cmp::Reverse(part.insns));
        parts.truncate(TOP);
        match format {
            Format::Json => {
                for part in parts {
                    out.json(&json!({
                        "file": spec.name,
                        "program": program.name,
                        "kind": part.kind,
                        "name": part.name,
                        "insns_processed": part.insns,
                        "visits": part.visits,
                    }));
                }
            }
            Format::Text => {
                let Some(kind) = parts.first().map(|part| part.kind) else { continue };
                let columns =
                    [Column::number("insns"), Column::number("share"), Column::number("visits"), Column::text(kind)];
                let rows = parts.into_iter().map(|part| {
                    let share = 100.0 * part.insns as f64 / total.max(1) as f64;
                    vec![part.insns.to_string(), format!("{share:.1}%"), part.visits.to_string(), printable(part.name)]
                });
                out.text(&format!("{}\n", set(&columns, rows)));
            }
        }
    }
}

fn sum(counts: &[u32], range: std::ops::Range<usize>) -> u64 {
    counts.get(range).unwrap_or_default().iter().map(|count| u64::from(*count)).sum()
}

fn visits(counts: &[u32], at: InsnIdx) -> u64 {
    counts.get(at.0 as usize).copied().unwrap_or(0).into()
}

fn functions(program: &ProgramSpec, counts: &[u32]) -> Vec<Part> {
    let ends = program.funcs.iter().skip(1).map(|span| span.start.0 as usize).chain([program.insns.len()]);
    let parts = program.funcs.iter().zip(ends).map(|(span, end)| Part {
        kind: "function",
        name: span.name.to_string(),
        insns: sum(counts, span.start.0 as usize..end),
        visits: visits(counts, span.start),
    });
    parts.filter(|part| part.insns > 0).collect()
}

/// Loops by their jump back: everything from its target up to it.
fn loops(spec: &ObjectSpec, program: &ProgramSpec, counts: &[u32]) -> Vec<Part> {
    let Ok(insns) = decode(&program.insns) else { return Vec::new() };
    // Several jumps back to one place (`continue`) are one loop.
    let mut ends: BTreeMap<InsnIdx, InsnIdx> = BTreeMap::new();
    for (at, insn) in &insns {
        let jumps =
            matches!(insn, Insn::Jump { .. } | Insn::JumpLong { .. } | Insn::JumpIf { .. } | Insn::MayGoto { .. });
        if let Some(target) = insn.target(*at).filter(|target| jumps && target <= at) {
            let end = ends.entry(target).or_insert(*at);
            *end = (*end).max(*at);
        }
    }
    let parts = ends.into_iter().map(|(start, end)| {
        let line = |at: InsnIdx| source_line(spec, program, at).map(|line| line.line);
        let function = function_at(program, start).unwrap_or_default();
        let name = match (line(start), line(end)) {
            (Some(first), Some(last)) => {
                let (first, last) = (first.min(last), first.max(last));
                format!("{function}, lines {first} to {last}")
            }
            _ => format!("{function}, instructions {} to {}", start.0, end.0),
        };
        Part {
            kind: "loop",
            name,
            insns: sum(counts, start.0 as usize..end.0 as usize + 1),
            visits: visits(counts, start),
        }
    });
    parts.filter(|part| part.insns > 0).collect()
}

fn lines(spec: &ObjectSpec, program: &ProgramSpec, counts: &[u32]) -> Vec<Part> {
    let mut by_line: BTreeMap<(String, u32), Part> = BTreeMap::new();
    for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let Some(line) = source_line(spec, program, InsnIdx(index as u32)) else { continue };
        let part = by_line.entry((line.file.clone(), line.line)).or_insert_with(|| {
            let file = crate::diagnose::from_here(&line.file);
            Part { kind: "line", name: format!("{file}:{}  {}", line.line, line.text.trim()), insns: 0, visits: 0 }
        });
        part.insns += u64::from(*count);
        part.visits = part.visits.max(u64::from(*count));
    }
    by_line.into_values().collect()
}
