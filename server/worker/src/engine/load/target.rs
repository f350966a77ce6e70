//! What the engine's loaders get of the device.

use candle_core::Device;
use hangar_client::v1::DataType;
use mistralrs::core::{MemoryGpuConfig, ModelDType, PagedAttentionConfig, PagedCacheType};

use crate::{
    failure::Failure,
    inspect::{Inspection, KvPlan},
    kv_blocks::BLOCK,
};

/// Where and in what a model is loaded.
pub(super) struct LoadTarget {
    /// The device.
    pub(super) device: Device,
    /// Type of the numbers.
    pub(super) dtype: ModelDType,
    /// The KV cache, if it is taken as a whole.
    pub(super) paged: Option<PagedAttentionConfig>,
}

impl LoadTarget {
    /// The target of a model that was inspected. Opens its device.
    pub(super) fn open(inspection: &Inspection) -> Result<Self, Failure> {
        let device_plan = &inspection.device_plan;
        let paged = device_plan.kv_cache.as_ref().map(paged).transpose()?;
        Ok(Self {
            device: device_plan.device.open()?,
            dtype: model_dtype(inspection.dtype),
            paged,
        })
    }
}

fn paged(plan: &KvPlan) -> Result<PagedAttentionConfig, Failure> {
    let mib = usize::try_from(plan.mib).unwrap_or(usize::MAX);
    PagedAttentionConfig::new(
        Some(BLOCK as usize),
        MemoryGpuConfig::MbAmount(mib),
        PagedCacheType::Auto,
    )
    .map_err(|e| Failure::internal(format!("no KV cache could be planned: {e:#}")))
}

/// The data type in the engine's terms; always an explicit one, since the engine's own choice probes for
/// accelerators.
fn model_dtype(dtype: DataType) -> ModelDType {
    match dtype {
        DataType::F32 => ModelDType::F32,
        DataType::Bf16 => ModelDType::BF16,
        DataType::F16 | DataType::Unspecified => ModelDType::F16,
    }
}
