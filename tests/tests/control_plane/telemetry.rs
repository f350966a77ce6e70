//! Traces as a collector gets them, metrics as Prometheus reads them, and what the log says.

mod collector;
mod logs;
mod metrics;
mod traces;
