//! Reads an entry, changes it and writes it back, bounded in its attempts.
//!
//! Invariant: only fields that the change touched are written, so that fields which are newer than this
//! client stay as they are.

use backon::{BackoffBuilder, ExponentialBuilder};

use super::{
    get::GetModel,
    update::{UpdateModel, changed_fields},
};
use crate::{
    client::Client,
    error::Error,
    v1::{ErrorReason, Model, UpdateModelResponse},
};

/// How often the change is made before somebody else's changes are given way to.
const ATTEMPTS: usize = 5;

/// Edits an entry. Made by [`Client::edit_model`].
#[derive(Clone, Debug)]
#[must_use = "nothing is changed before `send`"]
pub struct EditModel {
    client: Client,
    model_id: String,
    etag: Option<String>,
    attempts: usize,
}

impl EditModel {
    pub(super) fn new(client: Client, model_id: String) -> Self {
        Self {
            client,
            model_id,
            etag: None,
            attempts: ATTEMPTS,
        }
    }

    /// Only if this is the entry's etag; then there is one attempt. Default: whatever it is.
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        self.etag = Some(etag.into());
        self.attempts = 1;
        self
    }

    /// How often at most the change is made anew on the entry of somebody who was faster. Default 5.
    pub fn attempts(mut self, attempts: usize) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Reads the entry, applies `change`, and writes the fields of the spec, and the aliases, that differ
    /// then. When the spec was changed by somebody else meanwhile, `change` is applied to the new entry.
    ///
    /// Gives `None`, and writes nothing, when nothing differs. Aliases are no part of the etag: of two who
    /// edit them at the same time the later one wins.
    ///
    /// # Errors
    ///
    /// As [`UpdateModel::send`]; ETAG_MISMATCH when others were faster each time.
    pub async fn send(
        self,
        mut change: impl FnMut(&mut Model),
    ) -> Result<Option<UpdateModelResponse>, Error> {
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(self.client.settings().retry.delay)
            .with_max_times(self.attempts - 1)
            .with_jitter()
            .build();
        loop {
            let old = GetModel::new(self.client.clone(), self.model_id.clone());
            let old = old.send().await?;
            let mut new = old.clone();
            change(&mut new);
            let Some(update) = self.update(&old, new) else {
                return Ok(None);
            };
            let error = match update.send().await {
                Ok(response) => return Ok(Some(response)),
                Err(error) => error,
            };
            let delay = delays
                .next()
                .filter(|_| error.reason() == Some(ErrorReason::EtagMismatch));
            match delay {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(error),
            }
        }
    }

    /// What turns `old` into `new`. `None`: they are the same.
    fn update(&self, old: &Model, new: Model) -> Option<UpdateModel> {
        let etag = self.etag.as_ref().unwrap_or(&old.etag);
        let update = UpdateModel::new(self.client.clone(), old.model_id.clone()).etag(etag);
        let spec = new.spec.unwrap_or_default();
        let fields = changed_fields(&old.spec.clone().unwrap_or_default(), &spec);
        let has_aliases = old.aliases != new.aliases;
        if fields.is_empty() && !has_aliases {
            return None;
        }
        let update = match fields.is_empty() {
            true => update,
            false => update.spec_fields(spec, fields),
        };
        Some(match has_aliases {
            true => update.aliases(new.aliases),
            false => update,
        })
    }
}

#[cfg(test)]
mod tests;
