//! What can be wrong with BTF bytes or with a query.

/// Why BTF could not be read, or a query not be answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// To be replaced.
    #[error("not built yet")]
    Skeleton,
}
