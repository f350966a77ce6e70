//! Tells the compiler whether the demo model is there to be built in.

fn main() {
    let files = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ];
    println!("cargo::rustc-check-cfg=cfg(demo_model)");
    let mut there = true;
    for file in files {
        let path = format!("demo/model/{file}");
        println!("cargo::rerun-if-changed={path}");
        there &= std::path::Path::new(&path).is_file();
    }
    if there {
        println!("cargo::rustc-cfg=demo_model");
    }
}
