//! Memory: who is let in, who has to go, and what happens to a worker that takes more than it was given.

mod admission;
mod eviction;
mod idle;
mod limits;
mod pressure;
mod server;
mod shortage;
mod traffic;
mod watermark;
