//! The end of a task that the server cannot do without.

use std::{any::Any, borrow::Cow, fmt};

/// The end of a task that the server cannot do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFailure {
    /// The task.
    pub task: TaskName,
    /// What it panicked with; `None`: it ended although it should not.
    pub panic: Option<String>,
}

/// Name of a task or thread.
pub type TaskName = Cow<'static, str>;

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.panic {
            Some(panic_message) => write!(f, "the task {} panicked: {panic_message}", self.task),
            None => write!(f, "the task {} ended by itself", self.task),
        }
    }
}

/// What a panic says.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
