//! Faults to order, for tests. Without the feature `failpoints` nothing of this is compiled in: a point is a future that
//! never ends, or a function that does nothing.
//!
//! With it, the directory that the environment variable `HANGAR_FAILPOINTS` names is looked into. A file there that has
//! a point's name says what happens to the task that comes by: `panic`, once, or `block` for as long as the file is
//! there, or `hold`, where a task waits for that and blocks no thread; a file of its name with `.reached` behind it says
//! that somebody does. A point of one model has that model's id behind its name, as in `driver.m`. With `short`,
//! one look finds that there is next to nothing of what is looked for.

#[cfg(feature = "failpoints")]
pub(crate) use armed::{hold, is_ordered, meets, pass};
#[cfg(not(feature = "failpoints"))]
pub(crate) use released::{hold, is_ordered, meets, pass};

#[cfg(not(feature = "failpoints"))]
mod released {
    use std::convert::Infallible;

    /// Does nothing.
    #[inline(always)]
    pub(crate) fn pass(_point: &str, _model: Option<&str>) {}

    /// Does nothing.
    #[inline(always)]
    pub(crate) async fn hold(_point: &str, _model: Option<&str>) {}

    /// Never.
    #[inline(always)]
    pub(crate) fn is_ordered(_point: &str) -> bool {
        false
    }

    /// Never ends.
    #[inline(always)]
    pub(crate) async fn meets(_point: &str, _model: Option<&str>) -> Infallible {
        std::future::pending().await
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::{convert::Infallible, fs, path::PathBuf, sync::LazyLock, time::Duration};

    /// Where faults are ordered, by a file each.
    static DIRECTORY: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("HANGAR_FAILPOINTS").map(PathBuf::from));

    /// Between two looks.
    const POLL_INTERVAL: Duration = Duration::from_millis(10);

    /// Does what was ordered for `point`.
    ///
    /// # Panics
    ///
    /// When that was ordered.
    pub(crate) fn pass(point: &str, model: Option<&str>) {
        let Some(armed) = armed(point, model) else {
            return;
        };
        match fs::read_to_string(&armed).as_deref() {
            // Whoever removes the file carries it out.
            Ok("panic") if fs::remove_file(&armed).is_ok() => {
                panic!("the failpoint {point} was ordered to panic")
            }
            Ok("block") => {
                // Whoever waits for that sees it. Without the directory nobody does.
                let _ = fs::write(format!("{}.reached", armed.display()), "");
                while armed.exists() {
                    block();
                }
            }
            _ => {}
        }
    }

    /// Waits for as long as `hold` is ordered for `point`, and blocks nobody else.
    pub(crate) async fn hold(point: &str, model: Option<&str>) {
        let Some(armed) = armed(point, model) else {
            return;
        };
        if fs::read_to_string(&armed).is_ok_and(|what| what == "hold") {
            let _ = fs::write(format!("{}.reached", armed.display()), "");
            while armed.exists() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// Whether `point` is armed with `short`. The one who hears so disarms it.
    pub(crate) fn is_ordered(point: &str) -> bool {
        armed(point, None).is_some_and(|file| {
            fs::read_to_string(&file).is_ok_and(|what| what == "short")
                && fs::remove_file(&file).is_ok()
        })
    }

    /// The file that arms `point`, whether it is there or not.
    fn armed(point: &str, model: Option<&str>) -> Option<PathBuf> {
        let directory = DIRECTORY.as_ref()?;
        Some(match model {
            Some(model) => directory.join(format!("{point}.{model}")),
            None => directory.join(point),
        })
    }

    #[expect(clippy::disallowed_methods, reason = "to block is what was ordered")]
    fn block() {
        std::thread::sleep(POLL_INTERVAL);
    }

    /// As [`pass`], time and again.
    pub(crate) async fn meets(point: &str, model: Option<&str>) -> Infallible {
        loop {
            pass(point, model);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
