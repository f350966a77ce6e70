//! The programs in other languages, built from a copy of the checkout as their README says.
//!
//! A language's generators are installed once for the versions that are pinned, and its stubs and program made anew
//! only when something that they are made from has changed. Downloads are kept below the folder of the tools.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::tools;

/// What stubs and programs are made from, beside the program's own folder.
const SHARED: &[&str] = &[
    "buf.yaml",
    "proto",
    "server/worker-protocol/proto",
    "third_party/googleapis",
];

/// What somebody who follows the README leaves in the checkout.
const MADE: &[&str] = &[
    ".venv",
    "__pycache__",
    "dist",
    "gen",
    "generators",
    "hangar-example",
    "node_modules",
    "target",
];

/// Where the programs are, from the checkout's root.
const EXAMPLES: &str = "client/examples";

/// A language that has a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Go.
    Go,
    /// Python.
    Python,
    /// TypeScript, on Node.
    TypeScript,
    /// Java, with Maven.
    Java,
}

/// A copy of the checkout with a language's generators, stubs and program.
#[derive(Debug)]
pub struct Example {
    language: Language,
    checkout: PathBuf,
    commands: Commands,
    // Nobody else builds in the copy while its program runs.
    _lock: File,
}

/// Files, from the checkout's root.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What the README says to do for a language.
#[derive(Debug)]
struct Commands {
    /// Installs the generators.
    install: Vec<String>,
    /// Those of them that set variables for all that follows.
    export: Vec<String>,
    /// Makes stubs and program.
    build: Vec<String>,
    /// Runs the program.
    run: String,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Go, Self::Python, Self::TypeScript, Self::Java];

    /// Its name, as the README and `buf.gen.yaml` have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Go => "Go",
            Self::Python => "Python",
            Self::TypeScript => "TypeScript",
            Self::Java => "Java",
        }
    }

    /// What is missing here to build and run its program: nothing, or a command that fails.
    pub fn missing(self) -> Option<&'static str> {
        let commands: &[_] = match self {
            Self::Go => &["go version", "npm --version"],
            Self::Python => &[
                "python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))'",
                "npm --version",
            ],
            Self::TypeScript => &[
                "node -e 'process.exit(+(parseInt(process.versions.node) < 20))'",
                "npm --version",
            ],
            Self::Java => &[
                "javac --release 17 -version",
                "mvn --version",
                "npm --version",
            ],
        };
        let fails = |line: &&&str| {
            !bash(Path::new("."), line)
                .output()
                .is_ok_and(|it| it.status.success())
        };
        commands.iter().find(fails).copied()
    }

    /// Its folder, from the checkout's root.
    fn folder(self) -> String {
        format!("{EXAMPLES}/{}", self.name().to_lowercase())
    }

    /// What pins the versions of its generators and libraries, from the checkout's root.
    fn pins(self) -> Vec<PathBuf> {
        let file = match self {
            Self::Go => "go.sum",
            Self::Python => "requirements.txt",
            Self::TypeScript => "package-lock.json",
            Self::Java => "pom.xml",
        };
        let readme = PathBuf::from(EXAMPLES).join("README.md");
        vec![readme, PathBuf::from(self.folder()).join(file)]
    }
}

impl Example {
    /// Builds the program of a language in a copy of the checkout at `root`. Blocks meanwhile.
    ///
    /// # Errors
    ///
    /// When something cannot be installed, generated or built.
    pub fn build(root: &Path, language: Language) -> Result<Self> {
        let commands = commands(root, language)?;
        let checkout = install(root, language, &commands)?;
        let lock = File::create(checkout.join("lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let example = Self {
            language,
            checkout,
            commands,
            _lock: lock,
        };
        let inputs = inputs(root, &[language])?;
        let template = template(root, language)?;
        let mut hash = DefaultHasher::new();
        (&inputs, &template).hash(&mut hash);
        let made_from = format!("{:016x}", hash.finish());
        let stamp = example.checkout.join("made-from");
        if fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == made_from) {
            return Ok(example);
        }
        if stamp.exists() {
            fs::remove_file(&stamp)?;
        }
        copy(&inputs, &example.checkout)?;
        fs::write(example.checkout.join("buf.gen.yaml"), template)?;
        let script = [&example.commands.export[..], &example.commands.build[..]].concat();
        shell(&example.checkout, &script.join("\n"))?;
        fs::write(stamp, made_from)?;
        Ok(example)
    }

    /// The command that runs the program against a server.
    ///
    /// # Errors
    ///
    /// When the environment cannot be read.
    pub fn run(&self, server: &str) -> Result<Command> {
        let run = self.commands.run.replace("localhost:50051", server);
        let script = [&self.commands.export[..], &[run]].concat().join("\n");
        prepared(&self.checkout, &script)
    }
}

/// Generates the stubs of these examples' languages with `buf.gen.yaml` as it stands, and gives their paths.
///
/// # Errors
///
/// When that fails, or takes away what was there.
pub fn generate(root: &Path, examples: &[Example]) -> Result<BTreeSet<String>> {
    let checkout = tempfile::tempdir()?;
    let languages: Vec<_> = examples.iter().map(|example| example.language).collect();
    let before = inputs(root, &languages)?;
    copy(&before, checkout.path())?;
    fs::copy(
        root.join("buf.gen.yaml"),
        checkout.path().join("buf.gen.yaml"),
    )?;
    // Whoever has stubs made among sources keeps those.
    let own = |language: &Language| Path::new(&language.folder()).join("gen/own.txt");
    let own: Vec<_> = languages.iter().map(own).collect();
    for path in &own {
        let path = checkout.path().join(path);
        fs::create_dir_all(path.parent().context("a file lies nowhere")?)?;
        fs::write(path, "")?;
    }
    let mut script = Vec::new();
    for example in examples {
        script.push(format!("cd '{}'", example.checkout.display()));
        script.extend(example.commands.export.clone());
    }
    script.push(format!("cd '{}'", checkout.path().display()));
    script.push("buf generate".to_owned());
    shell(checkout.path(), &script.join("\n"))?;
    let mut after = Files::new();
    read(checkout.path(), Path::new(EXAMPLES), &[], &mut after)?;
    for path in &own {
        let kept = after.remove(path).is_some();
        anyhow::ensure!(kept, "{} is gone", path.display());
    }
    let made = after.into_keys().filter(|path| !before.contains_key(path));
    Ok(made.map(|path| path.display().to_string()).collect())
}

/// The directory with a language's generators and libraries, in which the copy of the checkout comes to lie.
fn install(root: &Path, language: Language, commands: &Commands) -> Result<PathBuf> {
    let pins: Vec<_> = language.pins();
    let sources: Vec<_> = pins.iter().map(|path| root.join(path)).collect();
    let sources: Vec<_> = sources.iter().map(PathBuf::as_path).collect();
    tools::prepare(language.name(), &sources, |directory| {
        copy(&inputs(root, &[language])?, directory)?;
        shell(directory, &commands.install.join("\n"))?;
        Ok(())
    })
}

/// What the stubs and programs of these languages are made from.
fn inputs(root: &Path, languages: &[Language]) -> Result<Files> {
    let folders = languages.iter().map(|language| language.folder());
    let mut files = Files::new();
    for path in SHARED.iter().map(ToString::to_string).chain(folders) {
        read(root, Path::new(&path), MADE, &mut files)?;
    }
    Ok(files)
}

/// `buf.gen.yaml` without the other languages.
fn template(root: &Path, language: Language) -> Result<String> {
    let file = fs::read_to_string(root.join("buf.gen.yaml"))?;
    let (head, plugins) = file.split_once("plugins:\n").context("no plugins")?;
    let headline = format!("  # {}\n", language.name());
    let mut sections = plugins.split("\n\n");
    let section = sections.find(|section| section.starts_with(&headline));
    Ok(format!("{head}plugins:\n{}\n", section.context(headline)?))
}

/// What the README says to do for a language.
fn commands(root: &Path, language: Language) -> Result<Commands> {
    let readme = fs::read_to_string(root.join(EXAMPLES).join("README.md"))?;
    let headline = format!("\n## {}\n", language.name());
    let (_, section) = readme.split_once(&headline).context(headline)?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let mut blocks = section
        .split("```sh\n")
        .skip(1)
        .map(|block| block.lines().take_while(|line| *line != "```"))
        .map(|lines| lines.map(ToOwned::to_owned).collect::<Vec<_>>());
    let install = blocks.next().context("no generators")?;
    let sets = |line: &&String| line.starts_with("export ");
    let export = install.iter().filter(sets).cloned().collect();
    let mut build = blocks.next().context("no program")?;
    let run = build.pop().context("nothing runs it")?;
    Ok(Commands {
        install,
        export,
        build,
        run,
    })
}

/// Reads a file, or all files below a folder but those of these names.
fn read(root: &Path, path: &Path, without: &[&str], files: &mut Files) -> Result<()> {
    let full = root.join(path);
    if full.is_file() {
        files.insert(path.to_owned(), fs::read(&full)?);
        return Ok(());
    }
    for entry in fs::read_dir(&full).with_context(|| full.display().to_string())? {
        let name = entry?.file_name();
        if !without.iter().any(|made| name == *made) {
            read(root, &path.join(name), without, files)?;
        }
    }
    Ok(())
}

/// Writes files below a folder. Protos that were there before are gone.
fn copy(files: &Files, to: &Path) -> Result<()> {
    for path in SHARED {
        let path = to.join(path);
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        }
    }
    for (path, content) in files {
        let path = to.join(path);
        fs::create_dir_all(path.parent().context("a file lies nowhere")?)?;
        fs::write(path, content)?;
    }
    Ok(())
}

/// Runs lines of the README.
fn shell(directory: &Path, script: &str) -> Result<()> {
    let output = prepared(directory, script)?.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "{script}\n{text}\n{errors}");
    Ok(())
}

/// Lines of the README, with buf on the path and downloads in the folder of the tools.
fn prepared(directory: &Path, script: &str) -> Result<Command> {
    let folder = tools::folder()?;
    let buf = tools::buf()?;
    let buf = buf.parent().context("buf lies nowhere")?.to_owned();
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([buf].into_iter().chain(std::env::split_paths(&inherited)))?;
    let option = |name: &str, more: &str| match std::env::var(name) {
        Ok(options) => format!("{options} {more}"),
        Err(_) => more.to_owned(),
    };
    // Without the end of a colour that Maven has not begun.
    let maven = format!(
        "-Djansi.noreset=true -Dmaven.repo.local={}",
        folder.join("maven").display()
    );
    let mut command = bash(directory, script);
    command
        .env("PATH", path)
        .env("GOPATH", folder.join("go"))
        .env("GOCACHE", folder.join("go-build"))
        // So that the folder can be deleted like any other.
        .env("GOFLAGS", option("GOFLAGS", "-modcacherw -buildvcs=false"))
        .env("MAVEN_OPTS", option("MAVEN_OPTS", &maven))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

fn bash(directory: &Path, script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euc", script]).current_dir(directory);
    command.stdin(Stdio::null());
    command
}
