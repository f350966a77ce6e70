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

    /// Registers large models `m1`, `m2` and so on beside one that is there. Gives how many there are then.
    async fn create_until_refused(&mut self) -> Result<(u64, Status)> {
        for created in 1..1_000 {
            let request = CreateModelRequest {
                spec: Some(ModelSpec {
                    description: "é".repeat(4096),
                    ..named("m")
                }),
                request_id: format!("r{created}"),
                ..new(&format!("m{created}"))
            };
            if let Err(refused) = self.catalog.create_model(request).await {
                return Ok((created, refused));
            }
        }
        anyhow::bail!("the disk is never full")
    }

    /// Gives a model one name after another, and the model with its last.
    async fn rename_until_refused(&mut self, model: Model) -> Result<(Model, Status)> {
        let mut last = model;
        while last.version < 1_000 {
            let name = format!("version {}", last.version + 1);
            match self.update(renamed(&last, &name)).await {
                Ok((updated, _)) => last = updated,
                Err(refused) => return Ok((last, refused)),
            }
        }
        anyhow::bail!("the disk is never full")
    }
}

/// Makes sure that this is what a server refuses with whose disk is full.
#[track_caller]
fn assert_full(refused: Status) -> Refusal {
    let (code, reason) = (Code::ResourceExhausted, ErrorReason::StorageFull);
    refusal(Err::<(), _>(refused), code, reason)
}

#[hangar_tests::test]
async fn a_full_disk_is_reported_and_nothing_is_lost() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let options = TestServer::scripted()
        .fixtures(&Fixtures::new()?)
        .data_in(directory.path());
    let mut server = CatalogServer::with(&options).await?;
    let first = server.create("first").await?;
    server.limit_files(Some(300_000))?;
    let (created, refused) = server.create_until_refused().await?;
    assert_eq!(assert_full(refused).details().quotas.len(), 1);
    // Less may still fit, until that is full too.
    let (last, refused) = server.rename_until_refused(first).await?;
    assert_full(refused);
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
