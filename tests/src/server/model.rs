//! Specs of models on disk.

use std::{path::Path, time::Duration};

use hangar_client::{
    convert::to_proto_duration,
    v1::{ModelSpec, RestartMode, RestartPolicy, model_source::Source},
};

/// The shortest wait between two attempts that a spec may ask for.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(10);

/// A spec for a model at this path, which is tried so many times in a row, at intervals of about 10 ms.
pub fn restarting(path: &Path, mode: RestartMode, attempts: u32) -> ModelSpec {
    ModelSpec {
        restart_policy: Some(RestartPolicy {
            mode: mode.into(),
            max_attempts: attempts,
            initial_backoff: Some(to_proto_duration(SHORTEST_BACKOFF)),
            max_backoff: Some(to_proto_duration(SHORTEST_BACKOFF)),
            ..RestartPolicy::default()
        }),
        ..spec(path)
    }
}

/// A spec for a model at this path, which is not restarted when it fails.
pub fn spec(path: &Path) -> ModelSpec {
    let path = path.to_string_lossy().into_owned();
    ModelSpec {
        source: Some(Source::Path(path).into()),
        restart_policy: Some(RestartPolicy {
            mode: RestartMode::Never.into(),
            ..RestartPolicy::default()
        }),
        ..ModelSpec::default()
    }
}
