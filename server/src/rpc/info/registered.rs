//! The first registered models, kept for as long as nothing of the catalog changes: it is asked for them far more often.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::{catalog::Catalog, lifecycle::ModelFacts};

/// The first registered models, if they were read since the catalog changed.
#[derive(Debug, Default)]
pub(in crate::rpc) struct RegisteredModels(ArcSwapOption<RegisteredPage>);

/// The first registered models, by id.
#[derive(Debug)]
pub(super) struct RegisteredPage {
    /// The catalog's generation that they are at least as new as.
    pub(super) generation: u64,
    /// What is known of them, of which the catalog's part counts for those that are not tracked.
    pub(super) models: Vec<Arc<ModelFacts>>,
    /// Whether there are more.
    pub(super) more: bool,
}

impl RegisteredModels {
    /// Those of `catalog` as it is, if they are kept.
    pub(super) fn current(&self, catalog: &Catalog) -> Option<Arc<RegisteredPage>> {
        let kept = self.0.load_full();
        kept.filter(|page| page.generation == catalog.generation())
    }

    /// Keeps `page` in place of what was kept before.
    pub(super) fn keep(&self, page: RegisteredPage) {
        self.0.store(Some(Arc::new(page)));
    }
}
