//! The stubs and descriptors that are committed are those that the protos generate.

use std::collections::BTreeMap;

#[hangar_tests::test]
fn committed_files_are_what_the_protos_generate() -> anyhow::Result<()> {
    let generated = hangar_codegen::generate()?;
    let mut committed = BTreeMap::new();
    for output in hangar_codegen::OUTPUTS {
        for entry in std::fs::read_dir(hangar_codegen::workspace().join(output))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            committed.insert(format!("{output}/{name}"), std::fs::read(entry.path())?);
        }
    }
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&generated), "run `cargo generate`");
    for (name, bytes) in &generated {
        assert!(
            committed[name] == *bytes,
            "{name} is out of date: run `cargo generate`"
        );
    }
    Ok(())
}
