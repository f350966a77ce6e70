//! Tasks that panic, end or no longer turn, and who hears of it.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::oneshot;

use super::*;

const NO_TIME: Duration = Duration::ZERO;

#[bounded::test]
async fn a_critical_task_that_panics_is_a_task_failure() {
    let supervisor = Supervisor::default();
    supervisor
        .tasks()
        .critical("one", async { panic!("for a test") });
    let failure = supervisor.failure().await;
    assert_eq!(failure.to_string(), "the task one panicked: for a test");
    assert!(!supervisor.is_live());
}

#[bounded::test]
async fn a_critical_task_that_ends_is_a_task_failure_unless_the_server_stops() {
    let supervisor = Supervisor::default();
    let tasks = supervisor.tasks();
    tasks.critical("one", async {});
    let failure = supervisor.failure().await;
    assert_eq!(failure.to_string(), "the task one ended by itself");

    let supervisor = Supervisor::default();
    supervisor.stop();
    supervisor
        .tasks()
        .critical("one", async {})
        .await
        .expect("it ended well");
    assert!(!supervisor.has_failed());
}

#[bounded::test]
async fn a_background_task_may_end_but_not_panic() {
    let supervisor = Supervisor::default();
    let tasks = supervisor.tasks();
    tasks
        .background("one", async {})
        .await
        .expect("it ended well");
    assert!(!supervisor.has_failed());
    tasks.background("two", async { panic!("for a test") });
    assert_eq!(supervisor.failure().await.task, "two");
}

#[bounded::test]
async fn the_owner_of_a_task_learns_of_its_panic_and_the_server_goes_on() {
    let supervisor = Supervisor::default();
    let (panicked, seen) = oneshot::channel();
    supervisor
        .tasks()
        .owned("one", async { panic!("for a test") }, || {
            panicked.send(()).expect("somebody listens")
        });
    seen.await.expect("a panic");
    assert!(supervisor.is_live());
}

#[bounded::test]
fn a_stuck_task_is_reported_to_its_owner_once_until_it_turns_and_the_server_lives() {
    let supervisor = Supervisor::new(NO_TIME);
    let reports = Arc::new(AtomicU32::new(0));
    let count = reports.clone();
    let owner = liveness::TaskOwner::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let probe = supervisor.0.probes.add("one".into(), NO_TIME, Some(owner));
    let report = || {
        supervisor.0.probes.report_stuck_tasks();
        reports.load(Ordering::Relaxed)
    };
    while report() == 0 {
        std::thread::yield_now();
    }
    assert_eq!(report(), 1);
    assert!(supervisor.is_live());
    probe.pause();
    assert_eq!(report(), 1);
    probe.mark_alive();
    while report() == 1 {
        std::thread::yield_now();
    }
    assert!(supervisor.is_live());
}

#[bounded::test]
fn a_thread_that_panics_is_a_task_failure() {
    let supervisor = Supervisor::default();
    let thread = supervisor.thread("one", |_| panic!("for a test"));
    thread.expect("a thread").join().expect("it is caught");
    assert!(supervisor.has_failed());
}

#[bounded::test]
fn a_loop_that_is_not_marked_alive_is_stuck_until_it_is() {
    let supervisor = Supervisor::new(NO_TIME);
    let probe = supervisor.liveness_probe("one", NO_TIME);
    while supervisor.is_live() {
        std::thread::yield_now();
    }
    probe.pause();
    assert!(supervisor.is_live());
    drop(probe);
    assert!(supervisor.is_live());
}
