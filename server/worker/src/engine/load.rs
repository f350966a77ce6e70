//! Builds the engine from inspected files.
//!
//! Building blocks its thread and panics on some faults, so it has a thread of its own. The core's loaders
//! are used with the files that were inspected: the SDK's would look for files by themselves, and on the
//! network where they find none.

mod adapters;
mod embedding;
mod handed;
mod multimodal;
mod quantized;
mod target;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use hangar_client::v1::{ModelKind, ModelMetadata};
use mistralrs::core::{
    AdapterPaths, ChatTemplate, DeviceMapSetting, GGUFLoaderBuilder, GGUFSpecificConfig, IsqType,
    Loader, LocalModelPaths, MistralRs, MistralRsBuilder, ModelGenerationDefaults, ModelPaths,
    NormalLoaderBuilder, NormalSpecificConfig, Pipeline, SchedulerConfig,
};
use tokenizers::Tokenizer;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use self::handed::Handed;
use self::target::Target;
use crate::device::memory::Sampler;
use crate::engine::Engine;
use crate::engine::chat::Chat;
use crate::engine::embed::Embedder;
use crate::engine::scheduler::Scheduler;
use crate::engine::vocabulary::Vocabulary;
use crate::failure::{Failure, panic_message};
use crate::grammar::Grammars;
use crate::inspect::kv_cache::tokens_in;
use crate::inspect::{Adapter, DirectoryFiles, Files, Inspection};
use crate::prepared::Draft;
use crate::stats::Stats;

/// Stack of the thread that loads.
const STACK: usize = 16 << 20;

/// The engine's model as it was loaded, before its engine runs.
type Loaded = Arc<tokio::sync::Mutex<dyn Pipeline + Send + Sync>>;

/// A model whose engine runs.
pub(crate) struct Built {
    /// The engine.
    pub(crate) engine: Engine,
    /// All that is known about the model.
    pub(crate) metadata: ModelMetadata,
    /// Prepared weights that were written on the way and are not an entry yet.
    pub(crate) draft: Option<Draft>,
    /// Looks at the device's memory until the load ends.
    pub(crate) sampler: Option<Sampler>,
}

/// What the engine has loaded, and where it had it from.
struct Weights {
    model: Loaded,
    /// They were read prepared.
    prepared: bool,
    draft: Option<Draft>,
}

/// What the loaded model says about itself.
struct Facts {
    vocabulary: Vocabulary,
    context_length: usize,
    defaults: Option<ModelGenerationDefaults>,
}

/// Builds the engine, on a thread of its own, and gives what is known about the model then.
pub(crate) async fn load(inspection: Inspection, stats: Arc<Stats>) -> Result<Built, Failure> {
    let (done, built) = oneshot::channel();
    std::thread::Builder::new()
        .name("load".into())
        .stack_size(STACK)
        .spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| build(&inspection, stats)));
            // Nobody waits any more only when the process is about to end.
            let _ = done.send(result.unwrap_or_else(|panic| Err(refused(&panic_message(&*panic)))));
        })
        .map_err(|e| Failure::internal(format!("no thread could be started: {e}")))?;
    built
        .await
        .unwrap_or_else(|_| Err(Failure::internal("the thread that loads ended by itself")))
}

fn build(inspection: &Inspection, stats: Arc<Stats>) -> Result<Built, Failure> {
    let target = Target::open(inspection)?;
    let sampler = Sampler::start(&target.device, &stats)?;
    let handed = Handed::of(inspection)?;
    let Weights {
        model: loaded,
        prepared,
        draft,
    } = match (&inspection.files, &inspection.quantization) {
        (Files::Directory(files), quantization) if let Some(model) = &inspection.multimodal => {
            let to = quantization.as_ref().map(|in_situ| in_situ.to.engine());
            multimodal::load(files, &handed, model, &target, to)?.into()
        }
        (Files::Directory(files), quantization) if inspection.is_loaded_as_multimodal() => {
            let to = quantization.as_ref().map(|in_situ| in_situ.to.engine());
            multimodal::load_text(files, &handed, &target, to)?.into()
        }
        (Files::Directory(files), Some(in_situ)) => {
            quantized::load(files, &handed, &target, in_situ)?
        }
        (Files::Directory(files), None) => load_directory(files, &handed, &target)?.into(),
        (Files::Gguf(file), _) => load_gguf(file, &handed, &target)?.into(),
    };
    let concurrency = inspection.placement.concurrency;
    let (config, blocks) = target::scheduler(&loaded, concurrency)?;
    let facts = Facts::of(&loaded, inspection, blocks)?;
    stats.set_kv_blocks(blocks.unwrap_or(0));
    let metadata = ModelMetadata {
        context_length: u32::try_from(facts.context_length).unwrap_or(u32::MAX),
        vocabulary_size: facts.vocabulary.size(),
        prepared,
        ..inspection.metadata.clone()
    };
    let runner = start(loaded, config)?;
    let sender = runner
        .get_sender(None)
        .map_err(|e| Failure::internal(format!("the engine did not start: {e}")))?;
    let embedder = Embedder::of(inspection);
    let language = &inspection.language;
    let own: Option<ChatTemplate> = serde_json::from_value(language.chat.clone().into()).ok();
    let chat = match inspection.chat_template() {
        Some(template) => Chat::of(own.as_ref(), template),
        None => Err("the model has no chat template".into()),
    };
    if let Err(why) = &chat
        && !inspection.chat_template.is_empty()
        && embedder.is_none()
    {
        return Err(Failure::unusable(format!(
            "The spec's chat template cannot be used: {why}. Correct chat_template or leave it out."
        )));
    }
    if let Err(why) = &chat
        && embedder.is_none()
    {
        tracing::warn!(why, "the model takes no messages");
    }
    let engine = Engine {
        runner: Mutex::new(Some(runner)),
        sender,
        grammars: Grammars::new(facts.vocabulary.clone()),
        vocabulary: facts.vocabulary,
        chat,
        embedder,
        context_length: facts.context_length,
        end_tokens: language.ends.as_slice().into(),
        engine_end: language.engine_end,
        begins_chats: language.begins_chats,
        limits: inspection.limits,
        generation_defaults: facts.defaults,
        images: inspection
            .multimodal
            .as_ref()
            .map(|model| model.images.clone()),
        stats,
        scheduler: Scheduler::new(concurrency, blocks),
        next_request: AtomicUsize::new(1),
        requests: TaskTracker::new(),
    };
    Ok(Built {
        engine,
        metadata,
        draft,
        sampler,
    })
}

fn load_directory(
    files: &DirectoryFiles,
    handed: &Handed,
    target: &Target,
) -> Result<Loaded, Failure> {
    if let Some(modules) = &files.modules {
        return embedding::load(files, handed, modules, target);
    }
    let config = NormalSpecificConfig::default();
    let loader = directory_loader(&files.directory, config, None, &files.adapters)?;
    load_paths(&*loader, directory_paths(files, handed)?, target, None)
}

fn directory_loader(
    directory: &Path,
    config: NormalSpecificConfig,
    tokenizer: Option<&Path>,
    adapters: &[Adapter],
) -> Result<Box<dyn Loader>, Failure> {
    let name = directory.to_string_lossy().into_owned();
    let tokenizer = tokenizer.map(|path| path.to_string_lossy().into_owned());
    let mut builder = NormalLoaderBuilder::new(config, None, tokenizer, Some(name), false, None);
    if !adapters.is_empty() {
        builder = builder.with_lora(adapters::names(adapters));
    }
    builder
        // Nothing is looked for there, but without it the engine chooses a directory by itself.
        .hf_cache_path(directory.to_owned())
        .build(None)
        .map_err(|e| refused(&format!("{e:#}")))
}

fn directory_paths(
    files: &DirectoryFiles,
    handed: &Handed,
) -> Result<LocalModelPaths<PathBuf>, Failure> {
    Ok(LocalModelPaths {
        tokenizer_filename: handed.tokenizer.clone(),
        config_filename: handed.config.clone(),
        template_filename: None,
        filenames: files.weights.clone(),
        adapter_paths: adapters::paths(&files.adapters)?,
        gen_conf: Some(handed.generation.clone()),
        preprocessor_config: None,
        processor_config: None,
        chat_template_json_filename: None,
    })
}

fn load_gguf(file: &Path, handed: &Handed, target: &Target) -> Result<Loaded, Failure> {
    let directory = file.parent().unwrap_or(file).to_string_lossy().into_owned();
    let name = file.to_string_lossy().into_owned();
    let config = GGUFSpecificConfig::default();
    let loader =
        GGUFLoaderBuilder::new(None, None, directory, vec![name], config, false, None).build();
    let paths = LocalModelPaths {
        tokenizer_filename: handed.tokenizer.clone(),
        config_filename: PathBuf::new(),
        template_filename: None,
        filenames: vec![file.to_owned()],
        adapter_paths: AdapterPaths::None,
        gen_conf: Some(handed.generation.clone()),
        preprocessor_config: None,
        processor_config: None,
        chat_template_json_filename: None,
    };
    load_paths(&*loader, paths, target, None)
}

fn load_paths(
    loader: &dyn Loader,
    paths: impl ModelPaths + 'static,
    target: &Target,
    quantization: Option<IsqType>,
) -> Result<Loaded, Failure> {
    let paths: Box<dyn ModelPaths> = Box::new(paths);
    loader
        .load_model_from_path(
            &paths,
            &target.dtype,
            &target.device,
            true,
            // All on this device: what does not fit there fails, and is not computed elsewhere.
            DeviceMapSetting::dummy(),
            quantization,
            target.paged,
        )
        .map_err(|e| refused(&format!("{e:#}")))
}

/// Starts the engine. The SDK's own trial run is left out (it needs a runtime of several threads, and
/// passes where real requests fail): the caller warms the engine up.
fn start(loaded: Loaded, scheduler: SchedulerConfig) -> Result<Arc<MistralRs>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::internal(format!("no runtime could be started: {e}")))?;
    // The prefix cache is never emptied on a CPU, and makes an answer depend on earlier ones everywhere.
    let builder = MistralRsBuilder::new(loaded, scheduler, false, None)
        .with_no_prefix_cache(true)
        .with_prefix_cache_n(0);
    Ok(runtime.block_on(builder.build()))
}

impl From<Loaded> for Weights {
    fn from(model: Loaded) -> Self {
        Self {
            model,
            prepared: false,
            draft: None,
        }
    }
}

impl Facts {
    fn of(loaded: &Loaded, inspection: &Inspection, blocks: Option<u32>) -> Result<Self, Failure> {
        let pipeline = loaded
            .try_lock()
            .map_err(|_| Failure::internal("the loaded model is in use"))?;
        let metadata = pipeline.get_metadata();
        let bytes = metadata.tok_env();
        let complete = bytes.is_some() || inspection.kind == ModelKind::Embedding;
        let Some(tokenizer) = pipeline.tokenizer().filter(|_| complete) else {
            return Err(Failure::unusable(
                "The model has no tokenizer. Add the tokenizer.json that belongs to it.",
            ));
        };
        // The engine adds the tokens that stand for images to that of a model that takes none.
        let tokenizer = match inspection.is_loaded_as_multimodal() {
            true => Tokenizer::from_bytes(&inspection.language.tokenizer)
                .map(Arc::new)
                .map_err(|e| refused(&e.to_string()))?,
            false => tokenizer,
        };
        let fits = blocks.map_or(usize::MAX, |blocks| tokens_in(blocks.into()) as usize);
        let allowed = metadata.max_seq_len.min(fits);
        let asked = inspection.context_length.map(|length| length as usize);
        Ok(Self {
            vocabulary: Vocabulary::new(tokenizer, bytes, inspection.vocabulary_size),
            context_length: asked.unwrap_or(allowed).min(allowed),
            defaults: pipeline.generation_defaults(),
        })
    }
}

fn refused(why: &str) -> Failure {
    let why = why.trim().trim_end_matches('.');
    if is_out_of_memory(why) {
        return Failure::memory(format!(
            "The GPU's memory is not enough to load the model: {why}. Unload other models from it, or give \
             this one a smaller kv_cache or context_length, or a quantization."
        ));
    }
    Failure::unusable(format!(
        "The engine cannot load the model: {why}. Check that config.json, tokenizer and weights belong \
         together and are complete."
    ))
}

/// Whether the engine's words are those of CUDA about memory that is not there.
pub(crate) fn is_out_of_memory(why: &str) -> bool {
    [
        "OUT_OF_MEMORY",
        "out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
    ]
    .iter()
    .any(|words| why.contains(words))
}
