//! Holds: who is added under the lock of the model, and who goes at any time.

use super::{DesiredState, LockedModel};
use crate::{lifecycle::holders::Holder, model::ModelId};

impl DesiredState {
    /// `holder` holds `model` no more. Unloads the model if nobody else wants it, and says whether it does.
    pub(in crate::lifecycle) fn release(&self, model: &ModelId, holder: &Holder) -> bool {
        let free = self.holders.remove(model, holder);
        let unwanted = self
            .context
            .model(model)
            .filter(|model| free && !model.facts().desired && model.status().state.is_active());
        let Some(unwanted) = unwanted else {
            return false;
        };
        // Somebody may come to want it before its driver hears of this.
        unwanted.release();
        true
    }

    /// `holder` holds `model` no more, which stays as it is all the same.
    pub(in crate::lifecycle) fn release_and_keep(&self, model: &ModelId, holder: &Holder) {
        self.holders.remove(model, holder);
    }
}

impl LockedModel<'_> {
    /// `holder` holds the model from now on. Says whether it did not before.
    pub(in crate::lifecycle) fn hold(&self, holder: Holder) -> bool {
        self.desired_state.holders.add(&self.id, holder)
    }
}
