//! `hangarctl generate`: text, as it is made.

mod logprobs;
mod tools;

use std::path::PathBuf;

use hangar_client::{
    Client, Generate, GenerateEvent,
    v1::{FinishReason, GenerateDone, GenerateResponse},
};

use crate::{
    args::GenerateArgs,
    json,
    output::{self, Failure, Writer},
    table::span_of,
};

pub(crate) async fn run(
    client: &Client,
    mut args: GenerateArgs,
    writer: &Writer,
) -> Result<(), Failure> {
    let prompt = output::text_or_stdin(args.prompt.take())?;
    let mut stream = request(client, prompt, args)?.stream().await?;
    let mut ends_in_newline = true;
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
            GenerateEvent::Chunk(chunk) if chunk.text.is_empty() => {
                likelihoods.extend(chunk.logprobs);
            }
            GenerateEvent::Chunk(chunk) => {
                likelihoods.extend(chunk.logprobs);
                ends_in_newline = chunk.text.ends_with('\n');
                writer.text(&chunk.text)?;
            }
            GenerateEvent::Done(done) => {
                if !ends_in_newline {
                    writer.line("")?;
                }
                for line in likelihoods.drain(..).map(|token| logprobs::line(&token)) {
                    writer.line(&line)?;
                }
                for call in &done.tool_calls {
                    writer.line(&tools::line(call))?;
                }
                print_end(&done);
            }
        }
    }
    Ok(())
}

fn request(client: &Client, prompt: String, args: GenerateArgs) -> Result<Generate, Failure> {
    let mut generate = client.generate(args.model);
    generate = if args.raw {
        generate.prompt(prompt)
    } else {
        let system = args.system.into_iter();
        let generate = system.fold(generate, |generate, text| generate.message("system", text));
        with_images(generate, &args.image, prompt)?
    };
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
        let sampling = request.sampling.get_or_insert_default();
        sampling.temperature = args.temperature;
        sampling.top_p = args.top_p;
        sampling.top_k = args.top_k;
        sampling.min_p = args.min_p;
    }))
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
    let first = span_of(timings.time_to_first_token.as_ref());
    eprintln!(
        "[{} tokens in, {} out, first after {first}{speed}{why}]",
        usage.prompt_tokens, usage.completion_tokens
    );
}
