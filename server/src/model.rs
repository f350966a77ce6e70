//! What a model is and how it lives: plain types and the pure state machine, without I/O.

mod adapter;
mod device;
mod failure;
mod id;
mod kv_cache;
mod pace;
mod progress;
mod quantization;
mod retry;
mod spec;
pub mod state;
mod status;
mod switch;

pub use adapter::{Adapter, AdapterSource};
pub use device::{InvalidDevice, RequestedDevice};
pub use failure::{Failure, Reason};
pub use id::{Epoch, Generation, InvalidModelId, LoadId, ModelId, Revision};
pub use kv_cache::KvCache;
pub use pace::Pace;
pub use progress::{Phase, Progress, ProgressMeter};
pub use quantization::{InvalidQuantization, Quantization};
pub use retry::{RestartMode, RestartPolicy};
pub use spec::{
    DataType, EngineInputs, Etag, Format, GenerationDefaults, HubSource, MemoryHint, ModelKind,
    Sampling, Source, Spec,
};
pub use status::{
    KvBlocks, LoadOutcome, LoadRecord, Memory, Metadata, Stage, Status, SuspendCause, Suspension,
};
pub use switch::{Switch, SwitchId, SwitchOutcome, SwitchStrategy};
