//! What answers have to conform to: which tokens may come next.
//!
//! A grammar comes from a caller, and compiling or following one can take any time, any memory and any
//! depth of the stack, whatever limits the library has. So grammars live in a process of their own, which
//! this program starts from itself: it may take only so much memory and time, and when it dies its one
//! answer ends with an error, nothing else. A process is used again by the next answer; it ends when its
//! standard input does.

mod child;
mod parent;
mod wire;

use std::{
    io::ErrorKind,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

pub(crate) use child::{ARGUMENT, serve};
use hangar_client::v1::{Constraint, constraint::Constraint as Notation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::{
    parent::{GrammarProcess, WaitLimit},
    wire::{GrammarCall, GrammarKind, GrammarReply, NewGrammar, TokenTable},
};
use crate::{
    call_work::{on_thread, slot},
    grpc_error,
    vocabulary::Vocabulary,
};

/// How long a process may take to start and to read the model's tokens.
const START_TIME: Duration = Duration::from_secs(10);

/// How long a grammar may take to compile, what is left of the start of its process included.
const COMPILE_TIME: Duration = Duration::from_secs(5);

/// How long a grammar may take to say which tokens may come next.
const STEP_TIME: Duration = Duration::from_secs(5);

/// Memory of a process that may wait for its next grammar, in bytes.
const IDLE_MEMORY: u64 = 128 << 20;

/// Most grammars at a time, however many requests the engine takes.
const MAX_GRAMMARS: usize = 8;

/// Makes the grammars of one model. Clones share its processes.
#[derive(Clone)]
pub(crate) struct Grammars {
    vocabulary: Vocabulary,
    idle: Arc<IdleProcess>,
    /// One for each grammar that there may be: a process is either that of one, or the idle one, which is taken first.
    slots: Arc<Semaphore>,
}

/// A process that waits for its next grammar.
#[derive(Default)]
struct IdleProcess(Mutex<Option<GrammarProcess>>);

/// A grammar that is to be compiled.
struct GrammarSource {
    /// Field of the request that holds it.
    field: &'static str,
    kind: GrammarKind,
    text: String,
}

/// The grammar of one answer.
pub(crate) struct Grammar {
    /// `None` once it failed.
    process: Option<GrammarProcess>,
    idle: Arc<IdleProcess>,
    /// The last answer of the process, until it was used.
    reply: Option<GrammarReply>,
    /// Field of the request that holds the grammar.
    field: &'static str,
    /// Cancelled when nobody waits for the answer any more.
    cancelled: CancellationToken,
    /// Last: given back when the process has ended, or is idle.
    _slot: OwnedSemaphorePermit,
}

/// How an answer stands with its grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrammarState {
    /// Some tokens may come next.
    Open,
    /// It conforms, and nothing can be added.
    Complete,
}

/// An answer cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GrammarError {
    /// Its grammar cannot be followed.
    #[error("{field}: {why}")]
    Refused {
        /// Field of the request that holds the grammar.
        field: &'static str,
        /// In words.
        why: String,
    },
    /// Nobody waits for it any more.
    #[error("nobody waits for it any more")]
    Cancelled,
}

impl Grammars {
    /// Grammars of answers in this vocabulary, for an engine that takes so many requests at a time: one more may be
    /// compiled meanwhile.
    pub(crate) fn new(vocabulary: Vocabulary, concurrency: usize) -> Self {
        let slots = concurrency.saturating_add(1).min(MAX_GRAMMARS);
        Self {
            vocabulary,
            idle: Arc::default(),
            slots: Arc::new(Semaphore::new(slots)),
        }
    }

    /// Compiles a constraint, which the request has in the field `origin`, or else in its own: once there is a slot for
    /// it, for [`START_TIME`] and [`COMPILE_TIME`] at most, and until it is `cancelled`, which ends the grammar at any
    /// time.
    pub(crate) async fn begin(
        &self,
        constraint: &Constraint,
        origin: Option<&'static str>,
        cancelled: &CancellationToken,
    ) -> Result<Grammar, Status> {
        let source = GrammarSource::of(constraint, origin)?;
        let slot = slot(&self.slots, cancelled).await?;
        let (grammars, cancelled) = (self.clone(), cancelled.clone());
        on_thread(move || grammars.compile(source, cancelled, slot)).await
    }

    fn compile(
        &self,
        source: GrammarSource,
        cancelled: CancellationToken,
        slot: OwnedSemaphorePermit,
    ) -> Result<Grammar, Status> {
        let process = match self.process(&cancelled) {
            Ok(process) => process,
            Err(_) if cancelled.is_cancelled() => return Err(GrammarError::Cancelled.into()),
            Err(e) => {
                let why = format!("no process for grammars could be started: {e}");
                return Err(grpc_error::internal(why));
            }
        };
        let mut grammar = Grammar {
            process: Some(process),
            idle: Arc::clone(&self.idle),
            reply: None,
            field: source.field,
            cancelled,
            _slot: slot,
        };
        let begin = NewGrammar {
            kind: source.kind.into(),
            text: source.text,
        };
        let deadline = Instant::now() + COMPILE_TIME;
        grammar.ask(&GrammarCall::begin(begin), deadline)?;
        grammar.reply = Some(grammar.receive(deadline)?);
        Ok(grammar)
    }

    /// Ends the process that waits for a next grammar: none is to come.
    pub(crate) fn end(&self) {
        drop(self.idle.take());
    }

    /// An idle process, else a new one.
    fn process(&self, cancelled: &CancellationToken) -> std::io::Result<GrammarProcess> {
        if let Some(process) = self.idle.take() {
            return Ok(process);
        }
        let limit = WaitLimit {
            deadline: Instant::now() + START_TIME,
            cancelled,
        };
        let mut process = GrammarProcess::start()?;
        let tokens = (0..self.vocabulary.known()).map(|token| self.vocabulary.grammar_bytes(token));
        let table = GrammarCall::table(TokenTable {
            tokens: tokens.collect(),
        });
        process.send(&table, limit)?;
        Ok(process)
    }
}

impl GrammarSource {
    fn of(constraint: &Constraint, origin: Option<&'static str>) -> Result<Self, Status> {
        let (field, kind, text) = match &constraint.constraint {
            Some(Notation::JsonSchema(text)) => {
                ("constraint.json_schema", GrammarKind::JsonSchema, text)
            }
            Some(Notation::Regex(text)) => ("constraint.regex", GrammarKind::Regex, text),
            Some(Notation::Lark(text)) => ("constraint.lark", GrammarKind::Lark, text),
            None => {
                return Err(grpc_error::invalid_field(
                    "constraint",
                    "give json_schema, regex or lark",
                ));
            }
        };
        Ok(Self {
            field: origin.unwrap_or(field),
            kind,
            text: text.clone(),
        })
    }
}

impl IdleProcess {
    fn take(&self) -> Option<GrammarProcess> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps a process for the next answer. One is enough: further ones end.
    fn keep(&self, process: GrammarProcess) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = match &*idle {
            None => idle.replace(process),
            Some(_) => Some(process),
        };
        // Its end is waited for without the lock.
        drop(idle);
        drop(spare);
    }
}

impl Grammar {
    /// Cancelling it ends the grammar, and whoever waits for it.
    pub(crate) fn cancellation(&self) -> CancellationToken {
        self.cancelled.clone()
    }

    /// Leaves only the logits of tokens that may come next; of the tokens that end an answer, only where
    /// it may end. Blocks for [`STEP_TIME`] at most.
    pub(crate) fn restrict(
        &mut self,
        logits: &mut [f32],
        eos_token_ids: &[u32],
    ) -> Result<GrammarState, GrammarError> {
        let reply = match self.reply.take() {
            Some(reply) => reply,
            None => self.receive(Instant::now() + STEP_TIME)?,
        };
        if reply.complete {
            return Ok(GrammarState::Complete);
        }
        let ends: Vec<(usize, f32)> = eos_token_ids
            .iter()
            .map(|token| *token as usize)
            .filter_map(|token| Some((token, *logits.get(token)?)))
            .collect();
        let mut open = false;
        for (token, logit) in logits.iter_mut().enumerate() {
            let word = reply.mask.get(token / 32).copied().unwrap_or(0);
            let is_end = ends.iter().any(|(end, _)| *end == token);
            if is_end || word >> (token % 32) & 1 == 0 {
                *logit = f32::NEG_INFINITY;
            } else {
                open = true;
            }
        }
        if reply.accepting {
            for (token, logit) in ends {
                logits[token] = logit;
            }
        } else if !open {
            return Err(self.error("no token of the model can go on with it"));
        }
        Ok(if open {
            GrammarState::Open
        } else {
            GrammarState::Complete
        })
    }

    /// Goes on behind this token.
    pub(crate) fn accept(&mut self, token: u32) {
        // What went wrong shows when the next tokens are asked for.
        let _ = self.ask(&GrammarCall::after(token), Instant::now() + STEP_TIME);
    }

    fn ask(&mut self, call: &GrammarCall, deadline: Instant) -> Result<(), GrammarError> {
        let cancelled = &self.cancelled;
        let limit = WaitLimit {
            deadline,
            cancelled,
        };
        let sent = self.process.as_mut().map(|it| it.send(call, limit));
        match sent {
            Some(Ok(())) => Ok(()),
            // Its end shows when it is read from.
            Some(Err(e)) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
            Some(Err(e)) => Err(self.fail(e.kind())),
            None => Err(self.process_failed()),
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<GrammarReply, GrammarError> {
        let cancelled = &self.cancelled;
        let limit = WaitLimit {
            deadline,
            cancelled,
        };
        let Some(process) = self.process.as_mut() else {
            return Err(self.process_failed());
        };
        match process.receive(limit) {
            Ok(GrammarReply { failed, .. }) if !failed.is_empty() => Err(self.error(failed)),
            Ok(reply) => Ok(reply),
            Err(e) => Err(self.fail(e.kind())),
        }
    }

    /// The process is of no use any more.
    fn fail(&mut self, kind: ErrorKind) -> GrammarError {
        self.process = None;
        match kind {
            _ if self.cancelled.is_cancelled() => GrammarError::Cancelled,
            ErrorKind::TimedOut => self.error("takes too long to follow; make it simpler"),
            _ => self.process_failed(),
        }
    }

    fn process_failed(&mut self) -> GrammarError {
        self.process = None;
        self.error("takes more memory than a grammar may; make it simpler")
    }

    fn error(&self, why: impl Into<String>) -> GrammarError {
        GrammarError::Refused {
            field: self.field,
            why: why.into(),
        }
    }
}

impl Drop for Grammar {
    /// A process that owes no answer can be used again, unless it holds on to much memory.
    fn drop(&mut self) {
        if let Some(process) = self.process.take()
            && !process.is_busy()
            && process.resident() <= IDLE_MEMORY
        {
            self.idle.keep(process);
        }
    }
}

impl From<GrammarError> for Status {
    fn from(error: GrammarError) -> Self {
        match error {
            GrammarError::Refused { field, why } => grpc_error::invalid_field(field, why),
            GrammarError::Cancelled => grpc_error::unloaded(),
        }
    }
}
