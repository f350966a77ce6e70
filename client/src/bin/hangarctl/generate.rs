//! `hangarctl generate`: text, as it is made.

mod logprobs;
pub(crate) mod tools;

use std::path::PathBuf;

use hangar_client::{
    Client, Generate, GenerateEvent,
    v1::{FinishReason, GenerateDone, GenerateResponse, TokenLogprob},
};

use crate::{
    args::GenerateArgs,
    json,
    output::{self, Failure, Writer},
    table::duration_text_of,
};

pub(crate) async fn run(
    client: &Client,
    mut args: GenerateArgs,
    writer: &Writer,
) -> Result<(), Failure> {
    let prompt = output::text_or_stdin(args.prompt.take())?;
    let mut stream = request(client, prompt, args)?.stream().await?;
    let mut ends_in_newline = true;
    let mut answer = 0;
    let mut likelihoods = Vec::new();
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                if !ends_in_newline {
                    writer.line("")?;
                }
                return Err(error.into());
            }
        };
        if writer.is_json() {
            let response = GenerateResponse { event: Some(event) };
            writer.message_line("hangar.v1.GenerateResponse", &response)?;
            continue;
        }
        match event {
            GenerateEvent::Chunk(chunk) => {
                if chunk.index != answer {
                    answer = chunk.index;
                    writer.line(if ends_in_newline { "" } else { "\n" })?;
                    ends_in_newline = true;
                }
                likelihoods.extend(chunk.prompt_logprobs);
                likelihoods.extend(chunk.logprobs);
                // Whoever reads the answer gets nothing else.
                eprint!("{}", chunk.reasoning);
                if !chunk.text.is_empty() {
                    ends_in_newline = chunk.text.ends_with('\n');
                    writer.text(&chunk.text)?;
                }
            }
            GenerateEvent::Done(done) => {
                if !ends_in_newline {
                    writer.line("")?;
                }
                write_end(&done, std::mem::take(&mut likelihoods), writer)?;
            }
        }
    }
    Ok(())
}

/// What comes behind an answer.
fn write_end(
    done: &GenerateDone,
    likelihoods: Vec<TokenLogprob>,
    writer: &Writer,
) -> Result<(), Failure> {
    for token in &likelihoods {
        writer.line(&logprobs::line(token))?;
    }
    for call in &done.tool_calls {
        writer.line(&tools::line(call))?;
    }
    print_end(done);
    Ok(())
}

fn request(client: &Client, prompt: String, mut args: GenerateArgs) -> Result<Generate, Failure> {
    let mut generate = prompted(client.generate(&args.model), prompt, &mut args)?;
    generate = args.stop.into_iter().fold(generate, Generate::stop);
    if let Some(timeout) = args.timeout {
        generate = generate.timeout(timeout);
    }
    if let Some(schema) = args.json_schema {
        generate = generate.json_schema(output::text_or_file(schema)?);
    }
    if let Some(regex) = args.regex {
        generate = generate.regex(output::text_or_file(regex)?);
    }
    if let Some(grammar) = args.lark {
        generate = generate.lark(output::text_or_file(grammar)?);
    }
    if let Some(list) = args.tools {
        let tools = tools::tools(&output::text_or_file(list)?)?;
        generate = tools.into_iter().fold(generate, Generate::tool);
    }
    if let Some(choice) = args.tool_choice {
        generate = generate.tool_choice(choice);
    }
    if let Some(top) = args.logprobs {
        generate = generate.logprobs(top);
    }
    for (name, value) in args.template_option {
        generate = generate.template_option(name, json::value(&value));
    }
    Ok(generate.priority(args.priority).with(|request| {
        request.seed = args.seed;
        request.max_tokens = args.max_tokens.unwrap_or(0);
        request.min_tokens = args.min_tokens.unwrap_or(0);
        request.ignore_eos = args.ignore_eos;
        request.stop_token_ids = args.stop_token_id;
        request.logit_bias = args.logit_bias.into_iter().collect();
        request.n = args.n.unwrap_or(0);
        request.keep_reasoning_in_text = args.keep_reasoning;
        request.prompt_logprobs = args.prompt_logprobs;
        let sampling = request.sampling.get_or_insert_default();
        sampling.temperature = args.temperature;
        sampling.top_p = args.top_p;
        sampling.top_k = args.top_k;
        sampling.min_p = args.min_p;
    }))
}

/// Adds the prompt in the form that is asked for.
fn prompted(
    generate: Generate,
    prompt: String,
    args: &mut GenerateArgs,
) -> Result<Generate, Failure> {
    if args.raw {
        return Ok(generate.prompt(prompt));
    }
    if args.token_ids {
        return Ok(generate.prompt_token_ids(token_ids(&prompt)?));
    }
    let system = std::mem::take(&mut args.system).into_iter();
    let generate = system.fold(generate, |generate, text| generate.message("system", text));
    with_images(generate, &args.image, prompt)
}

/// The tokens in a text of numbers.
fn token_ids(text: &str) -> Result<Vec<u32>, Failure> {
    let numbers = text.split(|c: char| c == ',' || c.is_whitespace());
    let numbers = numbers.filter(|number| !number.is_empty()).map(str::parse);
    numbers.collect::<Result<_, _>>().map_err(|_| {
        Failure::Usage("--token-ids takes whole numbers with spaces or commas between".to_owned())
    })
}

/// Adds the prompt as a message behind these images.
fn with_images(
    generate: Generate,
    images: &[PathBuf],
    prompt: String,
) -> Result<Generate, Failure> {
    if images.is_empty() {
        return Ok(generate.message("user", prompt));
    }
    let contents: Result<Vec<_>, _> = images.iter().map(output::contents).collect();
    Ok(generate.message_with_images(contents?, prompt))
}

/// Tells a person why the answer ended and how fast it was.
fn print_end(done: &GenerateDone) {
    if output::is_unattended() {
        return;
    }
    let usage = done.usage.unwrap_or_default();
    let timings = done.timings.unwrap_or_default();
    let speed = timings
        .tokens_per_second
        .map(|speed| format!(", {speed:.1} tokens/s"))
        .unwrap_or_default();
    let why = match done.finish_reason() {
        FinishReason::Length => "; it was cut off at its longest length",
        _ => "",
    };
    let first = duration_text_of(timings.time_to_first_token.as_ref());
    eprintln!(
        "[{} tokens in, {} out, first after {first}{speed}{why}]",
        usage.prompt_tokens, usage.completion_tokens
    );
}
