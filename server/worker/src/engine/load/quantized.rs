//! Weights that are quantized when they are loaded, or were before.
//!
//! The engine can write prepared weights only while it loads. So they are written there, into a draft,
//! which becomes an entry after the load; and whatever goes wrong with drafts and entries, the weights are
//! quantized anew in the end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mistralrs::{
    TokenSource,
    core::{DeviceMapSetting, Loader, NormalSpecificConfig},
};

use super::{
    engine_files::EngineFiles,
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

/// Loads the weights in these files, or what was prepared of them.
pub(super) fn load(
    files: &DirectoryFiles,
    engine_files: &EngineFiles,
    target: &LoadTarget,
    in_situ: &InSituQuantization,
) -> Result<LoadedPipeline, Failure> {
    match &in_situ.prepared {
        Prepared::NotAsked | Prepared::Useless(_) => {
            quantize(files, engine_files, target, in_situ, None)
        }
        Prepared::Miss(location) => quantize(files, engine_files, target, in_situ, Some(location)),
        Prepared::Hit(entry) => {
            if let Some(model) = load_entry(files, engine_files, target, entry) {
                return Ok(LoadedPipeline {
                    model,
                    prepared: true,
                    draft: None,
                });
            }
            quantize(files, engine_files, target, in_situ, Some(entry.location()))
        }
    }
}

/// Loads what was prepared. `None` when it cannot be used.
fn load_entry(
    files: &DirectoryFiles,
    engine_files: &EngineFiles,
    target: &LoadTarget,
    entry: &PreparedEntry,
) -> Option<SharedPipeline> {
    if let Err(why) = entry.verify_once() {
        tracing::warn!(why, "prepared weights are damaged and are replaced");
        return None;
    }
    let load = AssertUnwindSafe(|| read(files, engine_files, target, entry));
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
    files: &DirectoryFiles,
    engine_files: &EngineFiles,
    target: &LoadTarget,
    entry: &PreparedEntry,
) -> Result<SharedPipeline, Failure> {
    let config = NormalSpecificConfig {
        from_uqff: Some(entry.quantized().collect()),
        ..NormalSpecificConfig::default()
    };
    let directory = entry.directory();
    if !directory.is_dir() {
        return Err(Failure::internal("the entry is gone"));
    }
    let loader = directory_loader(&directory, config, Some(&engine_files.tokenizer), &[])?;
    set_uqff_names(&*loader, target)?;
    let mut paths = directory_paths(files, engine_files)?;
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
    files: &DirectoryFiles,
    engine_files: &EngineFiles,
    target: &LoadTarget,
    in_situ: &InSituQuantization,
    location: Option<&EntryLocation>,
) -> Result<LoadedPipeline, Failure> {
    let draft = location.and_then(|location| begin(location, in_situ.bytes));
    let load = |draft: Option<&EntryDraft>| {
        let config = NormalSpecificConfig {
            write_uqff: draft.map(EntryDraft::path),
            ..NormalSpecificConfig::default()
        };
        let loader = directory_loader(&files.directory, config, None, &files.adapters)?;
        let to = Some(in_situ.to.engine());
        load_paths(&*loader, directory_paths(files, engine_files)?, target, to)
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
