//! A map, or the globals of a data section, as a table, as histograms, or as JSON lines.

use super::histogram;
use super::layout::{Cell, Kind, Layout, Leaf};
use super::table::{self, Column};
use serde_json::{Value, json};
use skep_abi::MapType;
use skep_btf::{Btf, TypeId};
use skep_engine::Contents;
use std::collections::HashMap;
use std::fmt::Write;

/// A value of more bytes than this is no number.
const LONGEST_NUMBER: usize = 40;

/// Bytes of text in all the cells of one table that are values within values.
const MAX_TREES: usize = 64 << 20;

/// What is known of a map before it is read.
pub(crate) struct Facts<'a> {
    /// Name.
    pub(crate) name: &'a str,
    /// Type.
    pub(crate) map_type: MapType,
    /// Bytes.
    pub(crate) key_size: u32,
    /// Bytes.
    pub(crate) value_size: u32,
    /// Most entries.
    pub(crate) max_entries: u32,
    /// Types, where the map has them.
    pub(crate) btf: Option<&'a Btf>,
    /// Key's.
    pub(crate) key_type: Option<TypeId>,
    /// Value's.
    pub(crate) value_type: Option<TypeId>,
}

/// A map with its columns.
pub(crate) struct MapView {
    name: String,
    key: Layout,
    value: Layout,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Keys that say something.
    Keyed,
    /// Indices: in order, and empty entries left out.
    Indexed,
    /// One entry, or values without keys.
    Single,
    /// An array of numbers that together are one histogram.
    SlotArray,
}

/// An entry with its cells read and its CPUs joined.
struct Row {
    key: Vec<Cell>,
    value: Vec<Cell>,
    empty: bool,
}

impl MapView {
    /// Opens the types of a map.
    pub(crate) fn new(facts: &Facts<'_>) -> MapView {
        let open = |ty: Option<TypeId>, size: u32, name: &str| {
            let typed = match (facts.btf, ty) {
                (Some(btf), Some(ty)) if ty != TypeId::VOID => Layout::of(btf, ty, "").ok(),
                _ => None,
            };
            // A layout that does not fit the map's own size would read the wrong bytes.
            typed.filter(|layout| layout.size == size as usize).unwrap_or_else(|| Layout::untyped(size as usize, name))
        };
        let mut key = open(facts.key_type, facts.key_size, "key");
        let mut value = match facts.map_type {
            MapType::StackTrace => Layout::stack(facts.value_size as usize, "value"),
            _ => open(facts.value_type, facts.value_size, "value"),
        };
        name_bare(&mut key, "key");
        name_bare(&mut value, "value");
        let indexed = matches!(facts.map_type, MapType::Array | MapType::PercpuArray);
        let slots_name = facts.name.ends_with("slots") || facts.name.contains("hist");
        let one_number = matches!(value.leaves.as_slice(), [leaf] if leaf.is_numeric());
        let enough = (histogram::MIN_SLOTS..=histogram::MAX_SLOTS).contains(&(facts.max_entries as usize));
        let shape = match indexed {
            true if slots_name && one_number && enough => Shape::SlotArray,
            true if facts.max_entries == 1 => Shape::Single,
            true => Shape::Indexed,
            false if facts.key_size == 0 => Shape::Single,
            false => Shape::Keyed,
        };
        MapView { name: facts.name.to_owned(), key, value, shape }
    }

    /// Whether it is drawn as bars and not as a table.
    pub(crate) fn is_histogram(&self) -> bool {
        self.shape == Shape::SlotArray || self.value.leaves.iter().any(|leaf| matches!(leaf.kind, Kind::Slots(_)))
    }

    /// The map under its name, at most `top` entries of a table (0: all). Nothing for a map that holds nothing.
    pub(crate) fn text(&self, contents: &Contents, top: usize) -> String {
        let mut rows = self.rows(contents);
        if self.shape == Shape::SlotArray {
            let slots: Vec<u64> = rows.iter().map(|row| first_number(&row.value)).collect();
            let bars = histogram::draw(&slots);
            return if bars.is_empty() { bars } else { format!("{}\n{bars}", self.name) };
        }
        if self.shape != Shape::Keyed {
            rows.retain(|row| !row.empty);
        }
        if rows.is_empty() {
            return String::new();
        }
        let order = self.order(&mut rows);
        let shown = if top == 0 { rows.len() } else { top.min(rows.len()) };
        let mut out = self.name.clone();
        if self.shape != Shape::Single && rows.len() > 1 {
            let _ = write!(out, "  ({} entries", rows.len());
            if shown < rows.len() {
                let _ = match &order {
                    Some(leaf) => write!(out, ", the {shown} largest by {leaf}"),
                    None => write!(out, ", the first {shown}"),
                };
            }
            out.push(')');
        }
        if contents.more {
            out.push_str("  (more in the map than were read)");
        }
        out.push('\n');
        if self.is_histogram() {
            for row in rows.iter().take(shown) {
                out.push_str(&self.histogram(row));
            }
            return out;
        }
        let key_leaves = if self.shape == Shape::Single { &[] } else { self.key.leaves.as_slice() };
        let leaves: Vec<&Leaf> = key_leaves.iter().chain(&self.value.leaves).collect();
        let columns: Vec<Column> =
            leaves.iter().map(|l| Column { name: l.heading().to_owned(), numeric: l.is_numeric() }).collect();
        let mut room = MAX_TREES;
        let lines = rows.iter().take(shown).map(|row| {
            let key = row.key.iter().take(key_leaves.len());
            key.chain(&row.value).zip(&leaves).map(|(cell, leaf)| show_within(leaf, cell, &mut room)).collect()
        });
        out.push_str(&table::set(&columns, lines));
        out
    }

    /// Every entry as an object: `map`, `key`, `value`, and `per_cpu` where there is one value for each CPU. They are made
    /// one at a time: all together may be many times as long as what the map holds.
    pub(crate) fn json<'a>(&'a self, contents: &'a Contents) -> impl Iterator<Item = Value> + use<'a> {
        let keep = |row: &Row| matches!(self.shape, Shape::Keyed | Shape::SlotArray) || !row.empty;
        let (key, value) = (bare(&self.key), bare(&self.value));
        let entries = self.rows(contents).into_iter().zip(&contents.entries).filter(move |(row, _)| keep(row));
        entries.map(move |(row, entry)| {
            let mut object = json!({
                "type": "map",
                "map": self.name,
                "key": super::to_json(&key, &row.key),
                "value": super::to_json(&value, &row.value),
            });
            if contents.per_cpu {
                let each = entry.values.iter().map(|bytes| super::to_json(&value, &cells(&value, bytes)));
                object["per_cpu"] = each.collect();
            }
            object
        })
    }

    fn rows(&self, contents: &Contents) -> Vec<Row> {
        let row = |entry: &skep_engine::Entry| {
            let per_cpu: Vec<Vec<Cell>> = entry.values.iter().map(|value| cells(&self.value, value)).collect();
            let joined = self.value.leaves.iter().enumerate().map(|(index, leaf)| {
                let each = per_cpu.iter().filter_map(|cells| cells.get(index).cloned());
                leaf.join(each).unwrap_or(Cell::Text(String::new()))
            });
            Row {
                key: cells(&self.key, &entry.key),
                value: joined.collect(),
                empty: entry.values.iter().flatten().all(|&byte| byte == 0),
            }
        };
        let mut rows: Vec<Row> = contents.entries.iter().map(row).collect();
        if self.value.leaves.iter().any(|leaf| leaf.kind == Kind::Stack) {
            name_frames(&mut rows);
        }
        rows
    }

    /// Largest first, by the total where there is one, else by the first number. Gives the column's name.
    fn order(&self, rows: &mut [Row]) -> Option<String> {
        if self.shape != Shape::Keyed {
            return None;
        }
        let leaves = &self.value.leaves;
        let named =
            |word: &str| leaves.iter().position(|l| l.is_numeric() && l.name.split('_').any(|part| part == word));
        let slots = || leaves.iter().position(|leaf| matches!(leaf.kind, Kind::Slots(_)));
        let first = || leaves.iter().position(Leaf::is_numeric);
        let index = named("total").or_else(|| named("count")).or_else(slots).or_else(first)?;
        rows.sort_by_key(|row| std::cmp::Reverse(row.value.get(index).map_or(0, weight)));
        Some(match leaves[index].kind {
            Kind::Slots(_) => "samples".to_owned(),
            _ => leaves[index].heading().to_owned(),
        })
    }

    /// An entry whose value has slots: its key and other members on a line, the bars beneath.
    fn histogram(&self, row: &Row) -> String {
        let mut out = String::new();
        let mut words: Vec<String> = Vec::new();
        if self.shape != Shape::Single {
            let keys = self.key.leaves.iter().zip(&row.key);
            words.extend(keys.map(|(leaf, cell)| format!("{}={}", leaf.name, table::printable(leaf.show(cell)))));
        }
        let values = || self.value.leaves.iter().zip(&row.value);
        for (leaf, cell) in values().filter(|(_, cell)| !matches!(cell, Cell::Slots(_))) {
            words.push(format!("{}={}", leaf.name, table::printable(leaf.show(cell))));
        }
        if !words.is_empty() {
            let _ = writeln!(out, " {}", words.join(" "));
        }
        let all: Vec<_> = values().filter_map(|(leaf, cell)| Some((leaf, slots_of(cell)?))).collect();
        for (leaf, slots) in &all {
            if all.len() > 1 {
                let _ = writeln!(out, " {}", leaf.name);
            }
            out.push_str(&histogram::draw(slots));
        }
        out
    }
}

/// Puts the kernel's function names in place of its addresses in stacks. Addresses of processes stay numbers: the stack does
/// not say whose they are.
fn name_frames(rows: &mut [Row]) {
    let address = |frame: &String| u64::from_str_radix(frame.strip_prefix("0x")?, 16).ok();
    let frames = rows.iter().flat_map(|row| &row.value).filter_map(|cell| match cell {
        Cell::Stack(frames) => Some(frames),
        _ => None,
    });
    // The upper half of the address space is the kernel's.
    let kernel: Vec<u64> = frames.flatten().filter_map(address).filter(|address| address >> 63 == 1).collect();
    if kernel.is_empty() {
        return;
    }
    // Without the right to read addresses the numbers stay.
    let Ok(names) = skep_kernel::kallsyms::names(&kernel) else { return };
    for cell in rows.iter_mut().flat_map(|row| &mut row.value) {
        let Cell::Stack(frames) = cell else { continue };
        for frame in frames.iter_mut() {
            if let Some((name, offset)) = address(frame).and_then(|address| names.get(&address)) {
                *frame = format!("{name}+{offset:#x}");
            }
        }
    }
}

/// The variables of a data section: those that are histograms as such, the others as a table of names and values.
pub(crate) struct GlobalsView {
    vars: Vec<(String, usize, Layout)>,
}

impl GlobalsView {
    /// Takes the named globals of a section; static ones are the program's own matter.
    pub(crate) fn new(btf: Option<&Btf>, vars: &[skep_object::VarSpec]) -> GlobalsView {
        let mut names = HashMap::new();
        let vars = vars.iter().filter(|var| !var.is_static).map(|var| {
            let btf = btf.filter(|_| var.ty != TypeId::VOID);
            let typed = btf.and_then(|btf| Layout::sharing(btf, var.ty, &var.name, &mut names).ok());
            let layout = typed.unwrap_or_else(|| Layout::untyped(var.size as usize, &var.name));
            (var.name.clone(), var.offset as usize, layout)
        });
        GlobalsView { vars: vars.collect() }
    }

    /// Whether there is nothing to show.
    pub(crate) fn is_empty(&self) -> bool {
        self.vars.is_empty()
    }

    fn each<'a>(&'a self, data: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a Layout, Vec<Cell>)> {
        self.vars.iter().map(move |(name, offset, layout)| {
            let value = data.get(*offset..).unwrap_or_default();
            (name.as_str(), layout, cells(layout, value.get(..layout.size).unwrap_or(value)))
        })
    }

    /// The globals as text.
    pub(crate) fn text(&self, data: &[u8]) -> String {
        let mut out = String::new();
        let mut rows = Vec::new();
        let mut room = MAX_TREES;
        for (name, layout, cells) in self.each(data) {
            for (leaf, cell) in layout.leaves.iter().zip(&cells) {
                let full = if layout.leaves.len() == 1 { name.to_owned() } else { format!("{name}.{}", leaf.name) };
                match slots_of(cell) {
                    Some(slots) => {
                        let bars = histogram::draw(slots);
                        if !bars.is_empty() {
                            let _ = write!(out, "{full}\n{bars}");
                        }
                    }
                    None => rows.push(vec![full, show_within(leaf, cell, &mut room)]),
                }
            }
        }
        if !rows.is_empty() {
            // A long value set to the right would push all the others away.
            let long = rows.iter().flatten().any(|cell| cell.len() > LONGEST_NUMBER);
            let value = if long { Column::text("value") } else { Column::number("value") };
            out.push_str(&table::set(&[Column::text("global"), value], rows));
        }
        out
    }

    /// A line for each global.
    pub(crate) fn json(&self, data: &[u8]) -> Vec<Value> {
        let object = |(name, layout, cells): (&str, &Layout, Vec<Cell>)| {
            let value = match cells.as_slice() {
                [cell] => super::cell_json(&layout.leaves[0], cell),
                _ => super::to_json(layout, &cells),
            };
            json!({"type": "global", "name": name, "value": value})
        };
        self.each(data).map(object).collect()
    }
}

/// The cells of a value.
pub(crate) fn cells(layout: &Layout, value: &[u8]) -> Vec<Cell> {
    layout.leaves.iter().map(|leaf| layout.cell(leaf, value)).collect()
}

/// The cell as text while there is room for it, `...` then.
fn show_within(leaf: &Leaf, cell: &Cell, room: &mut usize) -> String {
    let Cell::Tree(_) = cell else { return leaf.show(cell) };
    if *room == 0 {
        return "...".to_owned();
    }
    let text = leaf.show(cell);
    *room = room.saturating_sub(text.len());
    text
}

/// A bare number or text needs a heading.
fn name_bare(layout: &mut Layout, name: &str) {
    if let [leaf] = layout.leaves.as_mut_slice()
        && leaf.name.is_empty()
    {
        name.clone_into(&mut leaf.name);
    }
}

/// In JSON the heading that was made up goes again.
fn bare(layout: &Layout) -> Layout {
    let mut layout = layout.clone();
    if let [leaf] = layout.leaves.as_mut_slice()
        && matches!(leaf.name.as_str(), "key" | "value")
    {
        leaf.name.clear();
    }
    layout
}

fn slots_of(cell: &Cell) -> Option<&[u64]> {
    match cell {
        Cell::Slots(slots) => Some(slots),
        _ => None,
    }
}

fn weight(cell: &Cell) -> i128 {
    match cell {
        Cell::Number(number) => *number,
        Cell::Slots(slots) => slots.iter().map(|&count| i128::from(count)).sum(),
        Cell::Text(_) | Cell::Tree(_) | Cell::Stack(_) => 0,
    }
}

fn first_number(cells: &[Cell]) -> u64 {
    match cells.first() {
        Some(Cell::Number(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}
