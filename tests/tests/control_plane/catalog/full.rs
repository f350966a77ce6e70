//! A disk that takes no more.

use hangar_client::v1::ListModelsRequest;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::*;

impl CatalogServer {
    /// Lets no file of the server grow beyond so many bytes.
    fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        let pid = i32::try_from(self.pid())?;
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(Pid::from_raw(pid), Resource::Fsize, limit)?;
        Ok(())
    }

    async fn total(&mut self) -> Result<u64> {
        let page = self.catalog.list_models(ListModelsRequest::default());
        Ok(page.await?.into_inner().total_size)
    }
}

#[hangar_tests::test]
async fn a_full_disk_is_reported_and_nothing_is_lost() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let directory = tempfile::tempdir()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .data_in(directory.path());
    let mut server = CatalogServer::with(&options).await?;
    let first = server.create("first").await?;
    server.limit_files(Some(300_000))?;
    let mut created = 1;
    let refused = loop {
        let request = CreateModelRequest {
            spec: Some(ModelSpec {
                description: "é".repeat(4096),
                ..named("m")
            }),
            request_id: format!("r{created}"),
            ..new(&format!("m{created}"))
        };
        match server.catalog.create_model(request).await {
            Ok(_) => created += 1,
            refused => break refused,
        }
        anyhow::ensure!(created < 1_000, "the disk is never full");
    };
    let code = Code::ResourceExhausted;
    let refused = refusal(refused, code, ErrorReason::StorageFull);
    assert_eq!(refused.details().quotas.len(), 1);
    // Less may still fit, until that is full too.
    let mut last = first;
    let refused = loop {
        let name = format!("version {}", last.version + 1);
        match server.update(renamed(&last, &name)).await {
            Ok((updated, _)) => last = updated,
            refused => break refused,
        }
        anyhow::ensure!(last.version < 1_000, "the disk is never full");
    };
    refusal(refused, code, ErrorReason::StorageFull);
    // What is there can be read, and is all there.
    assert_eq!(server.total().await?, created);
    assert_eq!(server.get("first").await?, last);

    server.limit_files(None)?;
    let (last, _) = server.update(renamed(&last, "new")).await?;
    server.create(&format!("m{created}")).await?;
    server.server.kill()?;
    let hangar = options.start().await?;
    let mut catalog = catalog(&hangar).await?;
    for n in 1..=created {
        get(&mut catalog, &format!("m{n}")).await?;
    }
    assert_eq!(get(&mut catalog, "first").await?, last);
    Ok(())
}
