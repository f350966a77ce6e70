//! What a caller is told of a text or tokens that the vocabulary did not take.

use tonic::Status;

use crate::{grpc_error, vocabulary::TextError};

/// Why the text in `field` has no tokens.
pub(super) fn text_refused(field: &str, why: TextError) -> Status {
    match why {
        TextError::Refused(why) => {
            grpc_error::invalid_field(field, format!("the model's tokenizer refuses it: {why}"))
        }
        TextError::Cancelled => grpc_error::unloaded(),
    }
}

/// The same in the tokenizer's words alone, for those who asked for its work.
pub(super) fn plain_refused(field: &str, why: TextError) -> Status {
    match why {
        TextError::Refused(why) => grpc_error::invalid_field(field, why),
        TextError::Cancelled => grpc_error::unloaded(),
    }
}
