//! A collector that keeps what it is sent over OTLP.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::any_value::Value,
    resource::v1::Resource,
    trace::v1::{Span, span::SpanKind},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A running collector. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    /// Where it listens.
    pub(crate) url: String,
    received: Received,
    _task: JoinSet<()>,
}

/// A span and the service that it is of.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) service: String,
    pub(crate) span: Span,
}

/// All spans of a moment.
#[derive(Clone, Debug)]
pub(crate) struct Trace(pub(crate) Vec<Recorded>);

#[derive(Clone, Debug, Default)]
struct Received(Arc<Mutex<Vec<Recorded>>>);

impl Collector {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let received = Received::default();
        let serving = Server::builder()
            .add_service(TraceServiceServer::new(received.clone()))
            .add_service(MetricsServiceServer::new(received.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Ends with the test.
            let _ = serving.await;
        });
        Ok(Self {
            url,
            received,
            _task: task,
        })
    }

    /// What came so far. Complete once the processes that sent it have ended.
    pub(crate) fn spans(&self) -> Trace {
        let received = self.received.0.lock();
        Trace(received.unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Recorded {
    /// As "service: name".
    pub(crate) fn title(&self) -> String {
        format!("{}: {}", self.service, self.span.name)
    }

    /// The text of an attribute.
    pub(crate) fn attribute(&self, key: &str) -> Option<&str> {
        let attribute = self
            .span
            .attributes
            .iter()
            .find(|attribute| attribute.key == key)?;
        match attribute.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number of an attribute.
    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        let attributes = self.span.attributes.iter();
        let attribute = attributes.into_iter().find(|one| one.key == key)?;
        match attribute.value.as_ref()?.value.as_ref()? {
            Value::IntValue(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn is_kind(&self, kind: SpanKind) -> bool {
        self.span.kind() == kind
    }
}

impl Trace {
    /// The only span of this title.
    pub(crate) fn one(&self, title: &str) -> Result<&Recorded> {
        let found: Vec<_> = self.0.iter().filter(|span| span.title() == title).collect();
        let titles: Vec<_> = self.0.iter().map(Recorded::title).collect();
        anyhow::ensure!(
            found.len() == 1,
            "{} of {title:?} in {titles:#?}",
            found.len()
        );
        Ok(found[0])
    }

    /// The titles from a span up to the one that has no parent here. All are of one trace.
    pub(crate) fn path(&self, from: &Recorded) -> Result<Vec<String>> {
        let mut path = vec![from.title()];
        let mut span = &from.span;
        while !span.parent_span_id.is_empty() {
            let parent = self
                .0
                .iter()
                .find(|other| other.span.span_id == span.parent_span_id);
            let Some(parent) = parent else { break };
            anyhow::ensure!(
                parent.span.trace_id == span.trace_id,
                "two traces in {path:?}"
            );
            anyhow::ensure!(path.len() < 100, "a circle: {path:?}");
            path.push(parent.title());
            span = &parent.span;
        }
        Ok(path)
    }
}

fn service(resource: Option<Resource>) -> Option<String> {
    let attributes = resource?.attributes;
    let name = attributes
        .into_iter()
        .find(|attribute| attribute.key == "service.name")?;
    match name.value?.value? {
        Value::StringValue(name) => Some(name),
        _ => None,
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            let service = service(spans.resource).context("no service.name");
            let service = service.map_err(|error| Status::invalid_argument(error.to_string()))?;
            let spans = spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let spans = spans.map(|span| Recorded {
                service: service.clone(),
                span,
            });
            let mut received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            received.extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        _: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
