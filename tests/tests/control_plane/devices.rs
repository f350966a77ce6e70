//! GPUs, as far as they can be shown without one: a GPU driver played by files, and scripted workers that play
//! CUDA workers.

mod admission;
mod crashes;
mod discovery;
mod hung_gpu_driver;
mod missing;
mod selection;
mod server;
mod slots;
mod stops;
mod unloads;
mod work;
