//! `hangarctl tokenize` and `detokenize`.

use hangar_client::{
    Client,
    v1::{DetokenizeResponse, TokenizeResponse},
};

use crate::{
    args::{DetokenizeArgs, TokenizeArgs},
    output::{self, Failure, Writer},
};

pub(crate) async fn tokenize(
    client: &Client,
    args: TokenizeArgs,
    writer: &Writer,
) -> Result<(), Failure> {
    let mut call = client.tokenize(args.model, output::text_or_stdin(args.text)?);
    if args.add_special_tokens {
        call = call.add_special_tokens();
    }
    let token_ids = call.send().await?;
    if writer.is_json() {
        return writer.message(
            "hangar.v1.TokenizeResponse",
            &TokenizeResponse { token_ids },
        );
    }
    let words: Vec<_> = token_ids.iter().map(u32::to_string).collect();
    writer.line(&words.join(" "))
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
