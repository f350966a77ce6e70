//! Tests of the thread, with a record of a driver in place of one.

use std::sync::mpsc::sync_channel;

use super::*;

/// Gives one reading of the record each time that it is let.
struct Replay {
    readings: std::vec::IntoIter<Option<Vec<Device>>>,
    steps: Receiver<()>,
    read: SyncSender<()>,
}

#[derive(Deserialize)]
struct Record {
    readings: Vec<Option<Vec<Device>>>,
}

const WAIT: Duration = Duration::from_secs(10);

impl DeviceSource for Replay {
    fn read(&mut self) -> Result<Vec<Device>, String> {
        // Signals that what was read before is published by now.
        let _ = self.read.send(());
        self.steps.recv().map_err(|_| "the test is over")?;
        let reading = self.readings.next().ok_or("the record is over")?;
        reading.ok_or_else(|| "Unknown Error".to_owned())
    }
}

fn record() -> Vec<Option<Vec<Device>>> {
    let record: Record = serde_json::from_str(include_str!("two_gpus.json")).expect("a record");
    record.readings
}

#[bounded::test]
fn the_last_reading_stands_while_the_driver_hangs_and_when_it_fails() {
    let (step, steps) = sync_channel(0);
    let (read, reads) = sync_channel(0);
    let source = Replay {
        readings: record().into_iter(),
        steps,
        read,
    };
    let monitor = DeviceMonitor::start_every(
        Duration::from_millis(1),
        move || Ok(source),
        &Supervisor::default(),
    );
    let monitor = monitor.expect("a thread");
    reads.recv_timeout(WAIT).expect("a first reading");
    assert_eq!(*monitor.latest(), DeviceReading::default(), "it hangs");
    assert_eq!(monitor.latest().driver, GpuDriver::Unresponsive);
    let mut last = Vec::new();
    let mut sampled = None;
    for reading in record() {
        step.send(()).expect("the thread reads");
        reads.recv_timeout(WAIT).expect("a further reading");
        let latest = monitor.latest();
        match reading {
            Some(devices) => {
                assert!(latest.sampled > sampled && latest.error.is_none());
                last = devices;
            }
            None => {
                assert_eq!(latest.sampled, sampled);
                assert_eq!(latest.error.as_deref(), Some("Unknown Error"));
            }
        }
        assert_eq!(latest.devices, last);
        sampled = latest.sampled;
    }
    assert_eq!(last.len(), 1);
}

#[bounded::test]
fn the_thread_ends_with_its_monitor() {
    let (step, steps) = sync_channel(1);
    let (read, reads) = sync_channel(0);
    let source = Replay {
        readings: record().into_iter(),
        steps,
        read,
    };
    let monitor = DeviceMonitor::start_every(WAIT * 60, move || Ok(source), &Supervisor::default())
        .expect("a thread");
    reads.recv_timeout(WAIT).expect("a first reading");
    drop(monitor);
    step.send(()).expect("the thread reads");
    let ended = reads.recv_timeout(WAIT);
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
}

#[bounded::test]
fn a_machine_without_a_driver_has_no_devices() {
    let (reported, reports) = sync_channel(0);
    let open = move || {
        let _ = reported.send(());
        Err::<Replay, _>(GpuDriverError::Absent("no such library".to_owned()))
    };
    let monitor = DeviceMonitor::start(open, &Supervisor::default());
    let monitor = monitor.expect("a thread");
    reports.recv_timeout(WAIT).expect("it was opened");
    let latest = monitor.latest();
    assert!(latest.sampled.is_none() && latest.devices.is_empty());
}

#[bounded::test]
async fn a_fresh_reading_is_one_that_was_begun_after_it_was_asked_for() {
    let (step, steps) = sync_channel(8);
    let (read, reads) = sync_channel(8);
    let source = Replay {
        readings: vec![record().swap_remove(0); 3].into_iter(),
        steps,
        read,
    };
    let monitor = DeviceMonitor::start_every(WAIT * 60, move || Ok(source), &Supervisor::default())
        .expect("a thread");
    reads.recv_timeout(WAIT).expect("a first reading");
    // The reading that is under way is not it.
    let silent = monitor.fresh(Duration::from_millis(50)).await;
    assert_eq!(silent, Err(GpuDriverUnresponsive));
    let before = Instant::now();
    // The reading that is under way, the one that was asked for above, and this one.
    for _ in 0..3 {
        step.send(()).expect("the thread reads");
    }
    let fresh = monitor.fresh(WAIT).await.expect("a driver that answers");
    assert!(fresh.asked >= Some(before));
    assert_eq!(fresh.driver, GpuDriver::Works);
}

#[bounded::test]
async fn nobody_waits_for_a_driver_that_is_not_there() {
    let absent = || Err::<Replay, _>(GpuDriverError::Absent("no such library".to_owned()));
    let monitor = DeviceMonitor::start(absent, &Supervisor::default()).expect("a thread");
    let reading = monitor.fresh(WAIT).await.expect("the last word");
    assert_eq!(
        reading.driver,
        GpuDriver::Absent("no such library".to_owned())
    );
    assert!(monitor.fresh(WAIT).await.is_ok());
}
