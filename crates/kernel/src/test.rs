//! What the tests of this crate share.

/// Whether the test may go on: what it does takes root. Says so when not.
pub(crate) fn root(test: &str) -> bool {
    let root = crate::privilege::Capabilities::current().has("CAP_SYS_ADMIN");
    if !root {
        eprintln!("{test}: needs root, not run");
    }
    root
}
