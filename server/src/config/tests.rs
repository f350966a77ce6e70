//! Tests of precedence, of what is refused, and of what the refusals say.

use std::{io::Write, os::unix::fs::PermissionsExt, path::Path, process::Command as Process};

use tempfile::NamedTempFile;

use super::*;

/// Set in the environment of the process that `settings_with_environment` starts.
const CHILD_ARGUMENTS: &str = "CONFIG_TEST_ARGUMENTS";

fn parse(arguments: &[&str]) -> SettingsArguments {
    let all = ["hangar", "serve"].iter().chain(arguments);
    match Cli::try_parse_from(all).unwrap().command {
        Command::Serve(serve) => serve.settings,
        Command::Demo(demo) => demo.settings,
    }
}

fn load(arguments: &[&str]) -> Result<Settings, ConfigError> {
    Settings::load(parse(arguments))
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn load_file(text: &str, arguments: &[&str]) -> Result<Settings, ConfigError> {
    let file = file(text);
    let config = format!("--config={}", file.path().display());
    let mut all = vec![config.as_str()];
    all.extend(arguments);
    load(&all)
}

/// What `load` says in a process of its own: the environment of this one is shared by all tests.
fn load_with_environment(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Process::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "config::tests::settings_are_printed_by_a_process_of_their_own",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD_ARGUMENTS, arguments.join("\n"))
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[bounded::test]
#[ignore = "runs in a process of its own, for load_with_environment"]
fn settings_are_printed_by_a_process_of_their_own() {
    let arguments = std::env::var(CHILD_ARGUMENTS).unwrap_or_default();
    let arguments: Vec<_> = arguments.lines().collect();
    println!("{:?}", load(&arguments));
}

#[bounded::test]
fn flag_goes_before_environment_before_file_before_default() {
    let file = file("max_models = 11\nmax_watchers = 12\nwatch_ring = 13");
    let config = format!("--config={}", file.path().display());
    let environment = [("HANGAR_MAX_MODELS", "21"), ("HANGAR_MAX_WATCHERS", "22")];
    let settings = load_with_environment(&[&config, "--max-models=31"], &environment);
    for expected in [
        "max_models: 31",
        "max_watchers: 22",
        "watch_ring: 13",
        "max_concurrent_loads: 2",
    ] {
        assert!(settings.contains(expected), "{expected} not in {settings}");
    }
}

#[bounded::test]
fn an_empty_collector_endpoint_means_none() {
    let settings = load_with_environment(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
    assert!(settings.contains("otlp_endpoint: None"), "{settings}");
}

#[bounded::test]
fn every_kind_of_value_can_stand_in_a_file() {
    let settings = load_file(
        r#"
            listen = "127.0.0.1:1234"
            reflection = false
            max_request_bytes = "1MiB"
            spin_timeout_per_prompt_token = "5ms"
            load_timeout = "1m 30s"
            model_root = ["/"]
            log_format = "json"
            trace_sample_ratio = 0.25
        "#,
        &[],
    )
    .unwrap();
    assert_eq!(settings.listen.port(), 1234);
    assert!(!settings.reflection);
    assert_eq!(settings.max_request_bytes, 1 << 20);
    assert_eq!(
        settings.time_limits.spin_per_prompt_token,
        Duration::from_millis(5)
    );
    assert_eq!(settings.time_limits.load, Duration::from_secs(90));
    assert_eq!(settings.model_roots, [Path::new("/")]);
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.trace_sample_ratio, 0.25);
}

#[bounded::test]
fn boolean_flags_need_no_value() {
    let settings = load(&["--insecure-listen", "--reflection=false"]).unwrap();
    assert!(settings.insecure_listen);
    assert!(!settings.reflection);
}

#[bounded::test]
fn the_worker_for_gpus_need_not_be_there_unless_it_is_named() {
    let settings = load(&[]).unwrap();
    let beside = std::env::current_exe().unwrap();
    let beside = beside.with_file_name("hangar-worker-cuda");
    assert_eq!(settings.worker_cuda, beside);
    assert!(!settings.has_cuda_worker());
    let named = load(&["--worker-cuda=/bin/sh"]).unwrap();
    assert_eq!(named.worker_cuda, Path::new("/bin/sh"));
    assert!(named.has_cuda_worker());
    let refused = load(&["--worker-cuda=/no/such/worker"]).unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.starts_with("worker_cuda: /no/such/worker: "),
        "{refused}"
    );
}

#[bounded::test]
fn model_roots_are_repeatable_and_unique() {
    let arguments = [
        "--model-root=/",
        "--model-root=/usr/..",
        "--model-root",
        "/tmp",
    ];
    let settings = load(&arguments).unwrap();
    assert_eq!(settings.model_roots, [Path::new("/"), Path::new("/tmp")]);
}

#[bounded::test]
fn a_missing_model_root_is_refused() {
    let error = load(&["--model-root=/no/such/root"])
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("model_root: /no/such/root: "), "{error}");
}

#[bounded::test]
fn an_unknown_key_is_refused_by_name() {
    let error = load_file("max_model = 3", &[]).unwrap_err().to_string();
    assert!(error.contains("max_model"), "{error}");
    assert!(error.contains("expected one of"), "{error}");
}

#[bounded::test]
fn a_bad_value_in_a_file_is_refused_by_name() {
    for (text, key, hint) in [
        (
            "load_timeout = \"soon\"",
            "load_timeout",
            "write it like 30s",
        ),
        ("load_timeout = 30", "load_timeout", "write it like 30s"),
        ("max_models = \"many\"", "max_models", "many"),
        ("max_models = 0", "max_models", "at least 1"),
        ("listen = \"localhost\"", "listen", "socket address"),
        (
            "max_request_bytes = \"big\"",
            "max_request_bytes",
            "write it like 16MiB",
        ),
        (
            "max_request_bytes = \"9EiB\"",
            "max_request_bytes",
            "from 4KiB to 64MiB",
        ),
        (
            "trace_sample_ratio = 2.0",
            "trace_sample_ratio",
            "from 0 to 1",
        ),
        ("kill_timeout = \"0s\"", "kill_timeout", "more than 0s"),
        (
            "hang_timeout = \"400000000000years\"",
            "hang_timeout",
            "at most 365days",
        ),
        (
            "watch_heartbeat = \"31s\"",
            "watch_heartbeat",
            "at most 30s",
        ),
        (
            "otlp_endpoint = \"localhost\"",
            "otlp_endpoint",
            "http://localhost:4317",
        ),
        ("log_format = \"xml\"", "log_format", "xml"),
    ] {
        let error = load_file(text, &[]).unwrap_err().to_string();
        assert!(error.contains(key), "{key} not in {error}");
        assert!(error.contains(hint), "{hint} not in {error}");
    }
}

#[bounded::test]
fn a_bad_flag_is_refused_by_name() {
    let error = Cli::try_parse_from(["hangar", "serve", "--load-timeout=soon"]).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("--load-timeout <TIME>"), "{error}");
    assert!(error.contains("write it like 30s"), "{error}");
}

#[bounded::test]
fn a_file_that_cannot_be_read_is_named() {
    let error = load(&["--config=/no/such/file"]).unwrap_err().to_string();
    assert!(error.contains("/no/such/file"), "{error}");
    let error = load_file("listen = ", &[]).unwrap_err().to_string();
    assert!(error.contains("configuration file"), "{error}");
}

#[bounded::test]
fn other_addresses_than_loopback_need_a_flag() {
    for flag in [
        "--listen=0.0.0.0:1",
        "--ops-listen=[::]:1",
        "--listen=10.0.0.1:1",
    ] {
        let error = load(&[flag]).unwrap_err().to_string();
        assert!(error.contains("--insecure-listen"), "{error}");
        assert!(load(&[flag, "--insecure-listen"]).is_ok());
    }
    for flag in [
        "--listen=[::1]:1",
        "--listen=127.1.2.3:1",
        "--listen=[::ffff:127.0.0.1]:1",
    ] {
        assert!(load(&[flag]).is_ok(), "{flag}");
    }
}

#[bounded::test]
fn both_ports_cannot_be_the_same() {
    let same = |port| {
        load(&[
            &format!("--listen=127.0.0.1:{port}"),
            &format!("--ops-listen=127.0.0.1:{port}"),
        ])
    };
    assert!(same(7).is_err());
    assert!(same(0).is_ok());
}

#[bounded::test]
fn sockets_always_fit_into_the_runtime_directory() {
    let short = load(&["--data-dir=/d"]).unwrap();
    assert_eq!(short.runtime_dir, Path::new("/d/run"));
    let long = load(&[&format!("--data-dir=/{}", "d".repeat(80))]).unwrap();
    let socket = long.runtime_dir.join("0123456789abcdef.sock");
    assert!(socket.as_os_str().len() < 100, "{socket:?}");
    assert!(load(&[&format!("--runtime-dir=/{}", "d".repeat(80))]).is_err());
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[bounded::test]
fn the_runtime_directory_is_private() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    directories::make_runtime_dir(&path).unwrap();
    set_mode(&path, 0o755);
    directories::make_runtime_dir(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
}

#[bounded::test]
fn the_data_directory_is_made_private_and_left_as_it_is() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    directories::make_data_dir(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
    set_mode(&path, 0o770);
    directories::make_data_dir(&path).unwrap();
    assert_eq!(mode(&path), 0o770);
    set_mode(&path, 0o777);
    let error = directories::make_data_dir(&path).unwrap_err();
    assert!(error.to_string().contains("everybody"), "{error}");
}

#[bounded::test]
fn a_directory_that_cannot_be_made_is_named() {
    let file = NamedTempFile::new().unwrap();
    let error = directories::make_data_dir(&file.path().join("x")).unwrap_err();
    assert!(error.to_string().starts_with("data_dir: "), "{error}");
}

#[bounded::test]
fn a_missing_worker_is_named() {
    let error = directories::check_worker(Path::new("/no/worker")).unwrap_err();
    assert!(error.to_string().contains("--worker"), "{error}");
    let file = NamedTempFile::new().unwrap();
    assert!(directories::check_worker(file.path()).is_err());
}

#[bounded::test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}
