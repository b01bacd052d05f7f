//! How a command ends when it does not succeed: the text for the person, and the exit code.

use crate::view::table::printable;
use std::fmt;

/// Why a command ended without doing what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    text: String,
}

/// The documented exit codes other than 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// The thing asked about is not so: a program is refused, a file is broken, a map does not exist.
    NotSo = 1,
    /// Wrong usage.
    Usage = 2,
    /// Not permitted, or not supported here.
    Unavailable = 3,
    /// The command behind `--` cannot be started: a shell's code for that.
    NoCommand = 127,
}

impl Failure {
    /// A failure from an error and what led to it, outermost first.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Failure {
        Failure::say(exit, format_args!("{:#}", error.into()))
    }

    /// A failure in words. Names in it come from files and the command line: what would steer a terminal is shown instead.
    pub(crate) fn say(exit: Exit, text: impl fmt::Display) -> Failure {
        let lines = format!("error: {text}");
        let lines: Vec<String> = lines.split('\n').map(|line| printable(line.to_owned())).collect();
        Failure { exit, text: lines.join("\n") }
    }

    /// A failure whose report has been laid out already, perhaps with colours.
    pub(crate) fn rendered(exit: Exit, text: String) -> Failure {
        Failure { exit, text }
    }

    /// The same with another thing to know, on a line of its own.
    pub(crate) fn with_note(mut self, note: &str) -> Failure {
        self.text = format!("{}\nnote: {}", self.text.trim_end(), printable(note.to_owned()));
        self
    }

    /// With more below it that has been laid out already.
    #[must_use]
    pub(crate) fn with_text(mut self, text: &str) -> Failure {
        self.text = format!("{}\n\n{text}", self.text.trim_end());
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.exit as u8
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_end())
    }
}

/// Errors that say nothing of their own class came from this machine: a file that cannot be written, a full disk.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::new(Exit::Unavailable, error)
    }
}

impl From<skep_engine::Class> for Exit {
    fn from(class: skep_engine::Class) -> Exit {
        match class {
            skep_engine::Class::NotSo => Exit::NotSo,
            skep_engine::Class::Usage => Exit::Usage,
            skep_engine::Class::NotPermittedOrUnsupported => Exit::Unavailable,
        }
    }
}
