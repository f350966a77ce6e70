//! A worker whose behaviour is scripted by a file in the model's directory.

fn main() -> anyhow::Result<()> {
    hangar_tests::scripted::run()
}
