//! Which files models may be loaded from.

mod presence;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::file_system::{FileSystems, FsAccess, TimeLimit, Unresponsive};
use crate::{
    download::Repositories,
    model::{Adapter, Failure, HubRepository, HubSource, Reason, Source, Spec},
};

/// Directories that models may be loaded from, with all links resolved, and repositories of the hub.
#[derive(Clone, Debug, Default)]
pub struct ModelRoots {
    directories: Vec<PathBuf>,
    repositories: Repositories,
    file_systems: FileSystems,
}

/// Where a model that may be loaded has its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelLocation {
    /// In the worker.
    Demo,
    /// At this path, in which all links are resolved.
    Path(PathBuf),
    /// On the hub, from which they have to be downloaded.
    Hub,
}

/// A source that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It lies outside the roots, or leaves them by a link, be it one in the model's directory.
    #[error(
        "{path} is not below one of the server's model roots ({roots}); move the model there or start the server \
         with another --model-root"
    )]
    NotAllowed {
        /// The path as it was given.
        path: String,
        /// The roots.
        roots: String,
    },
    /// It is a repository of the hub that may not be loaded.
    #[error(
        "the repository {repository} may not be loaded; those that may are: {allowed}; start the server with \
         --hub-repositories {repository}, with a pattern such as 'Qwen/*', or with '*' for all"
    )]
    RepositoryNotAllowed {
        /// The repository.
        repository: HubRepository,
        /// The patterns of those that are allowed.
        allowed: String,
    },
    /// It is not there, or cannot be looked at.
    #[error("{path} cannot be used: {source}; check the path and its permissions")]
    Unreadable {
        /// The path as it was given.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// It is there and is no model.
    #[error("{path} {what}; give a directory with a model's files, or a GGUF file")]
    NoModel {
        /// The path as it was given.
        path: String,
        /// What it is instead.
        what: &'static str,
    },
    /// Its file system does not answer.
    #[error(
        "{} does not answer: its file system was waited for {:.1} s; check that it is mounted and its server answers",
        .0.path.display(),
        .0.waited.as_secs_f64()
    )]
    Unresponsive(Unresponsive),
}

impl ModelRoots {
    /// Resolves `roots`.
    ///
    /// # Errors
    ///
    /// The first root that does not exist or is no directory.
    pub fn resolve(roots: &[PathBuf]) -> Result<Self, SourceError> {
        let resolve = |root: &PathBuf| {
            let unreadable = |source| SourceError::Unreadable {
                path: root.display().to_string(),
                source,
            };
            let resolved = root.canonicalize().map_err(unreadable)?;
            if resolved.is_dir() {
                Ok(resolved)
            } else {
                Err(unreadable(io::ErrorKind::NotADirectory.into()))
            }
        };
        let directories: Vec<_> = roots.iter().map(resolve).collect::<Result<_, _>>()?;
        let known = roots.iter().cloned().zip(directories.iter().cloned());
        Ok(Self {
            file_systems: FileSystems::of(known.map(Into::into)),
            directories,
            repositories: Repositories::default(),
        })
    }

    /// As `self`, with the repositories that may be loaded.
    #[must_use]
    pub fn with_repositories(self, repositories: Repositories) -> Self {
        Self {
            repositories,
            ..self
        }
    }

    /// The file systems that the models are on.
    pub(super) fn file_systems(&self) -> &FileSystems {
        &self.file_systems
    }

    /// Checks all paths of `spec`, within `limit`. A path that is not allowed is reported before one that is not there.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub async fn check(&self, spec: &Spec, limit: Duration) -> Result<(), SourceError> {
        self.check_paths(spec, TimeLimit::new(limit)).await
    }

    async fn check_paths(&self, spec: &Spec, limit: TimeLimit) -> Result<(), SourceError> {
        if let Source::HuggingFace(hub) = &spec.source {
            self.check_hub(hub)?;
        }
        let mut missing = None;
        for path in paths(spec) {
            let located = self
                .run_on_root(FsAccess::Validate, path, limit, Self::locate)
                .await;
            match located {
                Ok(_) => {}
                Err(error @ SourceError::Unreadable { .. }) => {
                    missing.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        missing.map_or(Ok(()), Err)
    }

    /// Where the files of `spec` are that the worker is about to read, within `limit`. In its paths of a tokenizer and of
    /// adapters all links are resolved.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub(super) async fn find(
        &self,
        spec: &Spec,
        limit: TimeLimit,
    ) -> Result<(ModelLocation, Spec), SourceError> {
        let location = match &spec.source {
            Source::Demo => ModelLocation::Demo,
            Source::Path(path) => {
                let located = self
                    .run_on_root(FsAccess::Start, path, limit, Self::locate)
                    .await;
                ModelLocation::Path(located?)
            }
            Source::HuggingFace(hub) => self.check_hub(hub).map(|()| ModelLocation::Hub)?,
        };
        let mut spec = spec.clone();
        let adapters = spec.adapters.iter_mut().filter_map(Adapter::path_mut);
        for path in spec.tokenizer.iter_mut().chain(adapters) {
            *path = self
                .run_on_root(FsAccess::Start, path, limit, Self::locate)
                .await?;
        }
        Ok((location, spec))
    }

    /// What `work` finds at `path`, on a thread of its own. Each path has its own access, so that one that hangs is held against
    /// its own root only.
    async fn run_on_root<T: Send + 'static>(
        &self,
        access: FsAccess,
        path: &Path,
        limit: TimeLimit,
        work: impl FnOnce(&Self, &Path) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let (roots, accessed) = (self.clone(), path.to_owned());
        let work = move || work(&roots, &accessed);
        let found = self.file_systems.run(access, path, limit, work).await;
        found.unwrap_or_else(|error| Err(SourceError::Unresponsive(error)))
    }

    /// Whether the repository of `hub` may be loaded.
    ///
    /// # Errors
    ///
    /// When it may not.
    pub fn check_hub(&self, hub: &HubSource) -> Result<(), SourceError> {
        if self.repositories.allow(hub.repository.as_str()) {
            return Ok(());
        }
        Err(SourceError::RepositoryNotAllowed {
            repository: hub.repository.clone(),
            allowed: self.repositories.to_string(),
        })
    }

    /// `path` with all links resolved. Blocks.
    fn locate(&self, path: &Path) -> Result<PathBuf, SourceError> {
        match fs::canonicalize(path) {
            Ok(resolved) if self.contain(&resolved) => match self.leaving_link(&resolved) {
                Some(link) => Err(self.not_allowed(&link)),
                None => Ok(resolved),
            },
            Ok(_) => Err(self.not_allowed(path)),
            // Whether something exists is said only of what lies below a root.
            Err(_) if !self.contain_parent(path) => Err(self.not_allowed(path)),
            Err(source) => Err(SourceError::Unreadable {
                path: path.display().to_string(),
                source,
            }),
        }
    }

    fn contain(&self, resolved: &Path) -> bool {
        self.directories
            .iter()
            .any(|root| resolved.starts_with(root))
    }

    /// A link in `directory`, or in a directory in it, that leads out of the roots, if there is one.
    fn leaving_link(&self, directory: &Path) -> Option<PathBuf> {
        let mut directories = vec![directory.to_path_buf()];
        while let Some(place) = directories.pop() {
            let entries = fs::read_dir(&place).into_iter().flatten();
            for entry in entries.map_while(Result::ok) {
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                // The modules of an embedding model have directories of their own, and nothing is deeper.
                if kind.is_dir() && place == directory {
                    directories.push(entry.path());
                } else if kind.is_symlink()
                    && let Ok(resolved) = fs::canonicalize(entry.path())
                    && !self.contain(&resolved)
                {
                    return Some(entry.path());
                }
            }
        }
        None
    }

    fn contain_parent(&self, path: &Path) -> bool {
        for parent in path.ancestors().skip(1) {
            if let Ok(resolved) = fs::canonicalize(parent) {
                return self.contain(&resolved);
            }
        }
        false
    }

    fn not_allowed(&self, path: &Path) -> SourceError {
        let roots: Vec<_> = self
            .directories
            .iter()
            .map(|root| root.display().to_string())
            .collect();
        let roots = if roots.is_empty() {
            "there are none".to_owned()
        } else {
            roots.join(", ")
        };
        SourceError::NotAllowed {
            path: path.display().to_string(),
            roots,
        }
    }
}

impl SourceError {
    /// Whether the source may not be used. Else there is nothing to be used yet.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::NotAllowed { .. } | Self::RepositoryNotAllowed { .. } => true,
            Self::Unreadable { .. } | Self::NoModel { .. } | Self::Unresponsive(_) => false,
        }
    }
}

/// All paths.
fn paths(spec: &Spec) -> impl Iterator<Item = &Path> {
    let source = match &spec.source {
        Source::Path(path) => Some(path.as_path()),
        Source::Demo | Source::HuggingFace(_) => None,
    };
    source.into_iter().chain(spec.auxiliary_paths())
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let reason = match &error {
            SourceError::NotAllowed { .. } | SourceError::RepositoryNotAllowed { .. } => {
                Reason::SourceNotAllowed
            }
            SourceError::Unreadable { .. } | SourceError::NoModel { .. } => Reason::ModelUnusable,
            SourceError::Unresponsive(_) => Reason::FilesUnavailable,
        };
        Self::new(reason, error.to_string())
    }
}
