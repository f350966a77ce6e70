//! A worker whose behaviour is scripted, for faults that a real one cannot be brought to have.
//!
//! The script is `script.json` in the model's directory. A test writes it with [`Script::write`], holds
//! the worker back with a [`Gate`] and hears from it through [`Events`], so that neither has to wait for
//! some time to pass.

mod events;
mod fault;
mod gate;
mod generation;
mod loading;
mod process;
mod script;
mod service;
mod work;
mod worker;

pub use events::{Events, ScriptedEvent, ScriptedReport};
pub use fault::Fault;
pub use gate::Gate;
pub use process::run;
pub use script::{
    Flood, GenerateScript, LoadKind, LoadScript, ReadyKind, Script, ShutdownKind, StatsKind,
    WorkKind,
};

#[cfg(test)]
mod tests;
