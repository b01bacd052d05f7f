//! The command as a user runs it.

mod bad_input;
mod check;
mod docs;
mod examples;
mod lifetime;
mod support;
mod vm;
