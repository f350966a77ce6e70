//! Processor time that is used for nothing.

use std::{
    io,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::script::WorkKind;

/// Somebody who works until this is dropped.
#[derive(Debug)]
pub(super) enum Work {
    Nobody,
    Thread(Arc<AtomicBool>),
    Child(Child),
}

impl Work {
    pub(super) fn begin(kind: WorkKind) -> io::Result<Self> {
        Ok(match kind {
            WorkKind::Nobody => Self::Nobody,
            WorkKind::Thread => {
                let over = Arc::new(AtomicBool::new(false));
                let is_over = Arc::clone(&over);
                let thread = std::thread::Builder::new().name("work".to_owned());
                thread.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                })?;
                Self::Thread(over)
            }
            WorkKind::Child => {
                let spin = "while kill -0 $PPID; do :; done";
                Self::Child(Command::new("sh").args(["-c", spin]).spawn()?)
            }
        })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        match self {
            Self::Nobody => {}
            Self::Thread(over) => over.store(true, Ordering::Relaxed),
            Self::Child(child) => {
                // Both fail only for a process that has ended and was reaped.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
