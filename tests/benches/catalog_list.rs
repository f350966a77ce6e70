//! How long pages of a list of 100,000 models take, and whether that depends on where they are.
//!
//! Run with `cargo list-bench`. Fills a catalog through CreateModel, then asks in turn for the first, the
//! middle and the last page of each order, and prints what 50 and 95 of 100 calls took at most. At the end it
//! kills the server and starts it again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use hangar_client::v1::{
    CreateModelRequest, DemoSource, ListModelsRequest, ModelOrder, ModelSource, ModelSpec,
    catalog_service_client::CatalogServiceClient, model_source::Source,
};
use hangar_tests::server::{TestServer, Worker};
use tonic::transport::Channel;

type Catalog = CatalogServiceClient<Channel>;

/// Models in the catalog.
const MODELS: u32 = 100_000;

/// Entries of a page: the default.
const PAGE: u32 = 50;

/// Calls of each sort.
const ROUNDS: usize = 500;

/// Calls at the same time while the catalog is filled.
const WRITERS: usize = 32;

/// Tokens of the pages of one order that are timed.
struct Pages {
    first: String,
    middle: String,
    last: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let options = TestServer::real()
        .without_root()
        .worker(Worker::At(std::env::current_exe()?))
        .data_in(directory.path());
    let hangar = options.start().await?;
    let mut catalog = Catalog::connect(hangar.url()).await?;
    let filled = fill(&catalog).await?;
    println!(
        "{MODELS} models created in {:.1} s ({:.0} a second, {WRITERS} at a time)",
        filled.as_secs_f64(),
        f64::from(MODELS) / filled.as_secs_f64()
    );
    println!("pages of {PAGE}, {ROUNDS} calls of each, in turn; milliseconds");
    println!("order        page      p50     p95");
    for (order, name) in [
        (ModelOrder::Id, "id"),
        (ModelOrder::CreateTime, "create_time"),
        (ModelOrder::UpdateTime, "update_time"),
    ] {
        report(&mut catalog, order, name).await?;
    }
    // As after a crash: the journal has to be read too.
    hangar.kill()?;
    let began = Instant::now();
    let hangar = options.start().await?;
    println!("started again in {:.2} s", began.elapsed().as_secs_f64());
    hangar.terminate().await?;
    Ok(())
}

async fn fill(catalog: &Catalog) -> Result<Duration> {
    let began = Instant::now();
    stream::iter(0..MODELS)
        .map(|n| {
            let mut catalog = catalog.clone();
            async move { catalog.create_model(model(n)).await.map(drop) }
        })
        .buffer_unordered(WRITERS)
        .try_collect::<()>()
        .await?;
    Ok(began.elapsed())
}

fn model(n: u32) -> CreateModelRequest {
    CreateModelRequest {
        model_id: format!("team-{}/model-{n:06}", n % 7),
        spec: Some(ModelSpec {
            source: Some(ModelSource {
                source: Some(Source::Demo(DemoSource {})),
            }),
            display_name: format!("Model {n}"),
            labels: [("team".to_owned(), (n % 7).to_string())].into(),
            ..ModelSpec::default()
        }),
        ..CreateModelRequest::default()
    }
}

async fn report(catalog: &mut Catalog, order: ModelOrder, name: &str) -> Result<()> {
    let pages = pages(catalog, order).await?;
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (token, times) in [&pages.first, &pages.middle, &pages.last]
            .iter()
            .zip(&mut times)
        {
            let request = page(order, token, PAGE);
            let began = Instant::now();
            let answer = catalog.list_models(request).await?.into_inner();
            times.push(began.elapsed());
            anyhow::ensure!(answer.models.len() == PAGE as usize);
            anyhow::ensure!(answer.total_size == u64::from(MODELS));
        }
    }
    for (page, times) in ["first", "middle", "last"].iter().zip(&mut times) {
        times.sort_unstable();
        let (p50, p95) = (quantile(times, 50), quantile(times, 95));
        println!("{name:12} {page:7} {p50:7.2} {p95:7.2}");
    }
    let ratio = quantile(&times[2], 50) / quantile(&times[0], 50);
    println!("{name:12} last / first at p50: {ratio:.2}");
    Ok(())
}

/// Walks through the whole list for the tokens.
async fn pages(catalog: &mut Catalog, order: ModelOrder) -> Result<Pages> {
    let (mut middle, mut last) = (None, None);
    let mut token = String::new();
    let mut seen = 0;
    while seen < MODELS - PAGE {
        let size = (MODELS - PAGE - seen).min(1000);
        let answer = catalog
            .list_models(page(order, &token, size))
            .await?
            .into_inner();
        seen += u32::try_from(answer.models.len())?;
        token = answer.next_page_token;
        if seen >= MODELS / 2 {
            middle.get_or_insert_with(|| token.clone());
        }
        last = Some(token.clone());
    }
    Ok(Pages {
        first: String::new(),
        middle: middle.context("a middle")?,
        last: last.context("an end")?,
    })
}

fn page(order: ModelOrder, token: &str, size: u32) -> ListModelsRequest {
    ListModelsRequest {
        page_size: size,
        page_token: token.to_owned(),
        order_by: order.into(),
        ..ListModelsRequest::default()
    }
}

/// In milliseconds, of sorted times.
fn quantile(times: &[Duration], percent: usize) -> f64 {
    let at = (times.len() * percent / 100).min(times.len() - 1);
    times[at].as_secs_f64() * 1e3
}
