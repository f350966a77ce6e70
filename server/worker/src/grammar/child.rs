//! The process that follows a grammar, from within: reads calls from its standard input and answers on its
//! standard output until its input ends.

use std::sync::{Arc, mpsc};

use anyhow::{Context, bail};
use hangar_worker_protocol::ExitCode;
use mistralrs::core::llguidance::{
    Matcher, ParserFactory,
    api::{StopReason, TopLevelGrammar},
    toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie},
};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::wire::{self, GrammarCall, GrammarKind, GrammarReply, NewGrammar};
use crate::{
    failure::{one_paragraph, truncated},
    lifeline::exit_now,
};

/// Argument that makes this program such a process.
pub(crate) const ARGUMENT: &str = "--follow-grammars";

/// Memory that the process may take, stacks included.
const MEMORY: u64 = 512 << 20;

/// Stack of the thread that compiles: the library follows a grammar as deep as it goes.
const STACK: usize = 64 << 20;

/// States of a lexer: some kilobytes each.
const LEXER_STATES: usize = 50_000;

/// White space between the parts of JSON, where a schema does not say otherwise: a model that likes none of
/// the tokens that may come next would else go on with white space for ever.
const WHITE_SPACE: &str = " |\\n {0,16}";

/// Longest message to a caller in characters.
const MESSAGE: usize = 300;

/// Follows grammars until standard input ends.
pub(crate) fn serve() -> anyhow::Result<ExitCode> {
    bound()?;
    let (calls, inbox) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("follow".into())
        .stack_size(STACK)
        .spawn(move || follow(&inbox))?;
    let mut input = std::io::stdin().lock();
    // The worker is gone, or wants no more: whatever is under way is of no use.
    while let Ok(call) = wire::read::<GrammarCall>(&mut input) {
        if calls.send(call).is_err() {
            return Ok(ExitCode::System);
        }
    }
    Ok(ExitCode::Requested)
}

/// Limits what the process may take. What goes beyond ends it.
fn bound() -> anyhow::Result<()> {
    let limit = |bytes| Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    setrlimit(Resource::Core, limit(0)).context("limiting core dumps")?;
    let allowed = rustix::process::getrlimit(Resource::Data);
    let memory = allowed.maximum.map_or(MEMORY, |most| most.min(MEMORY));
    setrlimit(Resource::Data, limit(memory)).context("limiting memory")
}

/// Answers calls to the end.
fn follow(calls: &mpsc::Receiver<GrammarCall>) {
    let mut output = std::io::stdout().lock();
    let mut factory = None;
    let mut matcher = None;
    for call in calls {
        if let Some(table) = call.table {
            factory = Some(make_factory(table.tokens));
            continue;
        }
        let reply = match (&factory, call.begin) {
            (Some(Ok(factory)), Some(begin)) => compile(factory, &begin).map(|(new, reply)| {
                matcher = Some(new);
                reply
            }),
            (Some(Err(why)), _) => Err(anyhow::anyhow!("{why:#}")),
            _ => match (&mut matcher, call.next) {
                (Some(matcher), Some(token)) => advance(matcher, token),
                _ => Err(anyhow::anyhow!("there is no grammar")),
            },
        };
        let reply = reply.unwrap_or_else(|e| GrammarReply {
            failed: message(&e.to_string()),
            ..GrammarReply::default()
        });
        if wire::write(&mut output, &reply).is_err() {
            break;
        }
    }
    exit_now(ExitCode::Requested);
}

/// Makes grammars for these tokens.
fn make_factory(mut tokens: Vec<Vec<u8>>) -> anyhow::Result<ParserFactory> {
    let count = u32::try_from(tokens.len())?;
    // The library wants a token that ends texts. It gets one that the model does not have: which tokens
    // end an answer is known better outside.
    tokens.push([&[TokTrie::SPECIAL_TOKEN_MARKER], b"<|end|>".as_slice()].concat());
    let trie = TokTrie::from(&TokRxInfo::new(count + 1, count), &tokens);
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory = ParserFactory::new_simple(&environment)?;
    factory.quiet();
    let limits = factory.limits_mut();
    limits.verbose_errors = false;
    limits.max_lexer_states = LEXER_STATES;
    Ok(factory)
}

/// Compiles a grammar and gives the first tokens. The second ones are tried, so that what is too complex
/// shows before there is an answer.
fn compile(factory: &ParserFactory, begin: &NewGrammar) -> anyhow::Result<(Matcher, GrammarReply)> {
    let grammar = match begin.kind() {
        GrammarKind::Regex => TopLevelGrammar::from_regex(&begin.text),
        GrammarKind::Lark => TopLevelGrammar::from_lark(begin.text.clone()),
        GrammarKind::JsonSchema => {
            let mut schema: serde_json::Value = serde_json::from_str(&begin.text)
                .map_err(|e| anyhow::anyhow!("is no JSON: {e}"))?;
            let Some(fields) = schema.as_object_mut() else {
                bail!("is no JSON schema: a schema is an object");
            };
            fields
                .entry("x-guidance")
                .or_insert_with(|| serde_json::json!({"whitespace_pattern": WHITE_SPACE}));
            TopLevelGrammar::from_json_schema(schema)
        }
    };
    let parser = factory.create_parser(grammar)?;
    let mut matcher = Matcher::new(Ok(parser));
    let reply = tokens(&mut matcher)?;
    if let Some(token) = first(&reply.mask) {
        let mut trial = matcher.deep_clone();
        if trial.consume_token(token).is_err() {
            let why = trial.get_error().unwrap_or_default();
            bail!("is too complex to follow: {why}");
        }
    }
    Ok((matcher, reply))
}

fn advance(matcher: &mut Matcher, token: u32) -> anyhow::Result<GrammarReply> {
    matcher.consume_token(token)?;
    tokens(matcher)
}

/// Which tokens may come next.
fn tokens(matcher: &mut Matcher) -> anyhow::Result<GrammarReply> {
    if matcher.is_stopped() && matcher.stop_reason() == StopReason::NoExtension {
        return Ok(GrammarReply {
            complete: true,
            ..GrammarReply::default()
        });
    }
    let mask = matcher.compute_mask()?;
    let mut bits = mask.as_slice().to_vec();
    // Not the token that the model does not have.
    let end = mask.len() - 1;
    if let Some(word) = bits.get_mut(end / 32) {
        *word &= !(1 << (end % 32));
    }
    Ok(GrammarReply {
        mask: bits,
        accepting: matcher.is_accepting()?,
        ..GrammarReply::default()
    })
}

/// The first token of a mask.
fn first(mask: &[u32]) -> Option<u32> {
    let word = mask.iter().position(|word| *word != 0)?;
    u32::try_from(word * 32)
        .ok()
        .map(|token| token + mask[word].trailing_zeros())
}

/// What the library says, for a caller.
fn message(error: &str) -> String {
    const END_OF_WORDS: [&str; 3] = ["\n<state>", "\n<non-verbose/>", "\n<backtrace>"];
    let end = END_OF_WORDS.iter().filter_map(|end| error.find(end)).min();
    let reason = &error[..end.unwrap_or(error.len())];
    if reason.starts_with("NoExtensionBias") {
        return "no answer can conform to it".into();
    }
    if reason.starts_with("panic:") {
        return "is more than can be followed; make it simpler".into();
    }
    truncated(&one_paragraph(reason), MESSAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factory() -> ParserFactory {
        make_factory((0..=255).map(|byte| vec![byte]).collect()).expect("a factory")
    }

    fn begin(kind: GrammarKind, text: &str) -> NewGrammar {
        NewGrammar {
            kind: kind.into(),
            text: text.into(),
        }
    }

    /// Bytes that may come next.
    fn open(reply: &GrammarReply) -> Vec<u8> {
        let set = |byte: &u8| reply.mask[usize::from(*byte) / 32] >> (byte % 32) & 1 == 1;
        (0..=255).filter(set).collect()
    }

    #[bounded::test]
    fn a_regex_is_followed_to_its_end() {
        let (mut matcher, reply) =
            compile(&factory(), &begin(GrammarKind::Regex, "ab?")).expect("a grammar");
        assert_eq!((open(&reply), reply.accepting), (b"a".to_vec(), false));
        let reply = advance(&mut matcher, b'a'.into()).expect("a step");
        assert_eq!((open(&reply), reply.accepting), (b"b".to_vec(), true));
        assert!(advance(&mut matcher, b'b'.into()).expect("a step").complete);
    }

    #[bounded::test]
    fn a_schema_allows_only_so_much_white_space_in_a_row() {
        let begin = begin(GrammarKind::JsonSchema, "{\"enum\": [[1, 2]]}");
        let (mut matcher, _) = compile(&factory(), &begin).expect("a grammar");
        let mut reply = GrammarReply::default();
        for token in b"[1,\n" {
            reply = advance(&mut matcher, (*token).into()).expect("a step");
        }
        assert_eq!(open(&reply), b" 2");
        for _ in 0..16 {
            reply = advance(&mut matcher, b' '.into()).expect("a step");
        }
        assert_eq!(open(&reply), b"2");
    }

    #[bounded::test]
    fn what_cannot_be_followed_is_refused_in_words() {
        let many: Vec<String> = (0..3000).map(|n| format!("\"x{n}y\"")).collect();
        let many = format!("start: {}", many.join(" | "));
        for (kind, text, what) in [
            (GrammarKind::Regex, "(a", "unclosed group"),
            (GrammarKind::Regex, "(a)\\1", "backreferences"),
            (GrammarKind::Regex, "[^\\s\\S]", "no answer can conform"),
            (GrammarKind::JsonSchema, "{", "is no JSON"),
            (GrammarKind::JsonSchema, "[]", "is no JSON schema"),
            (
                GrammarKind::JsonSchema,
                "{\"type\": \"number\", \"minimum\": 2, \"maximum\": 1}",
                "",
            ),
            (
                GrammarKind::JsonSchema,
                "{\"$ref\": \"file:///etc/passwd\"}",
                "/etc/passwd",
            ),
            (GrammarKind::Lark, "start: start", "no answer can conform"),
            (GrammarKind::Lark, &many, "too complex"),
        ] {
            let error = compile(&factory(), &begin(kind, text)).err().expect(text);
            let error = message(&error.to_string());
            assert!(error.contains(what), "{text}: {error}");
            assert!(!error.contains('\n') && !error.contains('<'), "{error}");
        }
    }
}
