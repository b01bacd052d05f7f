//! What maps, globals and records hold, as text for people and as JSON for programs.

pub(crate) mod histogram;
pub(crate) mod layout;
pub(crate) mod map;
pub(crate) mod records;
pub(crate) mod table;

use layout::{Cell, Kind, Layout, Leaf};
use serde_json::{Map, Value, json};

/// The leaves of a value as a JSON object, numbers as they are; a type that is itself a leaf gives its bare value.
pub(crate) fn to_json(layout: &Layout, cells: &[Cell]) -> Value {
    if let ([leaf], [cell]) = (layout.leaves.as_slice(), cells)
        && leaf.name.is_empty()
    {
        return cell_json(leaf, cell);
    }
    let members = layout.leaves.iter().zip(cells).map(|(leaf, cell)| (leaf.name.clone(), cell_json(leaf, cell)));
    Value::Object(members.collect::<Map<_, _>>())
}

fn cell_json(leaf: &Leaf, cell: &Cell) -> Value {
    match cell {
        Cell::Number(number) => number_json(*number),
        Cell::Text(text) if leaf.kind == Kind::Bool => json!(text == "true"),
        Cell::Text(text) => json!(text),
        Cell::Tree(tree) => tree.json(),
        Cell::Stack(frames) => json!(frames),
        Cell::Slots(slots) => json!(slots),
    }
}

/// A number within 64 bits as a JSON number, a larger one as text: JSON readers would round it.
fn number_json(number: i128) -> Value {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => json!(number),
        (_, Ok(number)) => json!(number),
        _ => json!(number.to_string()),
    }
}
