//! What a model is and how it lives: plain types and the pure state machine, without I/O.

mod adapter;
mod conversation;
mod device;
mod device_name;
mod failure;
mod fatal_prompt;
mod hub_repository;
mod id;
mod kv_cache;
mod load_record;
mod operation;
pub mod optional_text;
mod pace;
mod progress;
mod quantization;
mod retry;
mod spec;
pub mod state;
mod status;
mod switch;
mod text;

pub use adapter::{Adapter, AdapterSource};
pub use conversation::{ConversationSupport, Support};
pub use device::RequestedDevice;
pub use device_name::DeviceName;
pub use failure::{Failure, Reason};
pub use fatal_prompt::FatalPrompt;
pub use hub_repository::HubRepository;
pub use id::{Epoch, Generation, LoadId, ModelId, Revision};
pub use kv_cache::KvCache;
pub use load_record::{LoadOutcome, LoadOutcomeKind, LoadRecord};
pub use operation::Operation;
pub use pace::Pace;
pub use progress::{Progress, ProgressMeter};
pub use quantization::Quantization;
pub use retry::{RestartMode, RestartPolicy};
pub use spec::{
    DataType, Etag, Format, GenerationDefaults, GenerationSettings, HubSource, MemoryHint,
    ModelKind, Sampling, Source, Spec,
};
pub use state::{LoadPhase, StateKind};
pub use status::{KvBlocks, ModelMemory, ModelMetadata, Status, SuspendCause, Suspension};
pub use switch::{Switch, SwitchId, SwitchOutcome, SwitchStrategy};
pub(crate) use text::deserialize_from_text;
