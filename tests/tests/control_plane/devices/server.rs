//! A server with GPUs.

use std::{ops::Deref, time::Duration};

use anyhow::{Context, Result};
use hangar_client::{
    Error,
    v1::{DeviceInfo, MemoryHint, ModelInfo, ModelLoad, ModelSpec, ModelStatus},
};
use hangar_tests::{
    fixtures::Fixtures,
    info,
    nvml_stub::{Gpu, GpuDriver},
    scripted::Script,
    server::{DEADLINE, TestServer, TestServerBuilder, spec},
};
use tokio::time::{interval, timeout};

pub(crate) const GIB: u64 = 1 << 30;

/// A server with scripted workers, GPUs and their driver.
pub(crate) struct GpuServer {
    // Before the driver: a server that hangs in it is ended first.
    pub(crate) server: TestServer,
    pub(crate) driver: GpuDriver,
    pub(crate) gpus: Vec<Gpu>,
}

impl Deref for GpuServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl GpuServer {
    /// With GPUs of so many GiB.
    pub(crate) async fn with_gpus(gib: &[u64]) -> Result<Self> {
        Self::with(gib, |options| options).await
    }

    /// As [`Self::with_gpus`], with other options.
    pub(crate) async fn with(
        gib: &[u64],
        change: impl FnOnce(TestServerBuilder) -> TestServerBuilder,
    ) -> Result<Self> {
        let ordinals = 0..u32::try_from(gib.len())?;
        let gpus: Vec<_> = ordinals
            .zip(gib)
            .map(|(n, gib)| Gpu::of_gib(n, *gib))
            .collect();
        let driver = GpuDriver::new(&gpus)?;
        let fixtures = Fixtures::new()?;
        let options = TestServer::scripted()
            .fixtures(&fixtures)
            .with_gpus(&driver)?;
        Ok(Self {
            server: change(options).start().await?,
            driver,
            gpus,
        })
    }

    /// A model on `device` that needs so many GiB there, and does what else `script` says.
    pub(crate) fn scripted(&self, id: &str, device: &str, script: &Script) -> Result<ModelSpec> {
        Ok(ModelSpec {
            device: device.to_owned(),
            ..spec(&self.fixtures.scripted(id, script)?)
        })
    }

    /// A model on `device` that needs and takes so many bytes there.
    pub(crate) fn spec(&self, id: &str, device: &str, bytes: u64) -> Result<ModelSpec> {
        self.scripted(id, device, &Script::on_device(bytes))
    }

    /// Loads a model on `device` that needs and takes so many bytes there.
    pub(crate) async fn load(&self, id: &str, device: &str, bytes: u64) -> Result<ModelStatus> {
        let load = self.try_load(id, self.spec(id, device, bytes)?).await?;
        load.status.context("a status")
    }

    pub(crate) async fn try_load(&self, id: &str, spec: ModelSpec) -> Result<ModelLoad, Error> {
        self.client.load(id).spec(spec).wait().await
    }

    pub(crate) async fn info(&self, id: &str) -> Result<ModelInfo> {
        info::model(&self.client, id).await
    }

    /// Everything about a model, as soon as it is so.
    pub(crate) async fn info_when(
        &self,
        id: &str,
        is_so: impl Fn(&ModelInfo) -> bool,
    ) -> Result<ModelInfo> {
        let mut ticks = interval(Duration::from_millis(20));
        let check = async {
            loop {
                ticks.tick().await;
                let info = self.info(id).await?;
                if is_so(&info) {
                    return Ok(info);
                }
            }
        };
        timeout(DEADLINE, check).await?
    }

    /// Where a model is, as its metadata say.
    pub(crate) async fn place(&self, id: &str) -> Result<String> {
        Ok(self.info(id).await?.metadata.context("metadata")?.device)
    }

    pub(crate) async fn status(&self, id: &str) -> Result<ModelStatus> {
        self.info(id).await?.status.context("a status")
    }

    /// The devices, as soon as they are so.
    pub(crate) async fn devices_when(
        &self,
        are_so: impl Fn(&[DeviceInfo]) -> bool,
    ) -> Result<Vec<DeviceInfo>> {
        let mut ticks = interval(Duration::from_millis(20));
        let check = async {
            loop {
                ticks.tick().await;
                let devices = self.client.info().send().await?.devices;
                if are_so(&devices) {
                    return Ok(devices);
                }
            }
        };
        timeout(DEADLINE, check).await?
    }
}

/// `spec` with what the operator knows of its need on the device.
pub(crate) fn hinted(spec: ModelSpec, device_bytes: u64) -> ModelSpec {
    let memory_hint = Some(MemoryHint {
        host_bytes: 0,
        device_bytes,
    });
    ModelSpec {
        memory_hint,
        ..spec
    }
}

/// `spec`, which nothing may evict.
pub(crate) fn pinned(spec: ModelSpec) -> ModelSpec {
    ModelSpec {
        pinned: true,
        ..spec
    }
}
