//! Standard output: whole lines, and a reader that goes away ends the command in order instead of with a panic.

use std::io::{self, IsTerminal, Write};

/// Standard output.
pub(crate) struct Output {
    out: io::BufWriter<io::Stdout>,
    terminal: bool,
    closed: bool,
}

impl Output {
    /// Takes standard output.
    pub(crate) fn new() -> Output {
        let out = io::stdout();
        let terminal = out.is_terminal();
        Output { out: io::BufWriter::new(out), terminal, closed: false }
    }

    /// Whether a person looks at it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether its reader has gone away.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) {
        if !self.closed && self.out.write_all(text.as_bytes()).is_err() {
            self.closed = true;
        }
    }

    /// Writes an object on a line of its own.
    pub(crate) fn json(&mut self, value: &serde_json::Value) {
        self.text(&format!("{value}\n"));
    }

    /// Lets what was written be seen.
    pub(crate) fn flush(&mut self) {
        if !self.closed && self.out.flush().is_err() {
            self.closed = true;
        }
    }

    /// Empties the screen below the top, for a table that is drawn anew in place. Nothing on anything but a terminal.
    pub(crate) fn redraw(&mut self) {
        if self.terminal {
            self.text("\x1b[H\x1b[2J\x1b[3J");
        }
    }
}
