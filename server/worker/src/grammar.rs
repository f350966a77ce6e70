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
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub(crate) use child::{ARGUMENT, serve};
use hangar_client::v1::{Constraint, constraint::Constraint as Notation};
use tonic::Status;

use self::{
    parent::GrammarProcess,
    wire::{GrammarCall, GrammarKind, GrammarReply, NewGrammar, TokenTable},
};
use crate::{grpc_error, vocabulary::Vocabulary};

/// How long a grammar may take to compile, the start of its process included.
const COMPILE_TIME: Duration = Duration::from_secs(5);

/// How long a grammar may take to say which tokens may come next.
const STEP_TIME: Duration = Duration::from_secs(5);

/// Memory of a process that may wait for its next grammar, in bytes.
const IDLE_MEMORY: u64 = 128 << 20;

/// Makes the grammars of one model.
pub(crate) struct Grammars {
    vocabulary: Vocabulary,
    idle: Arc<IdleProcess>,
}

/// A process that waits for its next grammar.
#[derive(Default)]
struct IdleProcess(Mutex<Option<GrammarProcess>>);

/// The grammar of one answer.
pub(crate) struct Grammar {
    /// `None` once it failed.
    process: Option<GrammarProcess>,
    idle: Arc<IdleProcess>,
    /// What the process said last, until it was used.
    reply: Option<GrammarReply>,
    /// Field of the request that holds the grammar.
    field: &'static str,
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
#[error("{field}: {why}")]
pub(crate) struct GrammarError {
    field: &'static str,
    why: String,
}

impl Grammars {
    /// Grammars of answers in this vocabulary.
    pub(crate) fn new(vocabulary: Vocabulary) -> Self {
        Self {
            vocabulary,
            idle: Arc::default(),
        }
    }

    /// Compiles a constraint, which the request has in the field `origin`, or else in its own. Blocks for
    /// [`COMPILE_TIME`] at most.
    pub(crate) fn begin(
        &self,
        constraint: &Constraint,
        origin: Option<&'static str>,
    ) -> Result<Grammar, Status> {
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
        let process = self.process().map_err(|e| {
            grpc_error::internal(format!("no process for grammars could be started: {e}"))
        })?;
        let mut grammar = Grammar {
            process: Some(process),
            idle: Arc::clone(&self.idle),
            reply: None,
            field: origin.unwrap_or(field),
        };
        let begin = NewGrammar {
            kind: kind.into(),
            text: text.clone(),
        };
        let begun = grammar.ask(&GrammarCall::begin(begin)).and_then(|()| {
            let first = grammar.receive(COMPILE_TIME)?;
            grammar.reply = Some(first);
            Ok(())
        });
        match begun {
            Ok(()) => Ok(grammar),
            Err(e) => Err(e.into()),
        }
    }

    /// An idle process, else a new one.
    fn process(&self) -> std::io::Result<GrammarProcess> {
        if let Some(process) = self.idle.take() {
            return Ok(process);
        }
        let mut process = GrammarProcess::start()?;
        let tokens = (0..self.vocabulary.known()).map(|token| self.vocabulary.grammar_bytes(token));
        process.send(&GrammarCall::table(TokenTable {
            tokens: tokens.collect(),
        }))?;
        Ok(process)
    }
}

impl IdleProcess {
    fn take(&self) -> Option<GrammarProcess> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps a process for the next answer. One is enough: further ones end.
    fn keep(&self, process: GrammarProcess) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get_or_insert(process);
    }
}

impl Grammar {
    /// Leaves only the logits of tokens that may come next; of the tokens that end an answer, only where
    /// it may end. Blocks for [`STEP_TIME`] at most.
    pub(crate) fn restrict(
        &mut self,
        logits: &mut [f32],
        eos_token_ids: &[u32],
    ) -> Result<GrammarState, GrammarError> {
        let reply = match self.reply.take() {
            Some(reply) => reply,
            None => self.receive(STEP_TIME)?,
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
        let _ = self.ask(&GrammarCall::after(token));
    }

    fn ask(&mut self, call: &GrammarCall) -> Result<(), GrammarError> {
        let sent = self.process.as_mut().map(|process| process.send(call));
        match sent {
            Some(Ok(())) => Ok(()),
            // Its end shows when it is read from.
            Some(Err(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(self.process_failed()),
        }
    }

    fn receive(&mut self, within: Duration) -> Result<GrammarReply, GrammarError> {
        let Some(process) = self.process.as_mut() else {
            return Err(self.process_failed());
        };
        match process.receive(within) {
            Ok(GrammarReply { failed, .. }) if !failed.is_empty() => Err(self.error(failed)),
            Ok(reply) => Ok(reply),
            Err(e) => {
                self.process = None;
                Err(match e.kind() {
                    std::io::ErrorKind::TimedOut => {
                        self.error("takes too long to follow; make it simpler")
                    }
                    _ => self.process_failed(),
                })
            }
        }
    }

    fn process_failed(&mut self) -> GrammarError {
        self.process = None;
        self.error("takes more memory than a grammar may; make it simpler")
    }

    fn error(&self, why: impl Into<String>) -> GrammarError {
        GrammarError {
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
        grpc_error::invalid_field(error.field, error.why)
    }
}
