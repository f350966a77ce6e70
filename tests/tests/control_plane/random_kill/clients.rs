//! A client that changes its own models at random until the server is gone.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use hangar_client::{
    Client, Error,
    v1::{DesiredState, ModelSpec, RestartMode::OnFailure},
};
use hangar_tests::{installation::Installation, server::restarting};
use tokio::sync::Notify;

use super::{
    expected_state::{Change, ExpectedState, KnownEntry},
    is_broken_off,
};

/// Models of a client.
const MODELS: usize = 2;

/// Attempts of a load: more than the server is killed.
const ATTEMPTS: u32 = 100;

/// A run of a server, as its clients share it.
#[derive(Debug, Default)]
pub(crate) struct ServerRun {
    /// It is about to end.
    pub(crate) killed: AtomicBool,
    /// Told of each change that was acknowledged.
    pub(crate) acknowledged: Notify,
}

/// A client, and what it knows of its models.
pub(crate) struct RandomClient {
    client: Client,
    random: fastrand::Rng,
    path: PathBuf,
    run: Arc<ServerRun>,
    pub(crate) expected_states: BTreeMap<String, ExpectedState>,
    /// Changes that were acknowledged.
    pub(crate) acknowledged: usize,
}

impl RandomClient {
    /// The client `owner`, which goes on from what is true.
    pub(crate) fn new(
        owner: u64,
        client: &Client,
        installation: &Installation,
        expected_states: &BTreeMap<String, ExpectedState>,
        seed: u64,
        run: &Arc<ServerRun>,
    ) -> Result<Self> {
        let ids = (0..MODELS).map(|number| format!("m-{owner}-{number}"));
        let expected_states = ids.map(|id| {
            let expected_state = expected_states.get(&id).cloned().unwrap_or_default();
            (id, expected_state)
        });
        Ok(Self {
            client: client.clone(),
            random: fastrand::Rng::with_seed(seed),
            path: installation.fixtures.llama()?,
            expected_states: expected_states.collect(),
            run: run.clone(),
            acknowledged: 0,
        })
    }

    /// Changes models until the server is gone.
    pub(crate) async fn act(mut self) -> Result<Self> {
        loop {
            let number = self.random.usize(0..MODELS);
            let Some(id) = self.expected_states.keys().nth(number).cloned() else {
                return Ok(self);
            };
            let mut expected_state = self.expected_states.remove(&id).unwrap_or_default();
            let change = self.choose(&id, &expected_state);
            expected_state.pending = Some(change.clone());
            let done = self.change(&id, &expected_state, change).await;
            let gone = match done {
                Ok(reported) => {
                    expected_state.acknowledge(reported)?;
                    self.acknowledged += 1;
                    self.run.acknowledged.notify_one();
                    false
                }
                Err(error) if is_broken_off(&error) && self.run.killed.load(Ordering::SeqCst) => {
                    true
                }
                Err(error) => {
                    return Err(
                        anyhow::Error::from(error).context(format!("{id}: {expected_state:?}"))
                    );
                }
            };
            self.expected_states.insert(id, expected_state);
            if gone {
                return Ok(self);
            }
        }
    }

    fn choose(&mut self, id: &str, expected_state: &ExpectedState) -> Change {
        let mut priority = self.random.i32(1..1000);
        // The same spec again would be no change.
        if expected_state
            .entry
            .as_ref()
            .is_some_and(|known| known.priority == priority)
        {
            priority = -priority;
        }
        if expected_state.entry.is_none() {
            return match self.random.bool() {
                true => Change::Create(priority, vec![format!("alias-of-{id}")]),
                false => Change::Load(priority),
            };
        }
        match self.random.u32(0..8) {
            0..=2 => Change::Update(priority),
            3 | 4 => Change::Desire(true),
            5 | 6 => Change::Desire(false),
            _ => Change::Delete,
        }
    }

    fn spec(&self, priority: i32) -> ModelSpec {
        ModelSpec {
            priority,
            ..restarting(&self.path, OnFailure, ATTEMPTS)
        }
    }

    /// Makes a change and gives the entry as the server returns it.
    async fn change(
        &self,
        id: &str,
        expected: &ExpectedState,
        change: Change,
    ) -> Result<Option<KnownEntry>, Error> {
        let client = &self.client;
        let entry = expected.entry.as_ref();
        match change {
            Change::Create(priority, aliases) => {
                let create = client.create_model(id, self.spec(priority));
                let model = create.aliases(aliases).send().await?;
                Ok(Some(KnownEntry::of(model, DesiredState::Unloaded)))
            }
            Change::Load(priority) => {
                client.load(id).spec(self.spec(priority)).send().await?;
                let loaded = KnownEntry::loaded(priority);
                match client.get_model(id).send().await {
                    Ok(model) => Ok(Some(KnownEntry::of(model, DesiredState::Loaded))),
                    Err(error) if is_broken_off(&error) => Ok(Some(loaded)),
                    Err(error) => Err(error),
                }
            }
            Change::Update(priority) => {
                let update = client.update_model(id).priority(priority);
                let etag = entry.map(|known| known.etag.clone());
                let updated = update.etag(etag.unwrap_or_default()).send().await?;
                let desired = entry.is_some_and(|known| known.desired);
                let model = updated.model.ok_or(Error::Protocol("no model"))?;
                let desired = match desired {
                    true => DesiredState::Loaded,
                    false => DesiredState::Unloaded,
                };
                Ok(Some(KnownEntry::of(model, desired)))
            }
            Change::Desire(desired) => {
                match desired {
                    true => drop(client.load(id).send().await?),
                    false => drop(client.unload(id).send().await?),
                }
                let known = entry.cloned();
                Ok(known.map(|known| KnownEntry { desired, ..known }))
            }
            Change::Delete => {
                client.delete_model(id).force().send().await?;
                Ok(None)
            }
        }
    }
}
