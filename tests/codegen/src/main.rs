//! Regenerates the stubs and descriptor sets of the client and of the worker's protocol: `cargo generate`.

fn main() -> anyhow::Result<()> {
    hangar_codegen::write()
}
