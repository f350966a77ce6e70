//! What a worker's configuration says.

use std::sync::LazyLock;

use hangar_client::v1::ModelSpec;

use crate::v1::WorkerConfig;

static EMPTY: LazyLock<ModelSpec> = LazyLock::new(ModelSpec::default);

impl WorkerConfig {
    /// What the engine is built from, as the spec says it: one that says nothing where none is given.
    pub fn spec(&self) -> &ModelSpec {
        self.spec.as_ref().unwrap_or(&EMPTY)
    }
}
