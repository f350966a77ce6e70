//! `hangarctl tokenize` and `detokenize`.

use hangar_client::{Client, Tokenize, v1::DetokenizeResponse};

use crate::{
    args::{DetokenizeArgs, TokenizeArgs},
    generate::tools::tools,
    json,
    output::{self, Failure, Writer},
};

pub(crate) async fn tokenize(
    client: &Client,
    args: TokenizeArgs,
    writer: &Writer,
) -> Result<(), Failure> {
    let is_chat = args.chat;
    let answer = request(client, args)?.send_for_prompt().await?;
    if writer.is_json() {
        return writer.message("hangar.v1.TokenizeResponse", &answer);
    }
    if is_chat {
        writer.line(&answer.prompt)?;
    }
    let words: Vec<_> = answer.token_ids.iter().map(u32::to_string).collect();
    writer.line(&words.join(" "))
}

fn request(client: &Client, args: TokenizeArgs) -> Result<Tokenize, Failure> {
    let text = output::text_or_stdin(args.text)?;
    if !args.chat {
        let call = client.tokenize(args.model, text);
        return Ok(match args.add_special_tokens {
            true => call.add_special_tokens(),
            false => call,
        });
    }
    let mut call = client.tokenize(args.model, "");
    if let Some(system) = args.system {
        call = call.message("system", system);
    }
    call = call.message("user", text);
    if let Some(list) = args.tools {
        let tools = tools(&output::text_or_file(list)?)?;
        call = tools.into_iter().fold(call, Tokenize::tool);
    }
    for (name, value) in args.template_option {
        call = call.template_option(name, json::value(&value));
    }
    Ok(call)
}

pub(crate) async fn detokenize(
    client: &Client,
    args: DetokenizeArgs,
    writer: &Writer,
) -> Result<(), Failure> {
    let mut call = client.detokenize(args.model, args.token_ids);
    if args.skip_special_tokens {
        call = call.skip_special_tokens();
    }
    let text = call.send().await?;
    if writer.is_json() {
        return writer.message("hangar.v1.DetokenizeResponse", &DetokenizeResponse { text });
    }
    writer.line(&text)
}
