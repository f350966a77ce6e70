//! What models need of the memories where they are, and how workers learn where that is.

use super::Context;
use crate::{
    catalog::{CatalogEntry, LearnedFacts},
    lifecycle::{gpu::Gpu, memory::MemoryNeed},
    model::{DeviceName, ModelMemory as Bytes, Spec},
    worker::{Inspection, WorkerProgram},
};

impl Context {
    /// What a model of `spec` needs on `gpu`, or on the CPU, as far as that is known without looking into its
    /// files: what the operator says, else what it held there last time. In bytes, first of the host's
    /// memory, then of the device's.
    pub(in crate::lifecycle) fn known_need(
        &self,
        spec: &Spec,
        learned: &LearnedFacts,
        gpu: Option<&Gpu>,
    ) -> (Option<u64>, Option<u64>) {
        let hint = spec.memory_hint.unwrap_or_default();
        let device = gpu.map_or(DeviceName::Cpu, Gpu::device_name);
        let known = learned.memory.as_ref();
        let peak = known
            .filter(|known| known.is_of(spec, &device))
            .map(|known| known.peak);
        let of = |hinted: u64, held: fn(&Bytes) -> u64| {
            let hinted = Some(hinted).filter(|bytes| *bytes > 0);
            hinted.or_else(|| peak.as_ref().map(held).filter(|bytes| *bytes > 0))
        };
        (
            of(hint.host_bytes, |held| held.host_bytes),
            of(hint.device_bytes, |held| held.device_bytes),
        )
    }

    /// What a model of `spec` needs on `gpu`, or on the CPU: what is known, else what the `inspection` of its files says.
    pub(in crate::lifecycle) fn need(
        &self,
        spec: &Spec,
        learned: &LearnedFacts,
        gpu: Option<Gpu>,
        inspection: &Inspection,
    ) -> MemoryNeed {
        let (host, device) = self.known_need(spec, learned, gpu.as_ref());
        let device = device.unwrap_or(inspection.need_device_bytes);
        MemoryNeed {
            host: host.unwrap_or(inspection.need_host_bytes),
            device: gpu.map(|gpu| (gpu, device)),
        }
    }

    /// Whether the model of `entry` can be loaded without evicting anything, as far as its need is known.
    pub(in crate::lifecycle) fn fits(&self, entry: &CatalogEntry) -> bool {
        let spec = &entry.spec;
        let requested = spec.requested_device();
        let gpu = self.devices.likely(&requested, &self.memory);
        let (host, device) = self.known_need(spec, &entry.learned, gpu.as_ref());
        self.memory.fits(&MemoryNeed {
            host: host.unwrap_or_default(),
            device: gpu.zip(device),
        })
    }

    /// The program that hosts a model on `gpu`, and sees that device only.
    pub(in crate::lifecycle) fn cuda_program(&self, gpu: &Gpu) -> WorkerProgram {
        WorkerProgram {
            path: self.devices.worker().to_path_buf(),
            environment: vec![
                ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
                ("CUDA_VISIBLE_DEVICES", gpu.uuid.to_string()),
            ],
        }
    }

    /// The processes of all workers.
    pub(in crate::lifecycle) fn worker_pids(&self) -> Vec<u32> {
        let models = self.models();
        models
            .values()
            .filter_map(|model| model.status().worker_pid)
            .collect()
    }
}
