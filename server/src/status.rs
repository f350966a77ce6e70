//! What happens to models, in one order, for everybody who watches.

mod hub;
mod watch;

pub use hub::{Change, Event, Hub};
pub use watch::{Filter, Notice, ResumeError, Watch};
