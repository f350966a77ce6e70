//! Where models stand, and what happens to them, in one order, for everybody who watches.
//!
//! Each model has one [`StatusCell`]. Its driver writes it, by the one [`Publisher`] that there is of it; watchers, health,
//! server information and the lifecycle read it.

mod cell;
mod event_log;
mod publisher;
mod watch;

pub use cell::StatusCell;
pub use event_log::{EventLog, LogChange, LogEvent};
pub use publisher::Publisher;
pub use watch::{Filter, Watch, WatchItem};
