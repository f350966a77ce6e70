//! The server under check, its client, and what the device reports.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hangar_client::{
    Client,
    v1::{DeviceInfo, ModelSpec, ModelState, ModelUnload},
};
use hangar_tests::{
    fixtures::Fixtures,
    processes,
    server::{DEADLINE, TestServer, Transitions},
    timed::TimedAnswer,
};
use tokio::time::{interval, timeout};

use crate::{arguments::Plan, models::Models};

/// How much of a device's memory may be missing after an unload, in bytes.
pub(crate) const TOLERANCE: u64 = 64 << 20;

/// How long a device's memory may take to come back.
const COMES_BACK: Duration = Duration::from_secs(10);

/// What every prompt begins with.
pub(crate) const PROMPT: &str = "The hangar doors open";

/// A server and the models for it.
pub(crate) struct Bench {
    /// What is to be checked.
    pub(crate) plan: Plan,
    /// The models.
    pub(crate) models: Models,
    /// How long they took to write.
    pub(crate) writing: Duration,
    /// A client of the server.
    pub(crate) client: Client,
    server: TestServer,
}

/// Times of a load from its call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Until the engine was built.
    pub(crate) built: Duration,
    /// Until READY.
    pub(crate) ready: Duration,
}

impl Bench {
    /// Writes the models and starts the server.
    pub(crate) async fn start(plan: Plan) -> Result<Self> {
        let fixtures = match &plan.models {
            Some(directory) => Fixtures::new_in(directory)?,
            None => Fixtures::new()?,
        };
        eprintln!("gpu-check: writing models");
        let began = Instant::now();
        let (models, fixtures, plan) = tokio::task::spawn_blocking(move || {
            let models = Models::write(&fixtures, &plan)?;
            anyhow::Ok((models, fixtures, plan))
        })
        .await??;
        let writing = began.elapsed();
        let mut options = TestServer::real().fixtures(&fixtures);
        for name in ["LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"] {
            if let Ok(value) = std::env::var(name) {
                options = options.env(name, value);
            }
        }
        let server = options.start().await?;
        Ok(Self {
            client: server.connect().await?,
            plan,
            models,
            writing,
            server,
        })
    }

    /// Ends the server, which has to leave no worker behind.
    pub(crate) async fn end(self) -> Result<()> {
        let status = self.server.terminate().await?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// The device that models are loaded on. `None` on the processor.
    pub(crate) async fn device(&self) -> Result<Option<DeviceInfo>> {
        if !self.plan.is_gpu() {
            return Ok(None);
        }
        let ordinal = self.plan.device.strip_prefix("cuda:");
        let ordinal = ordinal.map_or(Ok(0), str::parse).context("the ordinal")?;
        let devices = self.client.info().send().await?.devices;
        let device = devices.into_iter().find(|device| device.ordinal == ordinal);
        device.map(Some).context("the server sees no such GPU")
    }

    /// Free memory of the device in bytes, as soon as it is at least `wanted`, or as it is when that takes too
    /// long. `None` on the processor.
    pub(crate) async fn free(&self, wanted: u64) -> Result<Option<u64>> {
        let began = Instant::now();
        let mut ticks = interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            let Some(device) = self.device().await? else {
                return Ok(None);
            };
            let free = device.memory_free_bytes;
            if free >= wanted || began.elapsed() > COMES_BACK {
                return Ok(Some(free));
            }
        }
    }

    /// Free memory of the device with nothing loaded, once it has stopped rising. `None` on the processor.
    pub(crate) async fn free_at_rest(&self) -> Result<Option<u64>> {
        let mut ticks = interval(Duration::from_secs(2));
        let mut last = None;
        for _ in 0..10 {
            ticks.tick().await;
            let free = self.free(0).await?;
            if free.is_none() || last.is_some_and(|last| free <= last) {
                return Ok(free);
            }
            last = Some(free);
        }
        Ok(last.flatten())
    }

    /// Loads a model.
    pub(crate) async fn load(&self, id: &str, spec: ModelSpec) -> Result<Load> {
        let began = Instant::now();
        let mut built = None;
        let load = self.client.load(id).spec(spec);
        load.wait_with(|status| {
            if status.state() == ModelState::Warming {
                built = Some(began.elapsed());
            }
        })
        .await?;
        let ready = began.elapsed();
        Ok(Load {
            built: built.unwrap_or(ready),
            ready,
        })
    }

    /// Unloads a model, which has to be verified, and forgets it.
    pub(crate) async fn unload(&self, id: &str) -> Result<ModelUnload> {
        let worker = self.worker(id).await?;
        let unload = self.client.unload(id).send().await?;
        ensure!(unload.was_loaded, "{id} was not loaded");
        ensure!(!processes::exists(worker), "worker {worker} is still there");
        self.client.delete_model(id).force().send().await?;
        Ok(unload)
    }

    /// Follows a model.
    pub(crate) async fn follow(&self, id: &str) -> Result<Transitions> {
        self.server.follow(id).await
    }

    /// Process id of a loaded model's worker.
    pub(crate) async fn worker(&self, id: &str) -> Result<u32> {
        let info = self.client.info().model(id).send().await?;
        let model = info.models.into_iter().next().context("no such model")?;
        let pid = model.status.context("no status")?.worker_pid;
        ensure!(pid != 0, "{id} has no worker");
        Ok(pid)
    }

    /// Unloads and forgets whatever an earlier step has left.
    pub(crate) async fn clear(&self) -> Result<()> {
        let info = self.client.info().send().await?;
        for model in info.models {
            let gone = async {
                self.client.unload(&model.model_id).force().send().await?;
                self.client
                    .delete_model(&model.model_id)
                    .force()
                    .send()
                    .await
            };
            timeout(DEADLINE, gone).await??;
        }
        Ok(())
    }

    /// A greedy answer.
    pub(crate) async fn answer(&self, id: &str, prompt: &str, tokens: u32) -> Result<TimedAnswer> {
        TimedAnswer::ask(&self.client, id, prompt, tokens).await
    }
}
