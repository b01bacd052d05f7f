//! Standard output and standard error: whole lines, and a reader that goes away ends the command in order instead of with
//! a panic.

use crate::failure::{Exit, Failure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::io::{self, IsTerminal, Write};

/// Writes a line to standard error. A full disk or a closed pipe there leaves nowhere to complain to: the work goes on.
pub(crate) fn tell(line: impl fmt::Display) {
    // One write a line, so that lines of several processes do not mix.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Standard output.
pub(crate) struct Output {
    out: io::BufWriter<io::Stdout>,
    terminal: bool,
    failed: Option<io::Error>,
}

impl Output {
    /// Takes standard output.
    pub(crate) fn new() -> Output {
        let out = io::stdout();
        let terminal = out.is_terminal();
        Output { out: io::BufWriter::new(out), terminal, failed: None }
    }

    /// Whether a person looks at it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether nothing can be written any more: its reader has gone away, also where nothing has been written for a while,
    /// or the disk is full.
    pub(crate) fn is_closed(&mut self) -> bool {
        if self.failed.is_none() {
            let stdout = io::stdout();
            let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            // Pipes and sockets say so by themselves, whatever one polls for; a failed poll says nothing.
            if poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
            {
                self.failed = Some(io::ErrorKind::BrokenPipe.into());
            }
        }
        self.failed.is_some()
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(text.as_bytes()).err();
        }
    }

    /// Writes an object on a line of its own.
    pub(crate) fn json(&mut self, value: &serde_json::Value) {
        self.text(&format!("{value}\n"));
    }

    /// Lets what was written be seen.
    pub(crate) fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.out.flush().err();
        }
    }

    /// Writes what is left, and says whether all of it could be written. A reader that has gone away has what it wanted.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        self.flush();
        match &self.failed {
            None => Ok(()),
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Some(error) => Err(Failure::say(
                Exit::NotSo,
                format!("write to standard output: {error}; what was printed is not complete"),
            )),
        }
    }

    /// Empties the screen below the top, for a table that is drawn anew in place. Nothing on anything but a terminal.
    pub(crate) fn redraw(&mut self) {
        if self.terminal {
            self.text("\x1b[H\x1b[2J\x1b[3J");
        }
    }
}
