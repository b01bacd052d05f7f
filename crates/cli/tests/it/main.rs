//! The command as a user runs it.

mod docs;
mod examples;
mod support;
