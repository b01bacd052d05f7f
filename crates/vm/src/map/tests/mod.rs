//! Tests of maps through both faces: by type, against a simple model, against the running kernel, and under stress.

mod helpers;
mod kernel;
mod model;
mod program;
mod stress;
