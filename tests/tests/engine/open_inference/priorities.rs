//! Which of the requests that wait comes first, by Triton's levels: 1 is the highest.

use anyhow::{Context, Result};
use hangar_client::inference::infer_parameter::ParameterChoice;
use hangar_tests::background::Background;

use super::{InferenceServer, parameter, streams::InferStream};

#[hangar_tests::test]
async fn the_lowest_level_goes_first_and_those_without_one_last() -> Result<()> {
    let server = InferenceServer::long(|spec| {
        spec.max_concurrency = 1;
        spec.max_queue = Some(10);
    })
    .await?;
    let (mut stub, long) = (server.stub(), server.greedy("Hello", 16_000));
    let running = Background::start(async move { stub.model_infer(long).await });
    server.until_occupancy(1, 0).await?;
    let mut call = InferStream::begin(&server).await?;
    for (number, level) in [
        None,
        Some(ParameterChoice::Uint64Param(u64::MAX)),
        Some(ParameterChoice::Int64Param(2)),
        Some(ParameterChoice::Int64Param(0)),
        Some(ParameterChoice::Uint64Param(1)),
        Some(ParameterChoice::Uint64Param(2)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut request = server.greedy("Hi", 200);
        request.id = number.to_string();
        let level = level.map(|level| ("priority".to_owned(), parameter(level)));
        request.parameters.extend(level);
        call.requests.send(request).await?;
        server
            .until_occupancy(1, u32::try_from(number + 1)?)
            .await?;
    }
    drop(running);
    let mut order = Vec::new();
    for _ in 0..6 {
        let response = call.next().await?.infer_response;
        order.push(response.context("a response")?.id);
    }
    assert_eq!(order, ["4", "2", "5", "1", "0", "3"]);
    Ok(())
}
