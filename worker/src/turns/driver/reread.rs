//! Reads a session's messages from the prompt on, page by page.

use crate::{
    opencode::{ApiError, Client, Message, OpencodeSessionId},
    turns::state::TurnEvent,
};

/// Messages that are asked for first: mostly, they hold the prompt and its answers, one per step.
const FIRST_PAGE: usize = 8;
/// Messages of every further page. After a gap all turns read at the same time, so a page is small.
const PAGE: usize = 16;
/// Messages that are read. A turn of more steps cannot be followed over a gap, and says so.
const MAX_MESSAGES: usize = 1_024;

/// The session's messages since the prompt.
pub(super) async fn reread(client: &Client, session: &OpencodeSessionId, since: &str) -> TurnEvent {
    match pages(client, session, since).await {
        // No event told of it: a gap, or another OpenCode process on the same disk.
        Err(error) if error.is_not_found() => TurnEvent::Deleted,
        Err(error @ ApiError::TooLong { .. }) => TurnEvent::Unreadable(error.to_string()),
        Err(error) => TurnEvent::Reread(Err(error.to_string())),
        Ok(Some(messages)) => TurnEvent::Reread(Ok(messages)),
        Ok(None) => TurnEvent::Unreadable(format!("it is more than {MAX_MESSAGES} messages")),
    }
}

/// All messages since the prompt, or of the session if it has no prompt; `None` if that is too many. Messages too long
/// to be read together are read in smaller pages.
async fn pages(
    client: &Client,
    session: &OpencodeSessionId,
    since: &str,
) -> Result<Option<Vec<Message>>, ApiError> {
    let (mut found, mut limit, mut before) = (Vec::new(), FIRST_PAGE, None);
    while found.len() < MAX_MESSAGES {
        let page = match client.messages_before(session, limit, before.as_deref()).await {
            Err(ApiError::TooLong { .. }) if limit > 1 => {
                limit = (limit / 4).max(1);
                continue;
            }
            page => page?,
        };
        found.splice(0..0, page.messages);
        let is_there = found.iter().any(|message: &Message| message.info.id == since);
        // Ids ascend with time. What is older than the prompt is older than the turn, also where the prompt was lost.
        let is_past = found.first().is_some_and(|oldest| *oldest.info.id < *since);
        if is_there || is_past || page.older.is_none() {
            return Ok(Some(found));
        }
        before = page.older;
        // Pages that were too long stay small.
        limit = if limit == FIRST_PAGE { PAGE } else { limit };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        env::{
            Env, Launch, ServerProcess,
            testing::{Answer, TestEnv},
        },
        opencode::http::MAX_ANSWER,
    };

    #[tokio::test(start_paused = true)]
    async fn messages_too_long_to_be_read_together_are_read_in_smaller_pages_and_then_given_up() {
        let env = TestEnv::new();
        env.answer("GET /session/ses_1/message", Answer::json(200, vec![b' '; MAX_ANSWER + 1]));
        let launch = Launch {
            binary: "opencode".into(),
            directory: "/project".into(),
            data_directory: None,
            password: "pass-word-secret".to_owned().into(),
            startup_timeout: Duration::from_secs(30),
        };
        let server = env.launch(launch).await.unwrap();
        let password = "pass-word-secret".to_owned().into();
        let client = Client::new(
            env.clone(),
            server.address(),
            "/project".as_ref(),
            &password,
            Duration::from_secs(30),
        );
        let session = OpencodeSessionId::new("ses_1").unwrap();
        let event = reread(&client, &session, "msg_1").await;
        let TurnEvent::Unreadable(why) = event else { panic!("{event:?}") };
        assert!(why.contains("longer than 8388608 bytes"), "{why}");
        let limits = [8, 2, 1].map(|limit| format!("GET /session/ses_1/message?limit={limit}"));
        assert_eq!(env.world().requests, limits);
    }
}
