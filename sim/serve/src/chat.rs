//! A chat with the worker: messages go in, replies come out as they grow.

use std::collections::VecDeque;

use tokio::sync::{mpsc, watch};

use crate::{
    deployment::Bells,
    person::{CallFailed, Person, Turn, Worker},
    screen::Screen,
};

/// Messages that may be under way at once; further ones wait. A session's newest page holds them all.
const UNDER_WAY: usize = 64;

const COMMANDS: &str = "/approve, /connect, /models, /end, /revoke and /quit";

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// To say something.
    Say(String),
    /// To let the worker work.
    Approve,
    /// To take the worker's access away.
    Revoke,
    /// To have the worker start OpenCode and publish its models.
    Connect,
    /// To see the models that the worker has published.
    Models,
    /// To end the session that has been open longest, and open another.
    EndSession,
    /// To end it all.
    Quit,
}

impl Wish {
    /// Reads a line; an empty one means nothing. What begins with `/` is a command.
    ///
    /// # Errors
    /// A text that says what commands there are.
    pub fn read(line: &str) -> Result<Option<Self>, String> {
        match line.trim() {
            "" => Ok(None),
            "/approve" => Ok(Some(Self::Approve)),
            "/revoke" => Ok(Some(Self::Revoke)),
            "/connect" => Ok(Some(Self::Connect)),
            "/models" => Ok(Some(Self::Models)),
            "/end" => Ok(Some(Self::EndSession)),
            "/quit" => Ok(Some(Self::Quit)),
            command if command.starts_with('/') => {
                Err(format!("there is no command `{command}`; there are {COMMANDS}"))
            }
            text => Ok(Some(Self::Say(text.to_owned()))),
        }
    }
}

/// How the turns of a chat ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages sent.
    pub sent: usize,
    /// Turns that completed.
    pub completed: usize,
    /// Turns that ended otherwise.
    pub not_completed: usize,
}

/// A sent message.
struct Sent {
    session: String,
    turn: String,
    text: String,
}

/// A person at a screen.
#[derive(Debug)]
pub struct Chat {
    /// Who it is.
    pub person: Person,
    /// Tell of changes.
    pub bells: Bells,
    /// What the person sees.
    pub screen: Screen,
    /// Sessions that are open at the same time, at least 1; messages go to them in turn.
    pub sessions: usize,
    /// The worker to chat with, once it has registered.
    pub worker: watch::Receiver<Option<Worker>>,
}

impl Chat {
    /// Fulfils wishes, in order, until there are no more, and follows every reply to its end. Messages are sent at
    /// once, but not before there is a worker; replies are shown one after the other. `tally` is always up to date.
    ///
    /// # Errors
    /// If a call of the person's fails; not if a turn does.
    pub async fn talk(
        &self,
        wishes: &mut mpsc::Receiver<Wish>,
        tally: &watch::Sender<Tally>,
    ) -> Result<(), CallFailed> {
        let (sent, replies) = mpsc::channel(UNDER_WAY);
        tokio::try_join!(self.fulfil(wishes, sent, tally), self.follow_all(replies, tally)).map(|_| ())
    }

    async fn fulfil(
        &self,
        wishes: &mut mpsc::Receiver<Wish>,
        sent: mpsc::Sender<Sent>,
        tally: &watch::Sender<Tally>,
    ) -> Result<(), CallFailed> {
        let worker = self.wait_for_worker().await;
        let mut sessions = VecDeque::new();
        for _ in 0..self.sessions.max(1) {
            sessions.push_back(self.person.start_session(&worker, "demo").await?);
        }
        while let Some(wish) = wishes.recv().await {
            let session = sessions.pop_front().expect("there is at least one session");
            let session = match wish {
                Wish::Quit => return Ok(()),
                Wish::Say(text) => self.say(session, text, &sent, tally).await?,
                Wish::EndSession => self.replace(&session, &worker).await?,
                about_worker => {
                    if let Err(error) = self.see_to(&worker, about_worker).await {
                        self.screen.notice(&format!("-- {error}"));
                    }
                    session
                }
            };
            sessions.push_back(session);
        }
        Ok(())
    }

    async fn see_to(&self, worker: &str, wish: Wish) -> Result<(), CallFailed> {
        match wish {
            Wish::Approve => self.person.approve(worker).await,
            Wish::Revoke => self.person.revoke(worker).await,
            Wish::Connect => self.person.request_connect(worker).await,
            Wish::Models => {
                let models = self.person.models(worker).await?;
                self.screen.notice(&format!("-- {} models: {}", models.len(), models.join(", ")));
                Ok(())
            }
            Wish::Say(_) | Wish::EndSession | Wish::Quit => unreachable!("it concerns a session"),
        }
    }

    async fn wait_for_worker(&self) -> String {
        let mut workers = self.worker.clone();
        let found = workers.wait_for(Option::is_some).await.map(|worker| worker.clone());
        match found {
            Ok(Some(worker)) => worker.id,
            // Nobody looks after the workers any more, so none will come.
            _ => std::future::pending().await,
        }
    }

    async fn say(
        &self,
        session: String,
        text: String,
        sent: &mpsc::Sender<Sent>,
        tally: &watch::Sender<Tally>,
    ) -> Result<String, CallFailed> {
        match self.person.send(&session, &text).await {
            Ok(turn) => {
                tally.send_modify(|tally| tally.sent += 1);
                // The other half ends only with this one.
                let _ = sent.send(Sent { session: session.clone(), turn, text }).await;
            }
            Err(error) => {
                tally.send_modify(|tally| tally.not_completed += 1);
                self.screen.notice(&format!("-- not sent: {error}"));
            }
        }
        Ok(session)
    }

    async fn replace(&self, session: &str, worker: &str) -> Result<String, CallFailed> {
        self.person.end_session(session).await?;
        self.screen.notice("-- the session is ended, another one is open");
        self.person.start_session(worker, "demo").await
    }

    async fn follow_all(
        &self,
        mut replies: mpsc::Receiver<Sent>,
        tally: &watch::Sender<Tally>,
    ) -> Result<(), CallFailed> {
        while let Some(sent) = replies.recv().await {
            let turn = self.follow(&sent).await?;
            self.screen.line(&ending(&turn));
            tally.send_modify(|tally| match turn.state.as_str() {
                "completed" => tally.completed += 1,
                _ => tally.not_completed += 1,
            });
        }
        Ok(())
    }

    /// Shows a reply as its chunks arrive, and returns its turn when that has ended.
    async fn follow(&self, sent: &Sent) -> Result<Turn, CallFailed> {
        self.screen.line(&format!("> {}", sent.text));
        let mut changed = self.bells.replies.subscribe();
        let mut reply = Reply::default();
        loop {
            // First the state: what is shown after it is complete if the turn had ended by then.
            let turn = self.person.turn(&sent.session, &sent.turn).await?;
            reply.show_more(&sent.turn, self).await?;
            if turn.ended_at.is_some() {
                return Ok(turn);
            }
            // The bells live as long as this.
            let _ = changed.changed().await;
        }
    }
}

/// How much of a reply has been shown.
#[derive(Default)]
struct Reply {
    /// Where the last page begins.
    cursor: Option<String>,
    /// Rows of that page that have been shown.
    shown: usize,
}

impl Reply {
    async fn show_more(&mut self, turn: &str, chat: &Chat) -> Result<(), CallFailed> {
        loop {
            let page = chat.person.chunks(turn, self.cursor.as_deref()).await?;
            page.page.iter().skip(self.shown).for_each(|chunk| chat.screen.reply(&chunk.text));
            if page.is_done {
                self.shown = page.page.len();
                return Ok(());
            }
            (self.cursor, self.shown) = (Some(page.continue_cursor), 0);
        }
    }
}

fn ending(turn: &Turn) -> String {
    let seconds = (turn.ended_at.unwrap_or(turn.sent_at) - turn.sent_at) / 1_000.0;
    let chunks = turn.chunks.unwrap_or_default();
    let state = &turn.state;
    let why = turn.error.as_ref().map(|error| format!(": {} ({})", error.message, error.code));
    format!("[{state} after {seconds:.1} s, {chunks} chunks{}]", why.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::person::TurnError;

    #[test]
    fn a_line_is_a_message_or_a_command() {
        let check = |line, expect| assert_eq!(Wish::read(line), expect);
        check(" hello [[deltas=2]]\n", Ok(Some(Wish::Say("hello [[deltas=2]]".into()))));
        check("  ", Ok(None));
        check("/approve", Ok(Some(Wish::Approve)));
        check("/revoke", Ok(Some(Wish::Revoke)));
        check("/connect", Ok(Some(Wish::Connect)));
        check("/models", Ok(Some(Wish::Models)));
        check("/end", Ok(Some(Wish::EndSession)));
        check("/quit", Ok(Some(Wish::Quit)));
        insta::assert_snapshot!(Wish::read("/x").unwrap_err(), @"there is no command `/x`; there are /approve, /connect, /models, /end, /revoke and /quit");
    }

    #[test]
    fn the_end_of_a_turn_says_why() {
        let mut turn = Turn {
            id: "t".into(),
            state: "completed".into(),
            sent_at: 1_000.0,
            ended_at: Some(2_240.0),
            chunks: Some(3.0),
            error: None,
        };
        insta::assert_snapshot!(ending(&turn), @"[completed after 1.2 s, 3 chunks]");
        turn.state = "failed".into();
        turn.error = Some(TurnError { code: "crashed".into(), message: "OpenCode ended.".into() });
        insta::assert_snapshot!(ending(&turn), @"[failed after 1.2 s, 3 chunks: OpenCode ended. (crashed)]");
    }
}
