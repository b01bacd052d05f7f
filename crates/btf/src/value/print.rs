//! Values as text and as JSON.

use std::fmt::{self, Write};

use super::{Data, Field, Value};

/// Compact text: `{pid: 12, comm: "bash", state: RUNNING, next: 0xffff888003a4c000, args: [1, 2, ... 30 more]}`.
/// In strings, `"` and `\` are escaped by `\`, control characters and bytes that are not UTF-8 appear as `\n`, `\xNN`.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.data {
            Data::Bool(value) => write!(f, "{value}"),
            Data::Signed(value) => write!(f, "{value}"),
            Data::Unsigned(value) => write!(f, "{value}"),
            Data::Float(value) => write!(f, "{value:?}"),
            Data::Enum(Some(name), _) => f.write_str(name),
            Data::Enum(None, value) => write!(f, "{value}"),
            Data::Pointer(value) => write!(f, "{value:#x}"),
            Data::String(bytes) => write_quoted(f, bytes, Quoting::Text),
            Data::Array(items, omitted) => {
                f.write_char('[')?;
                separated(f, items, ", ", |f, item| write!(f, "{item}"))?;
                match (*omitted, items.is_empty()) {
                    (0, _) => {}
                    (n, true) => write!(f, "... {n} more")?,
                    (n, false) => write!(f, ", ... {n} more")?,
                }
                f.write_char(']')
            }
            Data::Struct(fields) | Data::Union(fields) => {
                f.write_char('{')?;
                separated(f, fields, ", ", |f, field| match field {
                    // What is left out may have no name.
                    Field { name: "...", .. } => f.write_str("..."),
                    Field { name, value } => write!(f, "{name}: {value}"),
                })?;
                f.write_char('}')
            }
            Data::Bytes(bytes) => write_hex(f, bytes),
            Data::Omitted => f.write_str("..."),
        }
    }
}

impl Value<'_> {
    /// The value as one line of JSON.
    ///
    /// Integers are numbers of any size (64 bits and more do not fit what some readers use for numbers), addresses strings
    /// such as `"0xffff888003a4c000"`, enumerations the name of their value or, without one, the number. What was left out
    /// of an array shows as a last element `"... 30 more"`. A byte that is not UTF-8 becomes the four characters `\xNN`;
    /// a text that has these four characters itself looks the same. Floats that JSON has no number for become strings.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = self.write_json(&mut out);
        out
    }

    /// Writes what [`Value::to_json`] returns.
    pub fn write_json(&self, out: &mut dyn Write) -> fmt::Result {
        match &self.data {
            Data::Bool(value) => write!(out, "{value}"),
            Data::Signed(value) => write!(out, "{value}"),
            Data::Unsigned(value) => write!(out, "{value}"),
            Data::Float(value) if value.is_finite() => write!(out, "{value:?}"),
            Data::Float(value) => write!(out, "\"{value}\""),
            Data::Enum(Some(name), _) => write_quoted(out, name.as_bytes(), Quoting::Json),
            Data::Enum(None, value) => write!(out, "{value}"),
            Data::Pointer(value) => write!(out, "\"{value:#x}\""),
            Data::String(bytes) => write_quoted(out, bytes, Quoting::Json),
            Data::Array(items, omitted) => {
                out.write_char('[')?;
                separated(out, items, ",", |out, item| item.write_json(out))?;
                match (*omitted, items.is_empty()) {
                    (0, _) => {}
                    (n, true) => write!(out, "\"... {n} more\"")?,
                    (n, false) => write!(out, ",\"... {n} more\"")?,
                }
                out.write_char(']')
            }
            Data::Struct(fields) | Data::Union(fields) => {
                out.write_char('{')?;
                separated(out, fields, ",", |out, Field { name, value }| {
                    write_quoted(out, name.as_bytes(), Quoting::Json)?;
                    out.write_char(':')?;
                    value.write_json(out)
                })?;
                out.write_char('}')
            }
            Data::Bytes(bytes) => {
                out.write_char('"')?;
                write_hex(out, bytes)?;
                out.write_char('"')
            }
            Data::Omitted => out.write_str("\"...\""),
        }
    }
}

fn separated<T, W: Write + ?Sized>(
    out: &mut W,
    items: &[T],
    separator: &str,
    mut write: impl FnMut(&mut W, &T) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.write_str(separator)?;
        }
        write(out, item)?;
    }
    Ok(())
}

fn write_hex<W: Write + ?Sized>(out: &mut W, bytes: &[u8]) -> fmt::Result {
    out.write_str("0x")?;
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

#[derive(Clone, Copy)]
enum Quoting {
    Text,
    Json,
}

/// Writes text in quotes.
fn write_quoted<W: Write + ?Sized>(out: &mut W, bytes: &[u8], quoting: Quoting) -> fmt::Result {
    out.write_char('"')?;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match (c, quoting) {
                ('"', _) => out.write_str("\\\"")?,
                ('\\', _) => out.write_str("\\\\")?,
                ('\n', _) => out.write_str("\\n")?,
                ('\t', _) => out.write_str("\\t")?,
                ('\r', _) => out.write_str("\\r")?,
                (c, Quoting::Text) if c.is_control() && c.is_ascii() => write!(out, "\\x{:02x}", c as u32)?,
                // Also C1 controls, which a terminal may obey, and the line separators that JavaScript trips over.
                (c, _) if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => match quoting {
                    Quoting::Text => write!(out, "\\u{{{:x}}}", c as u32)?,
                    Quoting::Json => write!(out, "\\u{:04x}", c as u32)?,
                },
                (c, _) => out.write_char(c)?,
            }
        }
        for byte in chunk.invalid() {
            match quoting {
                Quoting::Text => write!(out, "\\x{byte:02x}")?,
                Quoting::Json => write!(out, "\\\\x{byte:02x}")?,
            }
        }
    }
    out.write_char('"')
}
