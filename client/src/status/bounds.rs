//! Cuts a status that is too long to be sent.

use std::collections::HashMap;

use tonic::Status;
use tonic_types::{ErrorDetail, ErrorInfo, StatusExt};

/// Longest message and details of a status, together and as they are sent: the message percent-encoded, the details in
/// base64. Well under the 8 KB that gRPC's C core and Java allow for all headers of an answer.
pub const MAX_ENCODED: usize = 6 * 1024;

/// Longest message of a status that was cut, percent-encoded. It is sent twice: the details repeat it.
const MAX_MESSAGE: usize = 1536;

/// Entry of an `ErrorInfo`'s metadata that says that the status was cut.
const TRUNCATED: &str = "truncated";

/// What is left of a detail.
#[derive(Clone, Copy)]
struct Limit {
    /// Bytes of each text.
    text: usize,
    /// Entries of each list.
    entries: usize,
}

/// From what hardly cuts to what always fits.
const LIMITS: [Limit; 5] = [
    limit(1024, 32),
    limit(512, 16),
    limit(256, 8),
    limit(128, 4),
    limit(64, 2),
];

const fn limit(text: usize, entries: usize) -> Limit {
    Limit { text, entries }
}

/// The same status in at most [`MAX_ENCODED`] bytes, as it is sent.
///
/// One that has to be cut says so: its message ends with how long it was, and the metadata of its `ErrorInfo` have
/// `truncated` with the value "true". Reason, domain, code and `RetryInfo` stay.
pub fn bounded(status: Status) -> Status {
    if encoded(&status) <= MAX_ENCODED {
        return status;
    }
    let message = cut_message(status.message());
    let details = status.get_error_details_vec();
    let with = |details: Vec<ErrorDetail>| {
        let metadata = status.metadata().clone();
        Status::with_error_details_vec_and_metadata(
            status.code(),
            message.clone(),
            details,
            metadata,
        )
    };
    LIMITS
        .into_iter()
        .map(|limit| with(limit.details(&details)))
        .find(|status| encoded(status) <= MAX_ENCODED)
        .unwrap_or_else(|| {
            let essential = |detail: &&ErrorDetail| {
                matches!(
                    detail,
                    ErrorDetail::ErrorInfo(_) | ErrorDetail::RetryInfo(_)
                )
            };
            let few: Vec<_> = details.iter().filter(essential).take(2).cloned().collect();
            with(limit(64, 0).details(&few))
        })
}

/// Bytes of message and details of `status` as they are sent.
fn encoded(status: &Status) -> usize {
    let message: usize = status.message().bytes().map(encoded_byte).sum();
    message + status.details().len().div_ceil(3) * 4
}

/// Bytes that one of a message takes: at least as many as any encoder makes of it.
fn encoded_byte(byte: u8) -> usize {
    match byte {
        b'-' | b'_' | b'.' | b',' | b':' | b';' | b'/' | b'\'' | b'(' | b')' => 1,
        byte if byte.is_ascii_alphanumeric() => 1,
        _ => 3,
    }
}

/// The beginning of `message`, and how long it was.
fn cut_message(message: &str) -> String {
    let end = format!("... (cut: {} bytes in all)", message.len());
    let left = MAX_MESSAGE - end.bytes().map(encoded_byte).sum::<usize>();
    let mut used = 0;
    let beginning = message.chars().take_while(|character| {
        let mut bytes = [0; 4];
        let bytes = character.encode_utf8(&mut bytes).bytes();
        used += bytes.map(encoded_byte).sum::<usize>();
        used <= left
    });
    let beginning: String = beginning.collect();
    if beginning.len() == message.len() {
        return beginning;
    }
    beginning + &end
}

impl Limit {
    fn details(self, details: &[ErrorDetail]) -> Vec<ErrorDetail> {
        let left = |detail: &ErrorDetail| self.detail(detail.clone());
        details.iter().filter_map(left).collect()
    }

    /// What is left of `detail`; nothing of one that is not known here.
    fn detail(self, mut detail: ErrorDetail) -> Option<ErrorDetail> {
        match &mut detail {
            ErrorDetail::ErrorInfo(info) => self.info(info),
            ErrorDetail::RetryInfo(_) => {}
            ErrorDetail::DebugInfo(info) => {
                info.stack_entries.clear();
                self.texts([&mut info.detail]);
            }
            ErrorDetail::QuotaFailure(failure) => {
                failure.violations.truncate(self.entries);
                for it in &mut failure.violations {
                    self.texts([&mut it.subject, &mut it.description, &mut it.api_service]);
                    self.texts([&mut it.quota_metric, &mut it.quota_id]);
                    self.map(&mut it.quota_dimensions);
                }
            }
            ErrorDetail::PreconditionFailure(failure) => {
                failure.violations.truncate(self.entries);
                for it in &mut failure.violations {
                    self.texts([&mut it.r#type, &mut it.subject, &mut it.description]);
                }
            }
            ErrorDetail::BadRequest(bad) => {
                bad.field_violations.truncate(self.entries);
                for it in &mut bad.field_violations {
                    self.texts([&mut it.field, &mut it.description]);
                }
            }
            ErrorDetail::RequestInfo(info) => {
                self.texts([&mut info.request_id, &mut info.serving_data]);
            }
            ErrorDetail::ResourceInfo(info) => {
                self.texts([&mut info.resource_type, &mut info.resource_name]);
                self.texts([&mut info.owner, &mut info.description]);
            }
            ErrorDetail::Help(help) => {
                help.links.truncate(self.entries);
                for it in &mut help.links {
                    self.texts([&mut it.description, &mut it.url]);
                }
            }
            ErrorDetail::LocalizedMessage(it) => self.texts([&mut it.locale, &mut it.message]),
            _ => return None,
        }
        Some(detail)
    }

    fn info(self, info: &mut ErrorInfo) {
        self.texts([&mut info.reason, &mut info.domain]);
        self.map(&mut info.metadata);
        info.metadata.insert(TRUNCATED.into(), "true".into());
    }

    fn map(self, map: &mut HashMap<String, String>) {
        let mut entries: Vec<_> = std::mem::take(map).into_iter().collect();
        entries.sort();
        entries.truncate(self.entries);
        for (name, value) in &mut entries {
            self.texts([name, value]);
        }
        map.extend(entries);
    }

    fn texts<const N: usize>(self, texts: [&mut String; N]) {
        for text in texts {
            if text.len() > self.text {
                text.truncate(text.floor_char_boundary(self.text - '…'.len_utf8()));
                text.push('…');
            }
        }
    }
}

#[cfg(test)]
mod tests;
