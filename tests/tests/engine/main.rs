//! What models answer, with real engines on tiny models.

mod adapters;
mod bad_input;
mod demo;
mod embed;
mod gpu_check;
mod inference;
mod multimodal;
mod odd_files;
mod open_inference;
mod prepared;
mod reference;
mod worker_device;
