//! How messages with a session's id show: the id alone lets a client unload what the session holds, and what is shown
//! ends up in logs.

use std::fmt;

use crate::v1::{
    CloseSessionRequest, GetSessionRequest, KeepAliveRequest, LoadModelRequest, Session,
    UnloadModelRequest, load_model_request, unload_model_request,
};

/// A text of which is shown whether it is there.
struct Secret<'a>(&'a str);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "\"\""
        } else {
            "<secret>"
        })
    }
}

/// Shows the fields of a message, of which all have to be named.
macro_rules! redacted {
    ($message:ident: $($field:ident),* $(,)?) => {
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self { session_id, $($field),* } = self;
                f.debug_struct(stringify!($message))
                    .field("session_id", &Secret(session_id))
                    $(.field(stringify!($field), $field))*
                    .finish()
            }
        }
    };
}

/// What is generated for a message goes without it for its choices too.
macro_rules! shown {
    ($choice:ty: $($case:ident),*) => {
        impl fmt::Debug for $choice {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$case(value) => f.debug_tuple(stringify!($case)).field(value).finish(),)*
                }
            }
        }
    };
}

shown!(load_model_request::Target: ModelId, All);
shown!(unload_model_request::Target: ModelId, All);

redacted!(LoadModelRequest: target, spec, wait, force_reload, timeout, request_id, validate_only);
redacted!(UnloadModelRequest: target, drain_timeout, force, request_id);
redacted!(Session: ttl, create_time, expire_time, model_ids, holder);
redacted!(KeepAliveRequest:);
redacted!(CloseSessionRequest:);
redacted!(GetSessionRequest:);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_shows_the_id_of_a_session() {
        let session_id = || "0123-secret".to_owned();
        let shown = [
            format!(
                "{:?}",
                LoadModelRequest {
                    session_id: session_id(),
                    request_id: "r".to_owned(),
                    ..LoadModelRequest::default()
                }
            ),
            format!(
                "{:?}",
                UnloadModelRequest {
                    session_id: session_id(),
                    request_id: "r".to_owned(),
                    ..UnloadModelRequest::default()
                }
            ),
            format!(
                "{:?}",
                Session {
                    session_id: session_id(),
                    holder: "r".to_owned(),
                    ..Session::default()
                }
            ),
        ];
        for shown in shown {
            assert!(!shown.contains("0123"), "{shown}");
            assert!(shown.contains("<secret>"), "{shown}");
            assert!(shown.contains("\"r\""), "{shown}");
        }
        let requests = [
            format!(
                "{:?}",
                KeepAliveRequest {
                    session_id: session_id()
                }
            ),
            format!(
                "{:?}",
                CloseSessionRequest {
                    session_id: session_id()
                }
            ),
            format!(
                "{:?}",
                GetSessionRequest {
                    session_id: session_id()
                }
            ),
            format!("{:?}", GetSessionRequest::default()),
        ];
        assert_eq!(
            requests,
            [
                "KeepAliveRequest { session_id: <secret> }",
                "CloseSessionRequest { session_id: <secret> }",
                "GetSessionRequest { session_id: <secret> }",
                "GetSessionRequest { session_id: \"\" }",
            ]
        );
    }
}
