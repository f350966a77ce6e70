//! Traces as a collector gets them, and metrics as Prometheus reads them.

mod collector;
mod metrics;
mod traces;
