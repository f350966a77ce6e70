//! Snapshots that do not fit into one message.

use anyhow::Result;
use hangar_tests::{fixtures::Fixtures, server::TestServer};
use prost::Message;

use super::{
    frequent_changes::{MODELS, fail, fail_many, unusable_at_length},
    raw::{behind, of, open, snapshot_of},
};

const PART: usize = 32 << 10;

#[hangar_tests::test]
async fn a_large_snapshot_comes_in_small_parts() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let path = unusable_at_length(&fixtures)?;
    fail_many(&client, &path).await?;
    let mut watch = open(&client, of(&[])).await?;
    let whole = watch.snapshot().await?;
    let ids: Vec<_> = whole
        .models
        .iter()
        .map(|model| model.model_id.clone())
        .collect();
    let expected: Vec<_> = (0..MODELS).map(|n| format!("model-{n:03}")).collect();
    assert_eq!(ids, expected);
    assert!(whole.models.iter().all(|model| model.message.len() > 3000));
    assert!(!whole.reset);
    assert!(whole.parts.len() > 8, "{} parts", whole.parts.len());
    for (n, part) in whole.parts.iter().enumerate() {
        assert!(
            part.encoded_len() <= PART,
            "part {n}: {} bytes",
            part.encoded_len()
        );
        assert_eq!(snapshot_of(part)?.complete, n + 1 == whole.parts.len());
    }

    // Half a snapshot is none: whoever goes on behind a part begins anew, and is reset.
    let mut resumed = open(&client, behind(&whole.parts[0].resume_token, &[])).await?;
    let again = resumed.snapshot().await?;
    assert!(again.reset);
    assert_eq!(again.models.len(), MODELS);

    fail(&client, "model-000", &path).await?;
    let next = resumed.transition().await?.revision;
    assert_eq!(next, 3 * MODELS as u64 + 1);
    Ok(())
}
