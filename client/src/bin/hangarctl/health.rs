//! `hangarctl health`: the standard gRPC health service.

use std::time::Duration;

use hangar_client::{Client, Error};
use serde_json::json;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    args::HealthArgs,
    output::{Failure, Writer},
};

/// Time for the answer.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn run(client: &Client, args: HealthArgs, writer: &Writer) -> Result<(), Failure> {
    let request = HealthCheckRequest {
        service: args.service.clone(),
    };
    let mut stub = HealthClient::new(client.transport());
    let answer = tokio::time::timeout(LIMIT, stub.check(request)).await;
    let answer = answer.map_err(|_| Error::Deadline { deadline: LIMIT })?;
    let status = answer
        .map_err(|status| Error::from_answer(client, status))?
        .into_inner()
        .status();
    let name = status.as_str_name();
    if writer.is_json() {
        writer.line(&json!({ "status": name }).to_string())?;
    } else {
        writer.line(name)?;
    }
    match status {
        ServingStatus::Serving => Ok(()),
        _ => Err(Failure::Message(format!("{} is {name}", args.service))),
    }
}
