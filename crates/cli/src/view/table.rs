//! Rows under headings, aligned: numbers to the right, text to the left.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A heading and how its column is aligned.
pub(crate) struct Column {
    /// Heading.
    pub(crate) name: String,
    /// Whether its cells are numbers.
    pub(crate) numeric: bool,
}

impl Column {
    /// A column of text.
    pub(crate) fn text(name: impl Into<String>) -> Column {
        Column { name: name.into(), numeric: false }
    }

    /// A column of numbers.
    pub(crate) fn number(name: impl Into<String>) -> Column {
        Column { name: name.into(), numeric: true }
    }
}

/// Sets the rows under their headings, a line each, without borders and without trailing blanks.
pub(crate) fn set(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| column.name.to_uppercase()));
    for row in rows {
        table.add_row(row.into_iter().map(printable));
    }
    for (index, column) in columns.iter().enumerate() {
        if let Some(set) = table.column_mut(index) {
            // The first column starts at the left edge.
            set.set_padding((0, 2));
            set.set_cell_alignment(if column.numeric { CellAlignment::Right } else { CellAlignment::Left });
        }
    }
    let mut out = String::new();
    for line in table.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// What came from a program is data: control characters (an escape sequence in a process name) are shown, not obeyed.
pub(crate) fn printable(text: String) -> String {
    if text.chars().any(char::is_control) { text.chars().flat_map(show_control).collect() } else { text }
}

fn show_control(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let columns = [Column::text("comm"), Column::number("count")];
        let text = set(&columns, [vec!["bash".into(), "5".into()], vec!["a\x1b[2J".into(), "12345".into()]]);
        assert_eq!(text, "COMM        COUNT\nbash            5\na\\u{1b}[2J  12345\n");
    }
}
