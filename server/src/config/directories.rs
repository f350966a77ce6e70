//! Paths among the settings: where they are by default, and what they must fulfil.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use hangar_worker_protocol::processor::Level;
use sha2::{Digest, Sha256};

use super::ConfigError;

/// Length of a socket's path that is surely allowed; Linux ends at 108 bytes, others earlier.
const MAX_SOCKET_PATH: usize = 99;
/// Length of the longest name of a socket: `/`, 16 characters, `.sock`.
const SOCKET_NAME: usize = 1 + 16 + 5;

/// The data directory, made absolute.
pub(super) fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let default = || {
        // The XDG specification wants relative paths to be ignored.
        variable("XDG_STATE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| {
                let home = variable("HOME").filter(|path| path.is_absolute())?;
                Some(home.join(".local/state"))
            })
            .map(|state| state.join("hangar"))
    };
    let missing = "has no default because neither XDG_STATE_HOME nor HOME is set: give --data-dir";
    let path = given
        .or_else(default)
        .ok_or_else(|| ConfigError::invalid("data_dir", missing))?;
    absolute("data_dir", &path)
}

/// The runtime directory, made absolute; by default one that is short enough for sockets.
pub(super) fn runtime_dir(given: Option<PathBuf>, data_dir: &Path) -> Result<PathBuf, ConfigError> {
    let Some(given) = given else {
        let beside = data_dir.join("run");
        return Ok(if is_short(&beside) {
            beside
        } else {
            temporary(data_dir)
        });
    };
    let path = absolute("runtime_dir", &given)?;
    if is_short(&path) {
        return Ok(path);
    }
    Err(ConfigError::invalid(
        "runtime_dir",
        format!(
            "{} is too long for the path of a socket: take one of at most {} bytes",
            path.display(),
            MAX_SOCKET_PATH - SOCKET_NAME
        ),
    ))
}

/// The allowed roots, without symbolic links. Each must be a directory.
pub(super) fn model_roots(given: Vec<PathBuf>) -> Result<Vec<PathBuf>, ConfigError> {
    let mut roots = Vec::with_capacity(given.len());
    for path in given {
        let root = path
            .canonicalize()
            .and_then(|root| match root.is_dir() {
                true => Ok(root),
                false => Err(io::ErrorKind::NotADirectory.into()),
            })
            .map_err(|error| {
                ConfigError::invalid(
                    "model_root",
                    format!("{}: {error}: name a directory that exists", path.display()),
                )
            })?;
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    Ok(roots)
}

/// The worker's binary, made absolute; by default the best that the processor can run of those beside the running binary.
pub(super) fn worker(given: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = given {
        return absolute("worker", &path);
    }
    let plain = sibling_binary("worker", "hangar-worker")?;
    let best = best_worker(&plain, Level::of_this_processor());
    Ok(best.unwrap_or(plain))
}

/// The best worker beside the `plain` one for a processor of `level`: hangar-worker-x86-64-v3, for example. `None`: there is
/// none but the plain one.
fn best_worker(plain: &Path, level: Level) -> Option<PathBuf> {
    level
        .and_below()
        .map(|level| plain.with_file_name(format!("hangar-worker-{level}")))
        .find(|path| check_executable(path).is_ok())
}

/// The binary `name` beside the running one.
fn sibling_binary(key: &'static str, name: &str) -> Result<PathBuf, ConfigError> {
    let own = std::env::current_exe().map_err(|error| {
        let flag = key.replace('_', "-");
        ConfigError::invalid(
            key,
            format!("the running binary cannot be found ({error}): give --{flag}"),
        )
    })?;
    Ok(own.with_file_name(name))
}

/// The binary of the workers for GPUs, made absolute; by default the one beside the running binary. One that is given has
/// to be there.
pub(super) fn worker_cuda(given: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let Some(path) = given else {
        return sibling_binary("worker_cuda", "hangar-worker-cuda");
    };
    let path = absolute("worker_cuda", &path)?;
    check_executable(&path).map_err(|problem| {
        let advice = "name the worker for GPUs, or leave this out where there is none";
        ConfigError::invalid(
            "worker_cuda",
            format!("{}: {problem}: {advice}", path.display()),
        )
    })?;
    Ok(path)
}

/// Makes sure that the worker's binary is a file that can be executed.
pub(super) fn check_worker(path: &Path) -> Result<(), ConfigError> {
    check_executable(path).map_err(|problem| {
        let advice = "put hangar-worker beside hangar, or give --worker";
        ConfigError::invalid("worker", format!("{}: {problem}: {advice}", path.display()))
    })
}

/// Makes sure that `path` is a file that can be executed.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn check_executable(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(file) if !file.is_file() => Err("is not a file".to_owned()),
        Ok(file) if file.permissions().mode() & 0o111 == 0 => Err("is not executable".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Creates the data directory, for this user alone, where it is missing.
///
/// One that exists stays as it is, whoever owns it: a volume is often given through its group.
pub(super) fn make_data_dir(path: &Path) -> Result<(), ConfigError> {
    let directory = make("data_dir", path)?;
    let open_to_all = directory.mode() & 0o002 != 0;
    if open_to_all {
        return Err(ConfigError::invalid(
            "data_dir",
            format!(
                "{} can be written by everybody: name a directory inside it",
                path.display()
            ),
        ));
    }
    Ok(())
}

/// Creates the runtime directory where it is missing, and takes it from everybody else.
///
/// One of another user is refused: in a shared place somebody else could have made it first.
pub(super) fn make_runtime_dir(path: &Path) -> Result<(), ConfigError> {
    let directory = make("runtime_dir", path)?;
    if directory.uid() != rustix::process::geteuid().as_raw() {
        return Err(ConfigError::invalid(
            "runtime_dir",
            format!(
                "{} belongs to another user: name a directory inside it, or another one",
                path.display()
            ),
        ));
    }
    if directory.mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|error| unusable("runtime_dir", path, &error))?;
    }
    Ok(())
}

/// Creates a directory for this user alone where it is missing.
fn make(key: &'static str, path: &Path) -> Result<fs::Metadata, ConfigError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| fs::metadata(path))
        .map_err(|error| unusable(key, path, &error))
}

fn unusable(key: &'static str, path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::invalid(
        key,
        format!(
            "{}: {error}: name a directory that can be written",
            path.display()
        ),
    )
}

/// A short private directory that is always the same for a data directory.
fn temporary(data_dir: &Path) -> PathBuf {
    let digest = Sha256::digest(data_dir.as_os_str().as_bytes());
    let digest: String = digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("hangar-{}-{digest}", rustix::process::geteuid().as_raw());
    let path = std::env::temp_dir().join(&name);
    if is_short(&path) && path.is_absolute() {
        path
    } else {
        Path::new("/tmp").join(name)
    }
}

fn is_short(directory: &Path) -> bool {
    OsStr::len(directory.as_os_str()) + SOCKET_NAME <= MAX_SOCKET_PATH
}

fn absolute(key: &'static str, path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path)
        .map_err(|error| ConfigError::invalid(key, format!("{}: {error}", path.display())))
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[bounded::test]
    fn the_best_worker_that_the_processor_can_run_is_taken() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let plain = directory.path().join("hangar-worker");
        assert_eq!(best_worker(&plain, Level::V4), None);
        for (level, mode) in [(Level::V4, 0o755), (Level::V3, 0o755), (Level::V2, 0o644)] {
            let path = directory.path().join(format!("hangar-worker-{level}"));
            fs::write(&path, "")?;
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
        let name = |level| {
            let best = best_worker(&plain, level)?;
            Some(best.file_name()?.to_string_lossy().into_owned())
        };
        assert_eq!(name(Level::V4).as_deref(), Some("hangar-worker-x86-64-v4"));
        assert_eq!(name(Level::V3).as_deref(), Some("hangar-worker-x86-64-v3"));
        assert_eq!(name(Level::V2), None, "it cannot be executed");
        Ok(())
    }
}
