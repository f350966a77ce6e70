//! How likely tokens were, for people.

use hangar_client::v1::TokenLogprob;

/// A token in a line: its text, its probability, and those of the most likely ones.
pub(super) fn line(token: &TokenLogprob) -> String {
    let top = token.top.iter();
    let top = top.map(|top| format!("{:?} {}", top.text, percent(top.logprob)));
    let top = top.collect::<Vec<_>>().join(", ");
    let own = percent(token.logprob);
    match top.is_empty() {
        true => format!("{:?} {own}", token.text),
        false => format!("{:?} {own} of: {top}", token.text),
    }
}

fn percent(logprob: f32) -> String {
    format!("{:.2} %", logprob.exp() * 100.0)
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::TopLogprob;

    use super::*;

    #[bounded::test]
    fn a_token_is_one_line() {
        let top = |text: &str, share: f32| TopLogprob {
            token_id: 0,
            text: text.to_owned(),
            logprob: share.ln(),
        };
        let mut token = TokenLogprob {
            token_id: 1,
            text: "\n".to_owned(),
            logprob: 0.25f32.ln(),
            top: vec![],
        };
        assert_eq!(line(&token), "\"\\n\" 25.00 %");
        token.top = vec![top("a", 0.75), top("\n", 0.25)];
        assert_eq!(
            line(&token),
            "\"\\n\" 25.00 % of: \"a\" 75.00 %, \"\\n\" 25.00 %"
        );
    }
}
