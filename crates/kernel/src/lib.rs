//! Everything that talks to Linux.

#[expect(dead_code, reason = "skeleton")]
mod sys;
