//! Regenerates the client crate's stubs and descriptor sets: `cargo generate`.

fn main() -> anyhow::Result<()> {
    hangar_codegen::write()
}
