//! Builds the engine from inspected files.
//!
//! Building blocks its thread and panics on some faults, so it has a thread of its own. The core's loaders
//! are used with the files that were inspected: the SDK's would look for files by themselves, and on the
//! network where they find none.

mod adapters;
mod embedding;
mod engine_files;
mod multimodal;
mod pipeline;
mod plain;
mod quantized;
mod target;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, atomic::AtomicUsize},
};

use hangar_client::v1::{ModelKind, ModelMetadata};
use mistralrs::core::{MistralRs, MistralRsBuilder, ModelGenerationDefaults, SchedulerConfig};
use tokenizers::Tokenizer;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use self::{
    engine_files::EngineFiles,
    pipeline::{LoadedPipeline, SharedPipeline, refused},
    quantized::TextSource,
    target::LoadTarget,
};
use crate::{
    call_work::CallWork,
    device::memory::MemorySampler,
    engine::{
        Engine, chat::ChatTemplate, embedder::Embedder, reasoning::ReasoningFormat,
        scheduler::Scheduler, sequence_memory::SequenceMemory,
    },
    failure::{Failure, panic_message},
    grammar::Grammars,
    inspect::{Files, Inspection},
    kv_blocks::tokens_in,
    prepared::EntryDraft,
    stats::Stats,
    vocabulary::Vocabulary,
};

/// Stack of the thread that loads.
const STACK: usize = 16 << 20;

/// How often the engine is started that finds its pipeline locked.
const START_ATTEMPTS: usize = 5;

/// The error of a lock that is taken, as a panic of its `unwrap` has it.
const LOCKED: &str = "TryLockError";

/// A model whose engine runs.
pub(crate) struct LoadedModel {
    /// The engine.
    pub(crate) engine: Engine,
    /// All that is known about the model.
    pub(crate) metadata: ModelMetadata,
    /// Prepared weights that were written on the way and are not an entry yet.
    pub(crate) draft: Option<EntryDraft>,
    /// Looks at the device's memory until the load ends.
    pub(crate) sampler: Option<MemorySampler>,
}

/// What the loaded model says about itself.
struct PipelineFacts {
    vocabulary: Vocabulary,
    context_length: usize,
    /// A token that ends an answer, and by which the engine lets a sequence end.
    end_token: Option<u32>,
    defaults: Option<ModelGenerationDefaults>,
}

/// Builds the engine, on a thread of its own, and gives what is known about the model then.
pub(crate) async fn load(
    inspection: Inspection,
    stats: Arc<Stats>,
) -> Result<LoadedModel, Failure> {
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

fn build(inspection: &Inspection, stats: Arc<Stats>) -> Result<LoadedModel, Failure> {
    let target = LoadTarget::open(inspection)?;
    let sampler = MemorySampler::start(&target.device, &stats)?;
    let engine_files = EngineFiles::of(inspection)?;
    let LoadedPipeline {
        model,
        prepared,
        draft,
    } = load_weights(inspection, &engine_files, &target)?;
    let concurrency = inspection.device_plan.concurrency;
    let (config, blocks) = pipeline::scheduler(&model, concurrency)?;
    let facts = PipelineFacts::of(&model, inspection, blocks)?;
    stats.set_kv_blocks(blocks.unwrap_or(0));
    let metadata = ModelMetadata {
        context_length: u32::try_from(facts.context_length).unwrap_or(u32::MAX),
        vocabulary_size: facts.vocabulary.size(),
        prepared,
        ..inspection.metadata.clone()
    };
    let runner = start(model, config)?;
    let scheduler = Scheduler::new(concurrency, blocks);
    let engine = facts.engine(inspection, runner, scheduler, stats)?;
    Ok(LoadedModel {
        metadata: ModelMetadata {
            conversation: Some(engine.support()),
            ..metadata
        },
        engine,
        draft,
        sampler,
    })
}

/// Loads the weights of an inspected model.
fn load_weights(
    inspection: &Inspection,
    engine_files: &EngineFiles,
    target: &LoadTarget,
) -> Result<LoadedPipeline, Failure> {
    let quantization = inspection.quantization.as_ref();
    let among_multimodal = inspection.is_loaded_as_multimodal();
    Ok(match (&inspection.files, quantization) {
        (Files::Directory(files), _) if let Some(model) = &inspection.multimodal => {
            let to = quantization.map(|in_situ| in_situ.to.engine());
            multimodal::load(files, engine_files, model, target, to)?.into()
        }
        (Files::Directory(files), Some(in_situ)) => {
            let source = TextSource {
                files,
                engine_files,
                among_multimodal,
            };
            quantized::load(source, target, in_situ)?
        }
        (Files::Directory(files), None) if among_multimodal => {
            multimodal::load_text(files, engine_files, target)?.into()
        }
        (Files::Directory(files), None) => {
            plain::load_directory(files, engine_files, target)?.into()
        }
        (Files::Gguf(file), _) => plain::load_gguf(file, engine_files, target)?.into(),
    })
}

/// How conversations are put into the model's chat template, or why they cannot be. An embedding model needs none.
fn chat(
    inspection: &Inspection,
    is_embedding: bool,
) -> Result<Result<ChatTemplate, String>, Failure> {
    let special = &inspection.text_settings.special;
    let chat = ChatTemplate::of(inspection.templates(), special, &inspection.chat_template);
    if let Err(why) = &chat
        && !is_embedding
    {
        if !inspection.chat_template.is_empty() {
            return Err(Failure::unusable(format!(
                "The spec's chat template cannot be used: {why}. Correct chat_template or leave it out."
            )));
        }
        tracing::warn!(why, "the model takes no messages");
    }
    Ok(chat)
}

/// Starts the engine. The SDK's own trial run is left out (it needs a runtime of several threads, and
/// passes where real requests fail): the caller warms the engine up.
fn start(loaded: SharedPipeline, scheduler: SchedulerConfig) -> Result<Arc<MistralRs>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::internal(format!("no runtime could be started: {e}")))?;
    Ok(unless_locked(|| {
        // The prefix cache is never emptied on a CPU, and makes an answer depend on earlier ones everywhere.
        let builder = MistralRsBuilder::new(loaded.clone(), scheduler.clone(), false, None)
            .with_no_prefix_cache(true)
            .with_prefix_cache_n(0)
            // Each request says what ends it: tokens of a prompt that the engine gets one by one do not.
            .with_disable_eos_stop(true);
        runtime.block_on(builder.build())
    }))
}

/// What `start` gives, which is tried again when it panics because the pipeline is locked: the engine's thread, which it has
/// started, looks at that for a moment, and `start` does not wait. A thread that is left so waits for requests that never come.
///
/// # Panics
///
/// As `start` does, for any other reason or time and again.
fn unless_locked<T>(start: impl Fn() -> T) -> T {
    for _ in 1..START_ATTEMPTS {
        match catch_unwind(AssertUnwindSafe(&start)) {
            Ok(started) => return started,
            Err(panic) if panic_message(&*panic).contains(LOCKED) => {
                tracing::warn!(
                    "the engine found its pipeline locked as it started; it is started again"
                );
            }
            Err(panic) => resume_unwind(panic),
        }
    }
    start()
}

impl PipelineFacts {
    /// The engine of a model that `runner` runs.
    fn engine(
        self,
        inspection: &Inspection,
        runner: Arc<MistralRs>,
        scheduler: Scheduler,
        stats: Arc<Stats>,
    ) -> Result<Engine, Failure> {
        let sender = runner
            .get_sender(None)
            .map_err(|e| Failure::internal(format!("the engine did not start: {e}")))?;
        let concurrency = inspection.device_plan.concurrency;
        let embedder = Embedder::of(inspection);
        let text_settings = &inspection.text_settings;
        let multimodal = inspection.multimodal.as_ref();
        let chat = chat(inspection, embedder.is_some())?;
        let bos_token = text_settings
            .special
            .get("bos_token")
            .and_then(|it| it.as_str());
        let format = |chat| ReasoningFormat::of(chat, &self.vocabulary);
        Ok(Engine {
            reasoning: chat.as_ref().ok().and_then(format),
            bos_token: bos_token.map(ToOwned::to_owned),
            runner: Mutex::new(Some(runner)),
            sender,
            grammars: Grammars::new(self.vocabulary.clone(), concurrency as usize),
            vocabulary: self.vocabulary,
            chat,
            embedder,
            context_by_model: self.context_length,
            eos_token_ids: text_settings.eos_token_ids.as_slice().into(),
            token_defaults: text_settings.token_defaults.clone(),
            engine_eos_token: self.end_token,
            add_bos_to_chats: text_settings.add_bos_to_chats,
            limits: inspection.limits,
            sequence_memory: SequenceMemory::new(inspection.sequence_need),
            generation_defaults: self.defaults,
            images: multimodal.and_then(|model| model.images.clone()),
            stats,
            call_work: CallWork::default(),
            scheduler,
            next_request: AtomicUsize::new(1),
            requests: TaskTracker::new(),
        })
    }

    fn of(
        loaded: &SharedPipeline,
        inspection: &Inspection,
        blocks: Option<u32>,
    ) -> Result<Self, Failure> {
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
            true => Tokenizer::from_bytes(&inspection.text_settings.tokenizer)
                .map(Arc::new)
                .map_err(|e| refused(&e.to_string()))?,
            false => tokenizer,
        };
        let fits = blocks.map_or(usize::MAX, |blocks| tokens_in(blocks.into()) as usize);
        let allowed = metadata.max_seq_len.min(fits);
        let asked = inspection.context_length.map(|length| length as usize);
        // The engine refuses those that others begin with.
        let begins_others = |token: &u32| {
            bytes.as_ref().is_some_and(|bytes| {
                let trie = bytes.tok_trie();
                trie.has_extensions(trie.token(*token))
            })
        };
        let end_token = inspection.text_settings.engine_eos_token;
        Ok(Self {
            end_token: end_token.filter(|token| !begins_others(token)),
            vocabulary: Vocabulary::new(tokenizer, bytes, inspection.vocabulary_size),
            context_length: asked.unwrap_or(allowed).min(allowed),
            defaults: pipeline.generation_defaults(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::Mutex as AsyncMutex;

    use super::*;

    #[bounded::test]
    fn a_start_that_finds_the_pipeline_locked_is_tried_again() {
        let pipeline = AsyncMutex::new(());
        let held = Cell::new(pipeline.try_lock().ok());
        let started = unless_locked(|| {
            // As the engine's thread lets go of it.
            let _held = held.take();
            drop(pipeline.try_lock().unwrap());
            1
        });
        assert_eq!(started, 1);
    }

    #[bounded::test]
    fn what_goes_wrong_otherwise_is_not_tried_again() {
        let tries = Cell::new(0);
        let start = || -> u32 {
            tries.set(tries.get() + 1);
            panic!("otherwise");
        };
        let ended = catch_unwind(AssertUnwindSafe(|| unless_locked(start)));
        assert!(ended.is_err());
        assert_eq!(tries.get(), 1);

        let always = || -> u32 {
            tries.set(tries.get() + 1);
            panic!("{LOCKED}");
        };
        tries.set(0);
        let ended = catch_unwind(AssertUnwindSafe(|| unless_locked(always)));
        assert!(ended.is_err());
        assert_eq!(tries.get(), START_ATTEMPTS);
    }
}
