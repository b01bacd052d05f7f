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

    /// Lines and columns of the terminal, `None` where it does not say.
    pub(crate) fn size(&self) -> Option<(usize, usize)> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|_| self.terminal)?;
        let (lines, columns) = (usize::from(size.ws_row), usize::from(size.ws_col));
        (lines > 0 && columns > 0).then_some((lines, columns))
    }

    /// Draws text in place of what the screen shows: what does not fit is cut, so that nothing scrolls. What stands above in
    /// the terminal's memory stays.
    pub(crate) fn draw(&mut self, text: &str) {
        let (lines, columns) = self.size().unwrap_or((24, 80));
        let fits = text.lines().count() < lines;
        let shown = if fits { lines } else { lines.saturating_sub(2) };
        let mut frame = String::from("\x1b[H\x1b[J");
        for line in text.lines().take(shown) {
            frame.extend(line.chars().take(columns));
            frame.push('\n');
        }
        if !fits {
            frame.push_str("... (the whole at the end)\n");
        }
        self.text(&frame);
    }

    /// Empties the screen, for what is printed last in place of the frames before it.
    pub(crate) fn clear(&mut self) {
        self.text("\x1b[H\x1b[J");
    }
}
