//! Generates the stubs and descriptor sets of the client and of the worker's protocol from the protos, without protoc.
//!
//! The output is committed, so that nobody who builds Hangar needs a protobuf compiler; the test
//! `generated_code` regenerates it in memory and compares. [`write()`] brings it up to date. Parts of the documentation
//! are held against the code in the same way: [`pages`].

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod calls;
mod method_names;
#[cfg(test)]
mod modules;
pub mod pages;
#[cfg(test)]
mod recipes;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod style;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result};
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet, source_code_info::Location};
use protox::Compiler;
use tonic_prost_build::{Builder, Config, configure};

/// Where generated files live, and nothing else, from the workspace's root.
pub const OUTPUTS: [&str; 2] = [CLIENT, WORKER_PROTOCOL];

const CLIENT: &str = "client/src/gen";

const WORKER_PROTOCOL: &str = "server/worker-protocol/src/gen";

/// Where the protos of the public API are, those of the Open Inference Protocol, and those between the server and its
/// workers: a root and a folder below it.
const PUBLIC: (&str, &str) = ("proto", "hangar/v1");
const OPEN_INFERENCE: (&str, &str) = ("proto", "inference");
const PRIVATE: (&str, &str) = ("server/worker-protocol/proto", "hangar/worker/v1");

/// The field that makes a message secret: nothing is generated that shows such a message, `client/src/redacted.rs` does.
const SECRET: &str = "session_id";

/// Where protos lie, from the workspace's root: the public ones, the private ones, and Google's.
const ROOTS: &[&str] = &[
    "proto",
    "server/worker-protocol/proto",
    "third_party/googleapis",
];

/// Root of the workspace: of the one that Cargo runs in, since several checkouts may share a build folder.
pub fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    let root = package.ancestors().find(|it| it.join("buf.yaml").exists());
    root.unwrap_or(&package).to_path_buf()
}

/// Generates everything in memory: path from the workspace's root to content.
///
/// # Errors
///
/// When a proto does not compile.
pub fn generate() -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let (public, open) = (protos(PUBLIC)?, protos(OPEN_INFERENCE)?);
    for (name, protos) in [("hangar.v1.bin", &public), ("inference.bin", &open)] {
        let set = descriptor_set(&compile(protos)?);
        files.insert(format!("{CLIENT}/{name}"), set.encode_to_vec());
    }
    files.extend(client_stubs(&[public, open].concat())?);
    let private = configure().extern_path(".hangar.v1", "::hangar_client::v1");
    files.extend(stubs(
        private,
        Config::new(),
        &protos(PRIVATE)?,
        &["hangar.worker.v1"],
        WORKER_PROTOCOL,
    )?);
    for (folder, output) in [
        (PUBLIC, CLIENT),
        (OPEN_INFERENCE, CLIENT),
        (PRIVATE, WORKER_PROTOCOL),
    ] {
        let package = folder.1.replace('/', ".");
        let names = method_names::code(&compile(&protos(folder)?)?, &package)?;
        let stubs = files.get_mut(&format!("{output}/{package}.rs"));
        stubs.context("stubs")?.extend(names.bytes());
    }
    Ok(files)
}

/// The published stubs. Their server halves are for whoever asks for them, and decode requests with a codec of their own.
fn client_stubs(public: &[String]) -> Result<BTreeMap<String, Vec<u8>>> {
    let packages = ["hangar.v1", "inference"];
    let mut config = Config::new();
    config.enable_type_names();
    let clients = configure().build_server(false);
    let mut files = stubs(clients, config, public, &packages, CLIENT)?;
    // The messages are those that are there already.
    let servers = configure()
        .build_client(false)
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .codec_path("crate::server_codec::BoundedCodec")
        .extern_path(".hangar.v1", "crate::v1")
        .extern_path(".inference", "crate::inference");
    for (path, content) in stubs(servers, Config::new(), public, &packages, CLIENT)? {
        files.entry(path).or_default().extend(content);
    }
    Ok(files)
}

/// Writes what [`generate()`] gives, and deletes what it does not.
///
/// # Errors
///
/// When a proto does not compile or a file cannot be written.
pub fn write() -> Result<()> {
    let files = generate()?;
    for output in OUTPUTS.map(|output| workspace().join(output)) {
        if output.exists() {
            std::fs::remove_dir_all(&output)?;
        }
        std::fs::create_dir_all(&output)?;
    }
    for (path, content) in files {
        std::fs::write(workspace().join(path), content)?;
    }
    Ok(())
}

/// The protos of a folder, from its root.
fn protos((root, folder): (&str, &str)) -> Result<Vec<String>> {
    let mut protos = Vec::new();
    for entry in std::fs::read_dir(workspace().join(root).join(folder))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".proto") {
            protos.push(format!("{folder}/{name}"));
        }
    }
    protos.sort();
    Ok(protos)
}

fn compile(files: &[String]) -> Result<FileDescriptorSet> {
    let workspace = workspace();
    let roots = ROOTS.iter().map(|root| workspace.join(root));
    let mut compiler = Compiler::new(roots)?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(files).context("compiling the protos")?;
    Ok(compiler.file_descriptor_set())
}

/// The set that reflection serves. Of where things stand in the source nothing is kept but the comments of our own
/// files and those of the Open Inference Protocol, so that tools that describe the API show what it means.
fn descriptor_set(set: &FileDescriptorSet) -> FileDescriptorSet {
    let mut set = set.clone();
    for file in &mut set.file {
        if file.name().starts_with("google/") {
            file.source_code_info = None;
        }
        if let Some(source) = &mut file.source_code_info {
            source.location.retain(is_commented);
            for location in &mut source.location {
                location.leading_detached_comments.clear();
            }
        }
    }
    set
}

fn is_commented(location: &Location) -> bool {
    location.leading_comments.is_some() || location.trailing_comments.is_some()
}

/// The paths of all messages that have a [`SECRET`].
fn secret_messages(set: &FileDescriptorSet) -> Vec<String> {
    fn add(paths: &mut Vec<String>, outside: &str, message: &DescriptorProto) {
        let path = format!("{outside}.{}", message.name());
        if message.field.iter().any(|field| field.name() == SECRET) {
            paths.push(path.clone());
        }
        for nested in &message.nested_type {
            add(paths, &path, nested);
        }
    }
    let mut paths = Vec::new();
    for file in &set.file {
        for message in &file.message_type {
            add(&mut paths, &format!(".{}", file.package()), message);
        }
    }
    paths
}

/// The stubs that `protos` make of these packages, for the folder `output`.
fn stubs(
    builder: Builder,
    config: Config,
    protos: &[String],
    packages: &[&str],
    output: &str,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let out = tempfile::tempdir()?;
    let set = compile(protos)?;
    builder
        .out_dir(out.path())
        .build_transport(true)
        .bytes(".")
        // In the order of their keys, so that equal messages have equal bytes.
        .btree_map(".")
        .skip_debug(secret_messages(&set))
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds_with_config(set, config)
        .context("generating the stubs")?;
    let mut files = BTreeMap::new();
    for package in packages {
        let name = format!("{package}.rs");
        let content = std::fs::read(out.path().join(&name))?;
        files.insert(format!("{output}/{name}"), content);
    }
    Ok(files)
}
