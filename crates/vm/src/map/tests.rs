//! Tests of maps through both faces.
