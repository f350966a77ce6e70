//! Directories as editors, exporters and git-lfs leave them.

use anyhow::Result;
use hangar_tests::{fixtures::SuccessorModel, refusals::wrong_fields};
use serde_json::json;

use super::{HELLO, OddServer};

const MARK: &[u8] = b"\xef\xbb\xbf";

#[hangar_tests::test]
async fn a_byte_order_mark_is_no_content() -> Result<()> {
    let server = OddServer::new().await?;
    let path = server.fixtures.directory("marked")?;
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        SuccessorModel::new(&HELLO)?.write(&path)?;
        let text = std::fs::read(path.join(file))?;
        std::fs::write(path.join(file), [MARK, &text].concat())?;
        server.load_path(&path).await?;
        assert_eq!(server.says().await?, "hi!", "{file}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn config_numbers_that_nobody_reads_may_be_infinite() -> Result<()> {
    let server = OddServer::new().await?;
    let path = server.fixtures.directory("infinite")?;
    SuccessorModel::new(&HELLO)?.write(&path)?;
    let config = std::fs::read_to_string(path.join("config.json"))?;
    let odd =
        "{\"time_step_limit\": [0.0, Infinity, -Infinity, NaN, 1e999], \"rope_dim\": {\"a\": {}},";
    std::fs::write(path.join("config.json"), config.replacen('{', odd, 1))?;
    server.load_path(&path).await?;
    assert_eq!(server.says().await?, "hi!");
    Ok(())
}

#[hangar_tests::test]
async fn a_git_lfs_pointer_is_named_as_one() -> Result<()> {
    let server = OddServer::new().await?;
    let path = server.fixtures.directory("pointers")?;
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 4194304\n";
    for file in ["model.safetensors", "tokenizer.json"] {
        SuccessorModel::new(&HELLO)?.write(&path)?;
        std::fs::write(path.join(file), pointer)?;
        server.assert_refused(&path, &["git-lfs", file]).await;
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_index_names_the_parts() -> Result<()> {
    let server = OddServer::new().await?;
    let successor = SuccessorModel::new(&HELLO)?;
    let stale = server.fixtures.directory("stale")?;
    successor.write_small(&stale)?;
    let three = [
        "model-00001-of-00003",
        "model-00002-of-00003",
        "model-00003-of-00003",
    ];
    let two = ["model-00001-of-00002", "model-00002-of-00002"];
    let named = |names: &[&str]| -> Vec<String> {
        names
            .iter()
            .map(|name| format!("{name}.safetensors"))
            .collect()
    };
    let (three, two) = (named(&three), named(&two));
    SuccessorModel::new(&["W", "R", "O", "N", "G", "<|im_end|>"])?.write_parts(&stale, &three)?;
    successor.write_parts(&stale, &two)?;
    server.load_path(&stale).await?;
    assert_eq!(server.says().await?, "hi!");
    std::fs::remove_file(stale.join("model.safetensors.index.json"))?;
    server
        .assert_refused(&stale, &["a set of 2 and a set of 3 parts"])
        .await;

    let other = server.fixtures.directory("other")?;
    successor.write_small(&other)?;
    successor.write_parts(
        &other,
        &[
            "model.safetensors-00001-of-00002.safetensors",
            "b.safetensors",
        ],
    )?;
    server.load_path(&other).await?;
    assert_eq!(server.says().await?, "hi!");
    std::fs::remove_file(other.join("b.safetensors"))?;
    server.assert_refused(&other, &["b.safetensors"]).await;
    Ok(())
}

#[hangar_tests::test]
async fn tensors_that_are_missing_or_left_over_are_named() -> Result<()> {
    let server = OddServer::new().await?;
    let path = server.fixtures.directory("tensors")?;
    let mut successor = SuccessorModel::new(&HELLO)?;
    let head = successor.tensors.remove("lm_head.weight");
    successor.write(&path)?;
    server.assert_refused(&path, &["lm_head.weight"]).await;
    successor
        .tensors
        .extend(head.map(|head| ("lm_head.weight".to_owned(), head)));
    let bias = "model.layers.0.self_attn.q_proj.bias";
    successor
        .tensors
        .insert(bias.into(), (vec![320], vec![0.0; 320]));
    successor.write(&path)?;
    server.assert_refused(&path, &[bias]).await;
    successor.tensors.remove(bias);
    let unneeded = "model.layers.0.self_attn.rotary_emb.inv_freq";
    successor
        .tensors
        .insert(unneeded.into(), (vec![32], vec![0.0; 32]));
    successor.write(&path)?;
    server.load_path(&path).await?;
    assert_eq!(server.says().await?, "hi!");
    Ok(())
}

#[hangar_tests::test]
async fn weights_that_are_stored_quantized_are_refused_by_the_method() -> Result<()> {
    let server = OddServer::new().await?;
    let path = server.fixtures.directory("stored")?;
    let mut clock = SuccessorModel::new(&HELLO)?;
    for method in ["bitsandbytes", "gptq", "fp8", "compressed-tensors"] {
        clock.config["quantization_config"] = json!({"quant_method": method, "bits": 4});
        clock.write(&path)?;
        let parts = ["quantization_config", method];
        server.assert_refused(&path, &parts).await;
    }
    for nothing in [json!(null), json!({})] {
        clock.config["quantization_config"] = nothing;
        clock.write(&path)?;
        server.load_path(&path).await?;
        assert_eq!(server.says().await?, "hi!");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_directory_with_a_config_and_a_gguf_file_says_which_file_to_name() -> Result<()> {
    let server = OddServer::new().await?;
    let path = server.fixtures.directory("both")?;
    SuccessorModel::new(&HELLO)?.write_small(&path)?;
    std::fs::write(path.join("model-Q8_0.gguf"), "GGUF")?;
    server.assert_refused(&path, &["model-Q8_0.gguf"]).await;
    Ok(())
}

#[hangar_tests::test]
async fn texts_are_neither_cut_nor_padded() -> Result<()> {
    let server = OddServer::new().await?;
    let mut successor = SuccessorModel::new(&HELLO)?;
    successor.tokenizer["truncation"] = json!({
        "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0,
    });
    successor.tokenizer["padding"] = json!({
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "<unk>",
    });
    server.load(&successor).await?;
    let tokens = server
        .client
        .tokenize("m", "0123456789abcdef")
        .send()
        .await?;
    assert_eq!(tokens.len(), 16);
    assert_eq!(server.says().await?, "hi!");
    Ok(())
}

fn around() -> serde_json::Value {
    let pick = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let special = |token: &str, id: u32| json!({"id": token, "ids": [id], "tokens": [token]});
    json!({
        "type": "TemplateProcessing",
        "single": [pick("<s>"), text("A"), pick("</s>")],
        "pair": [pick("<s>"), text("A"), text("B"), pick("</s>")],
        "special_tokens": {"<s>": special("<s>", 1), "</s>": special("</s>", 2)},
    })
}

#[hangar_tests::test]
async fn nothing_is_put_around_a_conversation() -> Result<()> {
    let server = OddServer::new().await?;
    // After </s>, this one ends at once.
    let mut successor = SuccessorModel::new(&HELLO)?;
    let (shape, head) = &mut successor.tensors.get_mut("lm_head.weight").expect("a head");
    for row in 0..shape[0] {
        head[row * 320 + 2] = if row == 4 { 2.0 } else { 0.0 };
    }
    successor.tokenizer["post_processor"] = around();
    server.assert_says(&successor, "hi!").await?;
    let tokens = server.tokens("a").await?;
    assert_eq!((tokens[0], tokens[2]), (1, 2));
    let answer = server
        .client
        .generate("m")
        .prompt("a")
        .temperature(0.0)
        .max_tokens(10);
    assert_eq!(answer.text().await?.text, "");
    Ok(())
}

#[hangar_tests::test]
async fn other_fields_of_the_tokenizer_may_hold_anything() -> Result<()> {
    let server = OddServer::new().await?;
    let added = json!({"content": "<|im_start|>", "lstrip": false, "__type": "AddedToken"});
    for (field, value) in [
        ("additional_special_tokens", json!([added])),
        (
            "sp_model_kwargs",
            json!({"enable_sampling": false, "nbest_size": -1}),
        ),
        ("model_max_length", json!(1e30)),
    ] {
        let mut successor = SuccessorModel::new(&HELLO)?;
        successor.tokenizer_config[field] = value;
        server.load(&successor).await?;
        assert_eq!(server.says().await?, "hi!", "{field}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_answer_ends_as_the_generation_config_says_else_the_config() -> Result<()> {
    let server = OddServer::new().await?;
    let mut successor = SuccessorModel::new(&["h", "i", "</s>", "b", "a", "d", "<|im_end|>"])?;
    successor.config["eos_token_id"] = json!([4, 2]);
    server.assert_says(&successor, "hi").await?;
    successor.generation_config = Some(json!({"eos_token_id": 4}));
    server.assert_says(&successor, "hibad").await?;
    let mut successor = SuccessorModel::new(&HELLO)?;
    let newline = u32::try_from(newline(&successor))?;
    successor.generation_config = Some(json!({"eos_token_id": [4, newline], "top_k": -1}));
    server.assert_says(&successor, "hi!").await?;
    Ok(())
}

fn newline(successor: &SuccessorModel) -> u64 {
    successor.tokenizer["model"]["vocab"]["\u{10a}"]
        .as_u64()
        .unwrap_or(0)
}

#[hangar_tests::test]
async fn templates_are_judged_by_each_conversation() -> Result<()> {
    let server = OddServer::new().await?;
    let chatml = hangar_tests::fixtures::CHAT_TEMPLATE;
    let mut successor = SuccessorModel::new(&HELLO)?;
    let wants = "{% if messages[0].role != 'system' %}\
                 {{ raise_exception('a system message is needed') }}{% endif %}";
    successor.tokenizer_config["chat_template"] = json!(format!("{wants}{chatml}"));
    server.load(&successor).await?;
    let ask = |client: &hangar_client::Client| client.generate("m").temperature(0.0).max_tokens(10);
    let with = ask(&server.client)
        .message("system", "x")
        .message("user", "y");
    assert_eq!(with.text().await?.text, "hi!");
    let without = ask(&server.client).message("user", "y").text().await;
    assert_eq!(wrong_fields(without), ["messages"]);

    let trimmed = chatml.replace(
        "{{ m['content'] }}",
        "{%- generation -%}{{ m['content'] }}{%- endgeneration -%}",
    );
    successor.tokenizer_config["chat_template"] = json!(trimmed);
    server.assert_says(&successor, "hi!").await?;

    let effort = "{% if reasoning_effort is defined and reasoning_effort not in ['low', 'medium'] %}\
                  {{ raise_exception('unknown reasoning_effort: ' ~ reasoning_effort) }}{% endif %}";
    successor.tokenizer_config["chat_template"] = json!(format!("{effort}{chatml}"));
    server.load(&successor).await?;
    let bad = ask(&server.client).message("user", "y");
    let bad = bad.template_option("reasoning_effort", "x".repeat(100_000));
    assert_eq!(wrong_fields(bad.text().await), ["chat_template_options"]);
    assert_eq!(server.says().await?, "hi!");
    Ok(())
}
