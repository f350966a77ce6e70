//! What an unload did, as a message.

use std::time::Duration;

use hangar_client::v1;

use crate::{
    lifecycle::{UnloadReport, Verification},
    model::ModelId,
    wire::duration_message,
};

/// What unloading a model did.
pub(in crate::rpc) fn unloaded(
    id: &ModelId,
    report: &UnloadReport,
    elapsed: Duration,
) -> v1::ModelUnload {
    let verification = match report.verification {
        Verification::Nothing => v1::UnloadVerification::Unspecified,
        Verification::Reaped => v1::UnloadVerification::Reaped,
        Verification::DeviceObserved => v1::UnloadVerification::DeviceObserved,
        Verification::SharedDevice => v1::UnloadVerification::SharedDevice,
        Verification::TimedOut => v1::UnloadVerification::TimedOut,
    };
    v1::ModelUnload {
        model_id: id.to_string(),
        was_loaded: report.was_loaded,
        host_bytes_freed: report.host_bytes,
        device_bytes_freed: report.device_bytes,
        verification: verification.into(),
        elapsed: duration_message(elapsed),
        error: None,
        killed: report.killed,
    }
}
