//! Malformed tensors: each is refused with its field, and neither the server nor the worker minds.

use anyhow::Result;
use hangar_client::inference::{
    InferTensorContents, ModelInferRequest, infer_parameter::ParameterChoice,
};
use tonic::Code;

use super::{
    InferenceServer, asked, code_and_reason, fields, flag, known_answers, output, parameter, raw,
    text, text_of,
};

type Change = fn(&mut ModelInferRequest);

/// Each change makes a typed request wrong in this field.
const TYPED: &[(&str, Change)] = &[
    ("inputs", |r| r.inputs.clear()),
    ("inputs", |r| {
        r.inputs.remove(0);
    }),
    ("inputs", |r| r.inputs = vec![flag("stream", false); 17]),
    ("inputs", |r| r.inputs[0] = text("text_input", "")),
    ("inputs", |r| {
        r.inputs[0].contents = Some(InferTensorContents {
            bytes_contents: vec![b"\xff\xfe".as_slice().into()],
            ..InferTensorContents::default()
        });
    }),
    ("inputs[1].name", |r| r.inputs[1].name = "sampling".into()),
    ("inputs[3].name", |r| {
        r.inputs.push(text("text_input", "again"))
    }),
    ("inputs[0].datatype", |r| {
        r.inputs[0].datatype = "FP32".into()
    }),
    ("inputs[0].datatype", |r| r.inputs[0].datatype.clear()),
    ("inputs[2].datatype", |r| {
        r.inputs[2].datatype = "bool".into()
    }),
    ("inputs[0].shape", |r| r.inputs[0].shape.clear()),
    ("inputs[0].shape", |r| r.inputs[0].shape = vec![2]),
    ("inputs[0].shape", |r| r.inputs[0].shape = vec![1, 1]),
    ("inputs[0].shape", |r| r.inputs[0].shape = vec![-1]),
    ("inputs[0].shape", |r| {
        r.inputs[0].shape = vec![i64::MAX, i64::MAX]
    }),
    ("inputs[0].contents", |r| r.inputs[0].contents = None),
    ("inputs[0].contents", |r| {
        r.inputs[0].contents = r.inputs[2].contents.clone();
    }),
    ("inputs[0].contents", |r| {
        r.inputs[0].contents = Some(InferTensorContents {
            bytes_contents: vec!["a".into(), "b".into()],
            ..InferTensorContents::default()
        });
    }),
    ("inputs[0].contents", |r| {
        r.inputs[0].contents = Some(InferTensorContents {
            bytes_contents: vec!["a".into()],
            fp32_contents: vec![f32::NAN],
            ..InferTensorContents::default()
        });
    }),
    ("inputs[0].parameters", |r| {
        let parameter = parameter(ParameterChoice::BoolParam(true));
        r.inputs[0].parameters.insert("binary".into(), parameter);
    }),
    ("inputs", |r| {
        r.inputs.push(flag("stream", true));
        r.inputs[2] = flag("exclude_input_in_output", false);
    }),
    ("outputs[0].name", |r| r.outputs = vec![output("logits")]),
    ("outputs", |r| r.outputs = vec![output("text_output"); 17]),
    ("parameters", |r| {
        let parameter = parameter(ParameterChoice::BoolParam(true));
        r.parameters = (0..17)
            .map(|n| (n.to_string(), parameter.clone()))
            .collect();
    }),
];

/// Each change makes a raw request wrong in this field.
const RAW: &[(&str, Change)] = &[
    ("raw_input_contents", |r| {
        r.raw_input_contents.pop();
    }),
    ("raw_input_contents", |r| {
        r.raw_input_contents.push("more".into())
    }),
    ("raw_input_contents[0]", |r| {
        r.raw_input_contents[0] = "".into()
    }),
    ("raw_input_contents[0]", |r| {
        r.raw_input_contents[0] = "\x01\0\0".into()
    }),
    ("raw_input_contents[0]", |r| {
        r.raw_input_contents[0] = "\x05\0\0\0four".into()
    }),
    ("raw_input_contents[0]", |r| {
        r.raw_input_contents[0] = "\x03\0\0\0four".into()
    }),
    ("raw_input_contents[0]", |r| {
        r.raw_input_contents[0] = "\0\0\0\x04four".into()
    }),
    ("raw_input_contents[0]", |r| {
        r.raw_input_contents[0] = b"\xff\xff\xff\xfffour".as_slice().into();
    }),
    ("raw_input_contents[0]", |r| {
        r.raw_input_contents[0] = "\x01\0\0\0a\x01\0\0\0b".into();
    }),
    ("raw_input_contents[2]", |r| {
        r.raw_input_contents[2] = "".into()
    }),
    ("raw_input_contents[2]", |r| {
        r.raw_input_contents[2] = "\x02".into()
    }),
    ("raw_input_contents[2]", |r| {
        r.raw_input_contents[2] = "\0\x01".into()
    }),
    ("inputs[0].contents", |r| {
        r.inputs[0].contents = text("", "both").contents
    }),
    ("inputs[1].datatype", |r| {
        r.inputs[1].datatype = "BOOL".into()
    }),
    ("inputs[1].shape", |r| r.inputs[1].shape = vec![0]),
    ("inputs", |r| r.raw_input_contents[0] = "\0\0\0\0".into()),
];

#[hangar_tests::test]
async fn a_malformed_tensor_is_named_and_harms_nobody() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let known_answers = &known_answers()?[0];
    let typed = server.greedy(&asked(&known_answers.prompt), 128);
    let worker = server.worker().await?;
    for (request, changes) in [(typed.clone(), TYPED), (raw(typed.clone()), RAW)] {
        for (n, (field, change)) in changes.iter().enumerate() {
            let mut request = request.clone();
            change(&mut request);
            let status = server.stub().model_infer(request).await.unwrap_err();
            assert_eq!(
                code_and_reason(&status),
                (Code::InvalidArgument, "INVALID_FIELD".into()),
                "{n}: {status:?}"
            );
            assert!(
                fields(&status).contains(&(*field).to_owned()),
                "{n}: {status:?}"
            );
        }
    }
    let response = server.stub().model_infer(typed).await?.into_inner();
    assert_eq!(
        text_of(&response, "text_output").as_deref(),
        Some(known_answers.answer.as_str())
    );
    assert_eq!(server.worker().await?, worker);
    let metrics = server.info().await?.metrics.unwrap_or_default();
    assert_eq!((metrics.requests_total, metrics.requests_succeeded), (1, 1));
    Ok(())
}

#[hangar_tests::test]
async fn all_violations_are_reported_at_once() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let mut request = server.greedy("x", 1);
    request.inputs[0].shape = vec![2];
    request.inputs[1] = text("sampling_parameters", r#"{"top_p": 7, "seed": -1}"#);
    request.inputs[2].datatype = "INT8".into();
    request.outputs = vec![output("logits")];
    let status = server.stub().model_infer(request).await.unwrap_err();
    let expected = [
        "inputs[0].shape",
        "inputs[2].datatype",
        "sampling_parameters.seed",
        "sampling_parameters.top_p",
        "outputs[0].name",
    ];
    assert_eq!(fields(&status), expected);
    Ok(())
}

#[hangar_tests::test]
async fn an_error_about_long_names_is_short() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let name = "n".repeat(100_000);
    let mut request = server.greedy("x", 1);
    request.inputs[0].name.clone_from(&name);
    request.outputs = vec![output(&name); 16];
    request
        .parameters
        .insert(name, parameter(ParameterChoice::BoolParam(true)));
    let status = server.stub().model_infer(request).await.unwrap_err();
    assert_eq!(
        code_and_reason(&status),
        (Code::InvalidArgument, "INVALID_FIELD".into())
    );
    assert!(status.message().len() < 4000);
    Ok(())
}

#[hangar_tests::test]
async fn features_of_other_servers_are_refused_by_name() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let region = || parameter(ParameterChoice::StringParam("region".into()));
    let mut shared_input = server.greedy("x", 1);
    let parameters = &mut shared_input.inputs[0].parameters;
    parameters.insert("shared_memory_region".into(), region());
    let mut shared_output = server.greedy("x", 1);
    shared_output.outputs = vec![output("text_output")];
    let parameters = &mut shared_output.outputs[0].parameters;
    parameters.insert("shared_memory_region".into(), region());
    for request in [shared_input, shared_output] {
        let status = server.stub().model_infer(request).await.unwrap_err();
        assert_eq!(
            code_and_reason(&status),
            (Code::Unimplemented, "NOT_IMPLEMENTED".into())
        );
        assert!(status.message().contains("shared_memory"), "{status:?}");
    }
    Ok(())
}
