//! A scripted answer.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hangar_client::{
    v1,
    v1::{Embedding, FinishReason, GenerateChunk, GenerateDone, GenerateTimings, Usage},
};
use hangar_worker_protocol::v1::{
    EmbedRequest, GenerateRequest, GenerateResponse, generate_response,
};
use tonic::Status;

use super::{
    events::{ScriptedEvent, report},
    fault::broken_connection,
    gate::pass,
    work::CpuLoad,
    worker::Worker,
};

const DEFAULT_TOKENS: u32 = 16;

/// An answer that is being made. Dropped before its end it counts as given up by its caller.
#[derive(Debug)]
pub(super) struct ScriptedAnswer {
    worker: Arc<Worker>,
    request: GenerateRequest,
    /// Tokens made so far.
    made: u32,
    done: bool,
    /// The engine lets go of it no more.
    stuck: bool,
}

impl ScriptedAnswer {
    pub(super) fn new(worker: Arc<Worker>, request: GenerateRequest) -> Self {
        report(&worker.directory, ScriptedEvent::Generate);
        let answer = Self {
            worker,
            request,
            made: 0,
            done: false,
            stuck: false,
        };
        let worker = &answer.worker;
        worker.in_flight.fetch_add(1, Ordering::Relaxed);
        worker.prompts().reading.push(answer.prompt().into());
        worker.begun.notify_one();
        answer
    }

    /// As [`Self::new`], with a token for each text.
    pub(super) fn of_texts(worker: Arc<Worker>, request: EmbedRequest) -> Self {
        let texts = u32::try_from(request.inputs.len()).unwrap_or(u32::MAX);
        let request = v1::GenerateRequest {
            max_tokens: texts,
            ..v1::GenerateRequest::default()
        };
        let request = GenerateRequest {
            request: Some(request),
            ..GenerateRequest::default()
        };
        Self::new(worker, request)
    }

    /// A vector in place of each token.
    pub(super) async fn embeddings(mut self) -> Result<Vec<Embedding>, Status> {
        while self.next().await?.is_some() {}
        let embedding = Embedding {
            values: vec![1.0, 0.0],
            token_count: 1,
        };
        Ok(vec![embedding; self.made as usize])
    }

    /// The next response; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<GenerateResponse>, Status> {
        if self.done {
            return Ok(None);
        }
        self.fault().await?;
        let script = &self.worker.script.generate;
        if self.done {
            return Ok(None);
        }
        if script.nothing_after == Some(self.made) {
            self.done = true;
            return Ok(Some(GenerateResponse::default()));
        }
        if self.made >= self.length() {
            self.done = true;
            return Ok(Some(self.last()));
        }
        {
            let _work = CpuLoad::begin(script.work, &self.worker.engine_time)?;
            pass(&self.worker.directory, script.gate.as_deref()).await?;
        }
        if script.token_interval_ms > 0 {
            tokio::time::sleep(Duration::from_millis(script.token_interval_ms)).await;
        }
        Ok(Some(self.token()))
    }

    /// Does what the script wants after so many tokens.
    async fn fault(&mut self) -> Result<(), Status> {
        let script = &self.worker.script.generate;
        let now = Some(self.made);
        if script.hang_after == now {
            self.stuck = true;
            pending::<()>().await;
        }
        if script.die_after == now {
            self.worker.script.die_with.strike_soon().await;
        }
        if script.error_after == now {
            self.done = true;
            return Err(Status::internal("the script wants an error"));
        }
        if script.long_error_after == now {
            self.done = true;
            return Err(broken_connection());
        }
        self.done = script.end_after == now;
        Ok(())
    }

    fn token(&mut self) -> GenerateResponse {
        let text = match self.worker.script.generate.text.as_str() {
            "" => "t{i} ",
            text => text,
        };
        let text = text.replace("{i}", &self.made.to_string());
        let chunk = GenerateChunk {
            text,
            token_ids: vec![self.made % 256],
            ..GenerateChunk::default()
        };
        if self.made == 0 {
            let memory = self.worker.script.generate.memory_bytes;
            if memory > 0 {
                self.worker.take_memory(memory);
            }
            self.worker.prompts().leave(self.prompt().into(), true);
        }
        self.made += 1;
        self.worker.steps.fetch_add(1, Ordering::Relaxed);
        GenerateResponse {
            event: Some(generate_response::Event::Chunk(chunk)),
        }
    }

    fn last(&self) -> GenerateResponse {
        let reason = if self.made == self.limit() {
            FinishReason::Length
        } else {
            FinishReason::Stop
        };
        let done = GenerateDone {
            finish_reason: reason.into(),
            usage: Some(Usage {
                prompt_tokens: self.prompt(),
                completion_tokens: self.made,
                reasoning_tokens: 0,
            }),
            timings: Some(GenerateTimings {
                queued: self.request.queued,
                ..GenerateTimings::default()
            }),
            ..GenerateDone::default()
        };
        GenerateResponse {
            event: Some(generate_response::Event::Done(done)),
        }
    }

    fn length(&self) -> u32 {
        self.worker
            .script
            .generate
            .tokens
            .unwrap_or(u32::MAX)
            .min(self.limit())
    }

    fn limit(&self) -> u32 {
        let script = self.worker.script.generate.tokens;
        match self
            .request
            .request
            .as_ref()
            .map_or(0, |request| request.max_tokens)
        {
            0 => script.map_or(DEFAULT_TOKENS, |tokens| tokens.saturating_add(1)),
            limit => limit,
        }
    }

    /// One token for each byte.
    fn prompt(&self) -> u32 {
        let length = self.request.request.as_ref().map_or(0, |request| {
            let messages: usize = request.messages.iter().map(|m| m.content.len()).sum();
            request.prompt.len() + messages
        });
        u32::try_from(length).unwrap_or(u32::MAX)
    }
}

impl Drop for ScriptedAnswer {
    fn drop(&mut self) {
        if !self.stuck {
            if self.made == 0 {
                self.worker.prompts().leave(self.prompt().into(), false);
            }
            self.worker.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        let event = if self.done {
            ScriptedEvent::GenerateDone
        } else {
            ScriptedEvent::GenerateDropped
        };
        report(&self.worker.directory, event);
    }
}
