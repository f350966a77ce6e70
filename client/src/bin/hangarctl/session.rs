//! `hangarctl session`: holds models for as long as a session lives.

use hangar_client::{
    Client,
    v1::{
        CloseSessionResponse, CreateSessionResponse, GetSessionResponse, KeepAliveResponse, Session,
    },
};

use crate::{
    args::session::{CreateArgs, SessionArgs, SessionCommand},
    output::{self, Failure, Writer},
    table::{ago, duration_text_of, fields, from_now},
};

pub(crate) async fn run(
    client: &Client,
    command: SessionCommand,
    writer: &Writer,
) -> Result<(), Failure> {
    match command {
        SessionCommand::Create(args) => create(client, args, writer).await,
        SessionCommand::KeepAlive(args) => {
            let session = client.session(args.session).keep_alive().await?;
            if !writer.is_json() {
                return writer.line(&session_text(&session));
            }
            let session = Some(session);
            writer.message(
                "hangar.v1.KeepAliveResponse",
                &KeepAliveResponse { session },
            )
        }
        SessionCommand::Get(args) => {
            let session = client.session(args.session).get().await?;
            if !writer.is_json() {
                return writer.line(&session_text(&session));
            }
            let session = Some(session);
            writer.message(
                "hangar.v1.GetSessionResponse",
                &GetSessionResponse { session },
            )
        }
        SessionCommand::Close(args) => close(client, args, writer).await,
    }
}

async fn create(client: &Client, args: CreateArgs, writer: &Writer) -> Result<(), Failure> {
    let session = client.create_session_as(&args.name, args.ttl).await?;
    if writer.is_json() {
        let session = Some(session);
        let response = CreateSessionResponse { session };
        return writer.message("hangar.v1.CreateSessionResponse", &response);
    }
    if !output::is_unattended() {
        let ttl = duration_text_of(session.ttl.as_ref());
        eprintln!(
            "Others see this session as {}; it lapses after {ttl} unless it is kept alive. Its id is a secret:",
            session.holder
        );
    }
    writer.line(&session.session_id)
}

async fn close(client: &Client, args: SessionArgs, writer: &Writer) -> Result<(), Failure> {
    let unloading_model_ids = client.session(&args.session).close().await?;
    if writer.is_json() {
        let response = CloseSessionResponse {
            unloading_model_ids,
        };
        return writer.message("hangar.v1.CloseSessionResponse", &response);
    }
    let what = match &unloading_model_ids[..] {
        [] => "nothing is unloaded for that".to_owned(),
        models => format!("unloading {}", models.join(", ")),
    };
    writer.line(&format!("the session is closed; {what}"))
}

fn session_text(session: &Session) -> String {
    fields([
        ("Holder", session.holder.clone()),
        ("Opened", ago(session.create_time.as_ref())),
        ("Time to live", duration_text_of(session.ttl.as_ref())),
        ("Lapses", from_now(session.expire_time.as_ref())),
        ("Models", session.model_ids.join(", ")),
    ])
}
