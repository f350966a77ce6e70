//! Every test is bounded in time: one that hangs is named, and ends, and so do all servers.
//!
//! The harness itself would wait for it for ever. Tests begin by [`macro@crate::test`].

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

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
    servers: BTreeMap::new(),
});

struct RunningTests {
    next: u64,
    is_paused: bool,
    tests: BTreeMap<u64, RunningTest>,
    /// Where servers log to, by number.
    servers: BTreeMap<u64, (Pid, PathBuf)>,
}

struct RunningTest {
    name: &'static str,
    began: Instant,
}

/// A test that runs until this is dropped.
#[derive(Debug)]
pub struct TestGuard(u64);

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct ServerGuard(u64);

/// A test begins: this process ends with its name when it takes too long.
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

/// A server of these tests runs, which logs to `log`: it is shown and killed when a test takes too long.
pub(crate) fn server(pid: Pid, log: PathBuf) -> ServerGuard {
    let mut running = running();
    let number = running.number();
    running.servers.insert(number, (pid, log));
    ServerGuard(number)
}

/// Does what is not the tests' own, however long it takes: all that run have their whole time again after it.
pub(crate) fn paused<T>(work: impl FnOnce() -> T) -> T {
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
    for (pid, log) in running.servers.values() {
        let _ = kill_process(*pid, Signal::KILL);
        let log = std::fs::read_to_string(log).unwrap_or_default();
        words += &format!("--- log of the server {pid:?} ---\n{log}--- end ---\n");
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

impl Drop for ServerGuard {
    fn drop(&mut self) {
        running().servers.remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use anyhow::Result;

    use super::OVERRIDE;

    #[hangar_tests::test]
    #[ignore = "hangs: the test below runs it"]
    async fn a_test_that_hangs() {
        std::future::pending::<()>().await;
    }

    #[hangar_tests::test]
    fn a_test_that_hangs_is_named_and_ends() -> Result<()> {
        let name = "bound::tests::a_test_that_hangs";
        let output = Command::new(std::env::current_exe()?)
            .args(["--ignored", "--exact", name])
            .env(OVERRIDE, "0")
            .output()?;
        assert_eq!(output.status.code(), Some(101));
        let words = String::from_utf8(output.stderr)?;
        assert!(words.contains(&format!("{name} HANGS")), "{words}");
        Ok(())
    }
}
