//! Every test is bounded in time: one that hangs is named, and ends, and so does all that it started.
//!
//! The harness itself would wait for it for ever. Tests begin by [`macro@test`]. The clock is the machine's, watched by a
//! thread: a runtime whose clock is paused, or whose threads are all busy, has the same bound.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
    time::{Duration, Instant},
};

pub use hangar_test_macros::test;

// What the attribute makes of a test names this crate, also in it.
extern crate self as bounded;

/// Far longer than any test takes, on a machine that is slow and has other things to do.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Variable with another limit, in seconds.
const OVERRIDE: &str = "HANGAR_TESTS_LIMIT";

/// Time between two looks at what runs.
const INTERVAL: Duration = Duration::from_secs(1);

/// What runs in this process.
static RUNNING: Mutex<RunningTests> = Mutex::new(RunningTests {
    next: 0,
    is_paused: false,
    tests: BTreeMap::new(),
    cleanups: BTreeMap::new(),
});

struct RunningTests {
    next: u64,
    is_paused: bool,
    tests: BTreeMap<u64, RunningTest>,
    cleanups: BTreeMap<u64, Cleanup>,
}

struct RunningTest {
    name: &'static str,
    began: Instant,
}

/// Gives the words that are shown of what it ends.
struct Cleanup(Box<dyn Fn() -> String + Send>);

/// A test that runs until this is dropped.
#[derive(Debug)]
pub struct TestGuard(u64);

/// Something that a test started, and that runs until this is dropped.
#[derive(Debug)]
pub struct CleanupGuard(u64);

/// A test begins: this process ends with its name when it takes too long.
///
/// # Panics
///
/// When there is no thread to be had that watches over it.
#[must_use]
pub fn begin(name: &'static str) -> TestGuard {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let watch = thread::Builder::new().name("test-bound".to_owned());
        // It ends with the process.
        let started = watch.spawn(watch_over).map(drop);
        assert!(started.is_ok(), "tests are not bounded: {started:?}");
    });
    let mut running = running();
    let number = running.number();
    let began = Instant::now();
    running.tests.insert(number, RunningTest { name, began });
    TestGuard(number)
}

/// Something runs that would outlive this process: when a test takes too long, `cleanup` ends it and gives words on it, which
/// are shown.
#[must_use]
pub fn clean_up(cleanup: impl Fn() -> String + Send + 'static) -> CleanupGuard {
    let mut running = running();
    let number = running.number();
    running.cleanups.insert(number, Cleanup(Box::new(cleanup)));
    CleanupGuard(number)
}

/// Does what is not the tests' own, however long it takes: all that run have their whole time again after it.
pub fn paused<T>(work: impl FnOnce() -> T) -> T {
    running().is_paused = true;
    let done = work();
    let mut running = running();
    running.is_paused = false;
    let now = Instant::now();
    for test in running.tests.values_mut() {
        test.began = now;
    }
    done
}

fn watch_over() {
    let limit = std::env::var(OVERRIDE).ok().and_then(|it| it.parse().ok());
    let limit = limit.map_or(LIMIT, Duration::from_secs);
    loop {
        thread::park_timeout(INTERVAL);
        let running = running();
        let is_late = |test: &RunningTest| test.began.elapsed() > limit;
        if !running.is_paused && running.tests.values().any(is_late) {
            end(&running, is_late);
        }
    }
}

/// Ends the process, and says why.
fn end(running: &RunningTests, is_late: impl Fn(&RunningTest) -> bool) -> ! {
    let mut words = String::new();
    for Cleanup(cleanup) in running.cleanups.values() {
        words += &cleanup();
    }
    for test in running.tests.values() {
        let hangs = if is_late(test) { "HANGS" } else { "runs" };
        let seconds = test.began.elapsed().as_secs();
        words += &format!("{} {hangs}, since {seconds} s\n", test.name);
    }
    // Nobody is left to hear of a failure.
    let _ = std::io::stderr().write_all(words.as_bytes());
    std::process::exit(101);
}

fn running() -> MutexGuard<'static, RunningTests> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RunningTests {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Drop for TestGuard {
    fn drop(&mut self) {
        running().tests.remove(&self.0);
    }
}

impl Drop for CleanupGuard {
    fn drop(&mut self) {
        running().cleanups.remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, process::Command, thread};

    use anyhow::Result;

    use super::{OVERRIDE, clean_up};

    #[bounded::test]
    #[ignore = "hangs: a test below runs it"]
    async fn a_task_that_hangs() {
        let _guard = clean_up(|| "something is ended\n".to_owned());
        std::future::pending::<()>().await;
    }

    #[bounded::test]
    #[ignore = "hangs: a test below runs it"]
    fn a_thread_that_hangs() {
        loop {
            thread::park();
        }
    }

    /// What this program says of a test that hangs, and is bounded by no time at all.
    fn words_on(name: &str) -> Result<String> {
        let output = Command::new(std::env::current_exe()?)
            .args(["--ignored", "--exact", name])
            .env(OVERRIDE, "0")
            .output()?;
        assert_eq!(output.status.code(), Some(101));
        Ok(String::from_utf8(output.stderr)?)
    }

    #[bounded::test]
    fn a_test_that_hangs_is_named_and_ends() -> Result<()> {
        for name in ["tests::a_task_that_hangs", "tests::a_thread_that_hangs"] {
            let words = words_on(name)?;
            let full = format!("bounded::{name} HANGS");
            assert!(words.contains(&full), "{words}");
        }
        Ok(())
    }

    #[bounded::test]
    fn what_a_test_that_hangs_has_started_is_cleaned_up() -> Result<()> {
        let words = words_on("tests::a_task_that_hangs")?;
        assert!(words.starts_with("something is ended\n"), "{words}");
        Ok(())
    }

    #[bounded::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_runtime_is_as_the_arguments_say() -> Result<(), Infallible> {
        let metrics = tokio::runtime::Handle::current().metrics();
        assert_eq!(metrics.num_workers(), 2);
        Ok(())
    }

    #[bounded::test]
    #[should_panic(expected = "as it has to")]
    fn a_test_may_have_to_panic() {
        panic!("as it has to");
    }
}
