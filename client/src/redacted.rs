//! How messages with a session's id show: the id alone lets a client unload what the session holds, and what is shown
//! ends up in logs.

use std::fmt;

use crate::v1::{
    CloseSessionRequest, GetSessionRequest, KeepAliveRequest, LoadModelRequest, Session,
    UnloadModelRequest, load_model_request, unload_model_request,
};

/// Shows whether a text is there, and not what it says.
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
                // Of a literal the compiler says which field is missing; of a macro's pattern it does not.
                let _every_field = || Self {
                    session_id: String::new(),
                    $($field: Default::default()),*
                };
                f.debug_struct(stringify!($message))
                    .field("session_id", &Secret(&self.session_id))
                    $(.field(stringify!($field), &self.$field))*
                    .finish()
            }
        }
    };
}

/// Implements Debug for the choices of such a message: where prost is to leave it out for the message, it does for these too.
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

    const ID: &str = "0123-secret";

    fn check(message: &impl fmt::Debug) {
        let shown = format!("{message:?}");
        assert!(!shown.contains("0123"), "{shown}");
        assert!(shown.contains("<secret>"), "{shown}");
        assert!(shown.contains("\"r\""), "{shown}");
    }

    #[bounded::test]
    fn no_message_shows_the_id_of_a_session() {
        check(&LoadModelRequest {
            session_id: ID.to_owned(),
            request_id: "r".to_owned(),
            ..LoadModelRequest::default()
        });
        check(&UnloadModelRequest {
            session_id: ID.to_owned(),
            request_id: "r".to_owned(),
            ..UnloadModelRequest::default()
        });
        check(&Session {
            session_id: ID.to_owned(),
            holder: "r".to_owned(),
            ..Session::default()
        });
    }

    #[bounded::test]
    fn a_message_of_an_id_alone_shows_whether_it_is_there() {
        let session_id = || ID.to_owned();
        let keep_alive = KeepAliveRequest {
            session_id: session_id(),
        };
        let close = CloseSessionRequest {
            session_id: session_id(),
        };
        let get = GetSessionRequest {
            session_id: session_id(),
        };
        let requests = [
            format!("{keep_alive:?}"),
            format!("{close:?}"),
            format!("{get:?}"),
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
