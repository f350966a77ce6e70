//! The responses of one request.

use bytes::Bytes;
use hangar_client::{
    inference::ModelInferResponse,
    v1::{FinishReason, GenerateChunk, GenerateDone, TokenLogprob},
};
use serde_json::{Map, Value, json};

use super::{
    conventions::{CUMULATIVE, FINISH_REASON, INPUT_TOKENS, LOGPROBS, OUTPUT_TOKENS, TEXT_OUTPUT},
    tensors::{self, Element},
    text_request::TextForm,
};

/// Makes responses of what a generation gives.
#[derive(Debug)]
pub(super) struct TextResponse {
    form: TextForm,
    /// What no response has had yet.
    text: String,
    tokens: u32,
    logprobs: Vec<TokenLogprob>,
    /// Tokens that responses have had.
    reported: u32,
    cumulative: f32,
}

impl TextResponse {
    /// Nothing yet.
    pub(super) fn new(mut form: TextForm) -> Self {
        Self {
            text: std::mem::take(&mut form.echo),
            form,
            tokens: 0,
            logprobs: Vec::new(),
            reported: 0,
            cumulative: 0.0,
        }
    }

    /// Keeps `chunk` for the next response.
    pub(super) fn add(&mut self, chunk: GenerateChunk) {
        self.text.push_str(&chunk.text);
        self.tokens += u32::try_from(chunk.token_ids.len()).unwrap_or(u32::MAX);
        let logprobs = chunk.logprobs.iter().map(|token| token.logprob);
        self.cumulative += logprobs.sum::<f32>();
        self.logprobs.extend(chunk.logprobs);
    }

    /// A response with `chunk` and all that was kept.
    pub(super) fn piece(&mut self, chunk: GenerateChunk) -> ModelInferResponse {
        self.add(chunk);
        self.give(None)
    }

    /// The response that ends the answer, with all that was kept.
    pub(super) fn end(&mut self, done: &GenerateDone) -> ModelInferResponse {
        // The end knows of tokens that came in no chunk.
        let usage = done.usage.unwrap_or_default();
        self.tokens = usage.completion_tokens.saturating_sub(self.reported);
        self.give(Some(done))
    }

    /// A response without outputs.
    pub(super) fn empty(&self) -> ModelInferResponse {
        ModelInferResponse {
            model_name: self.form.model.clone(),
            model_version: self.form.version.clone(),
            id: self.form.id.clone(),
            ..ModelInferResponse::default()
        }
    }

    fn give(&mut self, done: Option<&GenerateDone>) -> ModelInferResponse {
        let mut response = self.empty();
        self.reported += self.tokens;
        let tokens = std::mem::take(&mut self.tokens);
        let text = std::mem::take(&mut self.text);
        let logprobs = std::mem::take(&mut self.logprobs);
        for tensor in &self.form.outputs {
            let element = if *tensor == TEXT_OUTPUT {
                Some(Element::Bytes(text.clone().into()))
            } else if *tensor == FINISH_REASON {
                let reason = done.map(GenerateDone::finish_reason).unwrap_or_default();
                Some(Element::Bytes(Bytes::from_static(finish(reason))))
            } else if *tensor == INPUT_TOKENS {
                // No piece knows it.
                done.map(|done| Element::Uint32(done.usage.unwrap_or_default().prompt_tokens))
            } else if *tensor == OUTPUT_TOKENS {
                Some(Element::Uint32(tokens))
            } else if *tensor == LOGPROBS {
                Some(Element::Bytes(json_of(&logprobs).to_string().into()))
            } else {
                (*tensor == CUMULATIVE).then_some(Element::Fp32(self.cumulative))
            };
            if let Some(element) = element {
                tensors::write(&mut response, tensor, element, self.form.raw);
            }
        }
        response
    }
}

/// The name that vLLM has for `reason`.
fn finish(reason: FinishReason) -> &'static [u8] {
    match reason {
        FinishReason::Unspecified => b"None",
        FinishReason::Stop => b"stop",
        FinishReason::Length => b"length",
        FinishReason::ToolCalls => b"tool_calls",
    }
}

/// Log probabilities in the form of Triton's vLLM backend.
fn json_of(logprobs: &[TokenLogprob]) -> Value {
    let of = |logprob: f32, rank: Option<usize>, text: &str| json!({"logprob": logprob, "rank": rank, "decoded_token": text});
    let token = |token: &TokenLogprob| {
        let mut all: Map<String, Value> = Map::new();
        let chosen = |id| id == token.token_id;
        let rank = token.top.iter().position(|top| chosen(top.token_id));
        all.insert(
            token.token_id.to_string(),
            of(token.logprob, rank.map(|at| at + 1), &token.text),
        );
        for (at, top) in token.top.iter().enumerate() {
            all.entry(top.token_id.to_string())
                .or_insert_with(|| of(top.logprob, Some(at + 1), &top.text));
        }
        Value::Object(all)
    };
    logprobs.iter().map(token).collect()
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::{TopLogprob, Usage};

    use super::*;
    use crate::rpc::open_inference::conventions;

    fn answer(echo: &str) -> TextResponse {
        TextResponse::new(TextForm {
            outputs: conventions::outputs(),
            echo: echo.to_owned(),
            ..TextForm::default()
        })
    }

    fn chunk(text: &str, logprob: f32) -> GenerateChunk {
        let top = |token_id, logprob| TopLogprob {
            token_id,
            text: text.to_owned(),
            logprob,
        };
        GenerateChunk {
            text: text.to_owned(),
            token_ids: vec![7],
            logprobs: vec![TokenLogprob {
                token_id: 7,
                text: text.to_owned(),
                logprob,
                top: vec![top(3, -0.1), top(7, logprob)],
            }],
            ..GenerateChunk::default()
        }
    }

    fn done() -> GenerateDone {
        GenerateDone {
            finish_reason: FinishReason::Length.into(),
            usage: Some(Usage {
                prompt_tokens: 4,
                completion_tokens: 3,
                ..Usage::default()
            }),
            ..GenerateDone::default()
        }
    }

    fn text(response: &ModelInferResponse, name: &str) -> Option<String> {
        let output = response.outputs.iter().find(|output| output.name == name)?;
        let bytes = output.contents.as_ref()?.bytes_contents.first()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    fn number(response: &ModelInferResponse, name: &str) -> Option<u32> {
        let output = response.outputs.iter().find(|output| output.name == name)?;
        output.contents.as_ref()?.uint_contents.first().copied()
    }

    #[bounded::test]
    fn pieces_hold_what_is_new_and_the_end_the_rest() {
        let mut answer = answer("");
        let first = answer.piece(chunk("a", -0.5));
        assert_eq!(text(&first, "text_output").as_deref(), Some("a"));
        assert_eq!(text(&first, "finish_reason").as_deref(), Some("None"));
        assert_eq!(number(&first, "num_output_tokens"), Some(1));
        assert_eq!(number(&first, "num_input_tokens"), None);
        let last = answer.end(&done());
        assert_eq!(text(&last, "text_output").as_deref(), Some(""));
        assert_eq!(text(&last, "finish_reason").as_deref(), Some("length"));
        assert_eq!(number(&last, "num_output_tokens"), Some(2));
        assert_eq!(number(&last, "num_input_tokens"), Some(4));
    }

    #[bounded::test]
    fn a_whole_answer_begins_with_what_it_echoes() {
        let mut answer = answer("prompt ");
        answer.add(chunk("a", -0.5));
        answer.add(chunk("b", -0.25));
        let whole = answer.end(&done());
        assert_eq!(text(&whole, "text_output").as_deref(), Some("prompt ab"));
        assert_eq!(number(&whole, "num_output_tokens"), Some(3));
        let logprobs = text(&whole, "logprobs").unwrap();
        let logprobs: Value = serde_json::from_str(&logprobs).unwrap();
        assert_eq!(
            logprobs[1],
            json!({"7": {"logprob": -0.25, "rank": 2, "decoded_token": "b"},
                "3": {"logprob": f64::from(-0.1_f32), "rank": 1, "decoded_token": "b"}})
        );
        let cumulative = whole.outputs.last().unwrap().contents.as_ref().unwrap();
        assert_eq!(cumulative.fp32_contents, [-0.75]);
    }
}
