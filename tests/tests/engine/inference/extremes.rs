//! Sampling at the ends of its ranges and beyond, field by field.

use anyhow::Result;
use hangar_client::v1::Sampling;
use hangar_tests::{refusals::wrong_fields, server::TestServer};

type SetSampling = fn(&mut Sampling, f32);

/// A field, how it is set, values beyond its range, and values at the ends of it.
const FIELDS: &[(&str, SetSampling, [f32; 2], [f32; 3])] = &[
    (
        "sampling.temperature",
        |s, x| s.temperature = Some(x),
        [-0.001, 2.001],
        [0.0, f32::MIN_POSITIVE, 2.0],
    ),
    (
        "sampling.top_p",
        |s, x| s.top_p = Some(x),
        [0.0, 1.001],
        [f32::MIN_POSITIVE, 1e-6, 1.0],
    ),
    (
        "sampling.min_p",
        |s, x| s.min_p = Some(x),
        [-0.001, 1.001],
        [0.0, f32::MIN_POSITIVE, 1.0],
    ),
    (
        "sampling.frequency_penalty",
        |s, x| s.frequency_penalty = Some(x),
        [-2.001, 2.001],
        [-2.0, f32::MIN_POSITIVE, 2.0],
    ),
    (
        "sampling.presence_penalty",
        |s, x| s.presence_penalty = Some(x),
        [-2.001, 2.001],
        [-2.0, f32::MIN_POSITIVE, 2.0],
    ),
    (
        "sampling.repetition_penalty",
        |s, x| s.repetition_penalty = Some(x),
        [0.0, 2.001],
        [f32::MIN_POSITIVE, 1.0, 2.0],
    ),
];

#[hangar_tests::test]
async fn each_extreme_value_gets_its_answer_or_its_error_and_harms_nothing() -> Result<()> {
    let server = TestServer::tiny().await?;
    let worker = server.worker().await?;
    let before = server.greedy("Hello").max_tokens(20).text().await?.text;
    for (field, set, beyond, within) in FIELDS {
        let ask = async |value: f32| {
            let mut sampling = Sampling::default();
            set(&mut sampling, value);
            let request = server.client.generate("m").prompt("Hello");
            request.sampling(sampling).max_tokens(20).text().await
        };
        let never = [
            f32::NAN,
            -f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
        ];
        for value in beyond.iter().chain(&never) {
            assert_eq!(wrong_fields(ask(*value).await), [*field], "{value}");
        }
        for value in within {
            let answer = ask(*value).await?;
            let usage = answer.done.usage.unwrap_or_default();
            assert_eq!(usage.completion_tokens, 20, "{field} = {value}");
        }
    }
    let after = server.greedy("Hello").max_tokens(20).text().await?.text;
    assert_eq!(after, before);
    assert_eq!(server.worker().await?, worker);
    Ok(())
}
