//! ModelInfer: one request, one answer.

use anyhow::{Context, Result};
use hangar_client::inference::{ModelInferRequest, infer_parameter::ParameterChoice};
use tonic::Code;

use super::{
    InferenceServer, asked, code_and_reason, fields, flag, known_answers, number_of, output,
    outputs, parameter, raw, text, text_of, with,
};

#[hangar_tests::test]
async fn the_demo_model_gives_its_trained_answers_in_the_form_of_the_request() -> Result<()> {
    let server = InferenceServer::demo().await?;
    for (n, known_answers) in known_answers()?.iter().take(6).enumerate() {
        let request = ModelInferRequest {
            id: format!("request {n}"),
            ..server.greedy(&asked(&known_answers.prompt), 128)
        };
        for request in [request.clone(), raw(request)] {
            let is_raw = !request.raw_input_contents.is_empty();
            let response = server.stub().model_infer(request).await?.into_inner();
            assert_eq!(
                text_of(&response, "text_output").as_deref(),
                Some(known_answers.answer.as_str())
            );
            assert_eq!(response.outputs.len(), 1);
            assert_eq!(response.outputs[0].datatype, "BYTES");
            assert_eq!(response.raw_output_contents.is_empty(), !is_raw);
            assert_eq!(response.outputs[0].contents.is_none(), is_raw);
            assert_eq!(response.id, format!("request {n}"));
            assert_eq!(
                (
                    response.model_name.as_str(),
                    response.model_version.as_str()
                ),
                ("demo", "1")
            );
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_text_begins_with_the_prompt_unless_it_is_excluded() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let known_answers = &known_answers()?[0];
    let prompt = asked(&known_answers.prompt);
    let mut request = server.greedy(&prompt, 128);
    request.inputs.pop();
    let whole = format!("{prompt}{}", known_answers.answer);
    for request in [
        request.clone(),
        with(request, [flag("exclude_input_in_output", false)]),
    ] {
        let response = server.stub().model_infer(request).await?.into_inner();
        assert_eq!(text_of(&response, "text_output"), Some(whole.clone()));
    }
    Ok(())
}

#[hangar_tests::test]
async fn outputs_come_when_a_flag_or_a_name_asks_for_them() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let flags = [
        flag("return_finish_reason", true),
        flag("return_num_input_tokens", true),
        flag("return_num_output_tokens", true),
    ];
    let all = with(server.greedy(&asked("Hello"), 4), flags);
    let expected = server
        .client
        .generate("demo")
        .prompt(asked("Hello"))
        .temperature(0.0)
        .max_tokens(4)
        .text()
        .await?;
    let usage = expected.done.usage.context("usage")?;
    for request in [all.clone(), raw(all)] {
        let response = server.stub().model_infer(request).await?.into_inner();
        assert_eq!(
            text_of(&response, "text_output"),
            Some(expected.text.clone())
        );
        assert_eq!(
            text_of(&response, "finish_reason").as_deref(),
            Some("length")
        );
        assert_eq!(
            number_of(&response, "num_input_tokens"),
            Some(usage.prompt_tokens)
        );
        assert_eq!(number_of(&response, "num_output_tokens"), Some(4));
        let types: Vec<_> = response
            .outputs
            .iter()
            .map(|o| o.datatype.as_str())
            .collect();
        assert_eq!(types, ["BYTES", "BYTES", "UINT32", "UINT32"]);
    }
    Ok(())
}

#[hangar_tests::test]
async fn only_the_named_outputs_come_where_any_is_named() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let request = with(
        server.greedy(&asked("Hello"), 2),
        [flag("return_num_input_tokens", true)],
    );
    let named = ModelInferRequest {
        outputs: vec![output("num_output_tokens"), output("finish_reason")],
        ..request.clone()
    };
    let response = server.stub().model_infer(named).await?.into_inner();
    let names: Vec<_> = outputs(&response).into_keys().collect();
    assert_eq!(names, ["finish_reason", "num_output_tokens"]);
    let off = with(request, [flag("return_finish_reason", false)]);
    let response = server.stub().model_infer(off).await?.into_inner();
    let names: Vec<_> = outputs(&response).into_keys().collect();
    assert_eq!(names, ["num_input_tokens", "text_output"]);
    Ok(())
}

#[hangar_tests::test]
async fn sampling_comes_as_json_or_as_parameters_of_the_request() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let known_answers = &known_answers()?[0];
    let stop = &known_answers.answer[5..9];
    let before = known_answers.answer.split(stop).next();
    let prompt = text("text_input", &asked(&known_answers.prompt));
    let base = ModelInferRequest {
        model_name: "demo".into(),
        inputs: vec![prompt, flag("exclude_input_in_output", true)],
        ..ModelInferRequest::default()
    };
    let json = format!(r#"{{"temperature": "0", "max_tokens": "128", "stop": [{stop:?}]}}"#);
    let by_json = with(base.clone(), [text("sampling_parameters", &json)]);
    let mut by_parameters = base;
    for (name, choice) in [
        ("temperature", ParameterChoice::DoubleParam(0.0)),
        ("max_tokens", ParameterChoice::Int64Param(128)),
        ("stop", ParameterChoice::StringParam(stop.to_owned())),
        ("timeout", ParameterChoice::Int64Param(60_000_000)),
    ] {
        let parameters = &mut by_parameters.parameters;
        parameters.insert(name.to_owned(), parameter(choice));
    }
    let mut by_both = by_json.clone();
    let other = parameter(ParameterChoice::Int64Param(1));
    by_both.parameters.insert("max_tokens".into(), other);
    for request in [by_json, by_parameters, by_both] {
        let response = server.stub().model_infer(request).await?.into_inner();
        assert_eq!(text_of(&response, "text_output").as_deref(), before);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_sampling_parameter_that_is_unknown_or_out_of_range_is_named() -> Result<()> {
    let server = InferenceServer::demo().await?;
    for (json, field, word) in [
        (r#"{"best_of": 2}"#, "sampling_parameters", "best_of"),
        ("[1]", "sampling_parameters", "object"),
        ("{", "sampling_parameters", "JSON"),
        (
            r#"{"temperature": 3}"#,
            "sampling_parameters.temperature",
            "2",
        ),
        (r#"{"top_p": 0}"#, "sampling_parameters.top_p", "above 0"),
        (
            r#"{"max_tokens": 0}"#,
            "sampling_parameters.max_tokens",
            "1",
        ),
        (r#"{"stop": [""]}"#, "sampling_parameters.stop[0]", "256"),
    ] {
        let mut request = server.greedy("x", 1);
        request.inputs[1] = text("sampling_parameters", json);
        let status = server.stub().model_infer(request).await.unwrap_err();
        assert_eq!(
            code_and_reason(&status),
            (Code::InvalidArgument, "INVALID_FIELD".into())
        );
        assert_eq!(fields(&status), [field], "{json}");
        assert!(status.message().contains(word), "{status:?}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn parameters_have_names_and_types_of_their_own() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let refused = async |name: &str, choice: ParameterChoice| {
        let mut request = server.greedy("x", 1);
        request.parameters.insert(name.into(), parameter(choice));
        server.stub().model_infer(request).await.unwrap_err()
    };
    for (name, choice, field) in [
        ("sampler", ParameterChoice::Int64Param(1), "parameters"),
        (
            "timeout",
            ParameterChoice::Int64Param(-1),
            "parameters.timeout",
        ),
        (
            "timeout",
            ParameterChoice::BoolParam(true),
            "parameters.timeout",
        ),
        (
            "triton_enable_empty_final_response",
            ParameterChoice::Int64Param(1),
            "parameters",
        ),
        (
            "priority",
            ParameterChoice::Int64Param(-1),
            "parameters.priority",
        ),
        (
            "priority",
            ParameterChoice::StringParam("1".into()),
            "parameters.priority",
        ),
    ] {
        let status = refused(name, choice).await;
        assert_eq!(
            code_and_reason(&status),
            (Code::InvalidArgument, "INVALID_FIELD".into())
        );
        assert_eq!(fields(&status), [field]);
        assert!(status.message().contains(name), "{status:?}");
    }
    let status = refused("sequence_id", ParameterChoice::Int64Param(1)).await;
    assert_eq!(
        code_and_reason(&status),
        (Code::Unimplemented, "NOT_IMPLEMENTED".into())
    );
    assert!(status.message().contains("sequence_id"), "{status:?}");
    Ok(())
}

#[hangar_tests::test]
async fn a_timeout_ends_a_request_that_takes_longer() -> Result<()> {
    let server = InferenceServer::long(|_| ()).await?;
    let mut request = server.greedy("Hello", 16_000);
    let timeout = parameter(ParameterChoice::Int64Param(50_000));
    request.parameters.insert("timeout".into(), timeout);
    let status = server.stub().model_infer(request).await.unwrap_err();
    assert_eq!(
        code_and_reason(&status),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into())
    );
    server.until_occupancy(0, 0).await
}

#[hangar_tests::test]
async fn streaming_is_refused_where_one_response_is_given() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let request = with(server.greedy("x", 1), [flag("stream", true)]);
    let status = server.stub().model_infer(request).await.unwrap_err();
    assert_eq!(
        code_and_reason(&status),
        (Code::InvalidArgument, "INVALID_FIELD".into())
    );
    assert!(status.message().contains("ModelStreamInfer"), "{status:?}");
    let off = with(server.greedy(&asked("Hello"), 3), [flag("stream", false)]);
    server.stub().model_infer(off).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_prompt_that_does_not_fit_is_refused_as_by_generate() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let request = server.greedy(&"word ".repeat(2000), 1);
    let status = server.stub().model_infer(request).await.unwrap_err();
    assert_eq!(
        code_and_reason(&status),
        (Code::InvalidArgument, "CONTEXT_EXCEEDED".into())
    );
    Ok(())
}
