//! Weights that are quantized when they are loaded, or were before.
//!
//! The engine can write prepared weights only while it loads. So they are written there, into a draft,
//! which becomes an entry after the load; and whatever goes wrong with drafts and entries, the weights are
//! quantized anew in the end.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use mistralrs::{
    TokenSource,
    core::{
        DeviceMapSetting, IsqType, Loader, LocalModelPaths, MultimodalSpecificConfig,
        NormalSpecificConfig,
    },
};

use super::{
    engine_files::EngineFiles,
    multimodal,
    pipeline::{
        LoadedPipeline, SharedPipeline, directory_loader, directory_paths, load_paths, refused,
    },
    target::LoadTarget,
};
use crate::{
    failure::{Failure, panic_message},
    inspect::{DirectoryFiles, InSituQuantization},
    prepared::{EntryDraft, EntryLocation, Prepared, PreparedEntry},
};

/// A text model's files, and which of the engine's loaders takes them.
#[derive(Clone, Copy)]
pub(super) struct TextSource<'a> {
    pub(super) files: &'a DirectoryFiles,
    pub(super) engine_files: &'a EngineFiles,
    /// It is among those of multimodal models.
    pub(super) among_multimodal: bool,
}

/// Loads the weights of this model, or what was prepared of them.
pub(super) fn load(
    source: TextSource<'_>,
    target: &LoadTarget,
    in_situ: &InSituQuantization,
) -> Result<LoadedPipeline, Failure> {
    match &in_situ.prepared {
        Prepared::NotAsked | Prepared::Useless(_) => quantize(source, target, in_situ, None),
        Prepared::Miss(location) => quantize(source, target, in_situ, Some(location)),
        Prepared::Hit(entry) => {
            if let Some(model) = load_entry(source, target, entry) {
                return Ok(LoadedPipeline {
                    model,
                    prepared: true,
                    draft: None,
                });
            }
            quantize(source, target, in_situ, Some(entry.location()))
        }
    }
}

/// Loads what was prepared. `None` when it cannot be used.
fn load_entry(
    source: TextSource<'_>,
    target: &LoadTarget,
    entry: &PreparedEntry,
) -> Option<SharedPipeline> {
    if let Err(why) = entry.verify_once() {
        tracing::warn!(why, "prepared weights are damaged and are replaced");
        return None;
    }
    let load = AssertUnwindSafe(|| read(source, target, entry));
    let why = match catch_unwind(load) {
        Ok(Ok(model)) => return Some(model),
        Ok(Err(failure)) => failure.message,
        Err(panic) => panic_message(&*panic),
    };
    // Read intact and yet not to be loaded: it would be no better the next time.
    if entry.verify().is_ok() {
        tracing::warn!(
            why,
            "the engine cannot load what it has written of this model"
        );
        if let Err(error) = entry.mark_useless() {
            tracing::warn!(%error, "that could not be noted");
        }
    } else {
        tracing::warn!(why, "prepared weights cannot be loaded and are replaced");
    }
    None
}

fn read(
    source: TextSource<'_>,
    target: &LoadTarget,
    entry: &PreparedEntry,
) -> Result<SharedPipeline, Failure> {
    let directory = entry.directory();
    if !directory.is_dir() {
        return Err(Failure::internal("the entry is gone"));
    }
    let loader = source.loader_of(&directory, entry.quantized().collect())?;
    set_uqff_names(&*loader, target)?;
    let mut paths = source.paths()?;
    paths.filenames = entry.residual().into_iter().collect();
    load_paths(&*loader, paths, target, None)
}

/// Gives the loader the names of its quantized files, which it takes only when it is asked to find a model's files by
/// itself. The entry's directory is a local one, so that it finds them there and asks no hub; then it reads config.json,
/// which is empty, and gives up, which is as far as it has to get.
fn set_uqff_names(loader: &dyn Loader, target: &LoadTarget) -> Result<(), Failure> {
    let given_up = loader.load_model_from_hf(
        None,
        TokenSource::None,
        &target.dtype,
        &target.device,
        true,
        DeviceMapSetting::dummy(),
        None,
        None,
    );
    match given_up {
        Err(error) if error.is::<serde_json::Error>() => Ok(()),
        Err(error) => Err(Failure::internal(format!("{error:#}"))),
        Ok(_) => Err(Failure::internal("the entry holds a whole model")),
    }
}

/// Quantizes the weights and writes them for later loads, where that is worth it.
fn quantize(
    source: TextSource<'_>,
    target: &LoadTarget,
    in_situ: &InSituQuantization,
    location: Option<&EntryLocation>,
) -> Result<LoadedPipeline, Failure> {
    let draft = location.and_then(|location| begin(location, in_situ.bytes));
    let load = |draft: Option<&EntryDraft>| {
        let to = in_situ.to.engine();
        let loader = source.quantizer(to, draft.map(EntryDraft::path))?;
        load_paths(&*loader, source.paths()?, target, Some(to))
    };
    let Some(draft) = draft else {
        return load(None).map(LoadedPipeline::from);
    };
    let loaded = catch_unwind(AssertUnwindSafe(|| load(Some(&draft))));
    let failure = match loaded.unwrap_or_else(|panic| Err(refused(&panic_message(&*panic)))) {
        Ok(model) => {
            return Ok(LoadedPipeline {
                model,
                prepared: false,
                draft: Some(draft),
            });
        }
        Err(failure) => failure,
    };
    let began_to_write = !draft.is_empty();
    draft.discard();
    if !began_to_write {
        return Err(failure);
    }
    let why = failure.message;
    tracing::warn!(
        why,
        "prepared weights could not be written; loading again without that"
    );
    load(None).map(LoadedPipeline::from)
}

fn begin(location: &EntryLocation, bytes: u64) -> Option<EntryDraft> {
    EntryDraft::begin(location, bytes)
        .inspect_err(|error| tracing::warn!(%error, "prepared weights are not written"))
        .ok()
}

impl TextSource<'_> {
    /// The loader of an entry, with these files of quantized weights.
    fn loader_of(&self, entry: &Path, quantized: Vec<PathBuf>) -> Result<Box<dyn Loader>, Failure> {
        let from_uqff = Some(quantized);
        let tokenizer = Some(self.engine_files.tokenizer.as_path());
        if self.among_multimodal {
            let config = MultimodalSpecificConfig {
                from_uqff,
                ..MultimodalSpecificConfig::default()
            };
            return Ok(multimodal::text_loader(entry, config, tokenizer));
        }
        let config = NormalSpecificConfig {
            from_uqff,
            ..NormalSpecificConfig::default()
        };
        directory_loader(entry, config, tokenizer, &[])
    }

    /// The loader that quantizes to that, and writes what comes of it there.
    fn quantizer(
        &self,
        to: IsqType,
        write_uqff: Option<PathBuf>,
    ) -> Result<Box<dyn Loader>, Failure> {
        let directory = &self.files.directory;
        if self.among_multimodal {
            let config = MultimodalSpecificConfig {
                write_uqff,
                topology: Some(multimodal::text_topology(to)?),
                ..MultimodalSpecificConfig::default()
            };
            return Ok(multimodal::text_loader(directory, config, None));
        }
        let config = NormalSpecificConfig {
            write_uqff,
            ..NormalSpecificConfig::default()
        };
        directory_loader(directory, config, None, &self.files.adapters)
    }

    fn paths(&self) -> Result<LocalModelPaths<PathBuf>, Failure> {
        directory_paths(self.files, self.engine_files)
    }
}
