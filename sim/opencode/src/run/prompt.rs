//! A prompt becomes a user message, and the session keeps its model and agent.

use crate::{
    sessions,
    state::ServerState,
    wire::{Info, Message, Model, PartBody, SessionModel, UserInfo, unknown_error},
};

/// The agents of a plain installation.
const AGENTS: [&str; 4] = ["build", "explore", "general", "plan"];

/// A prompt, validated.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) texts: Vec<String>,
    pub(crate) model: Option<Model>,
    pub(crate) agent: Option<String>,
    pub(crate) message_id: Option<String>,
    pub(crate) no_reply: bool,
}

/// Why a prompt was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
    #[error("Session not found")]
    NoSession,
    #[error("Agent not found: \"{0}\". Available agents: build, explore, general, plan")]
    NoAgent(String),
    #[error("a messageID that is already taken")]
    MessageTaken,
}

impl ServerState {
    /// Stores a prompt and publishes it.
    pub(super) fn store_prompt(&self, session: &str, ask: &Ask) -> Result<Message, PromptError> {
        let info = Info::User(self.user_message(session, ask)?);
        let now = self.machine.now();
        self.machine.store.borrow_mut().push_message(session, info.clone());
        self.emit_message(session, &info);
        let mut parts = Vec::with_capacity(ask.texts.len());
        for text in &ask.texts {
            let body = PartBody::of_text(text.clone(), None);
            let part = self.machine.store.borrow_mut().part(session, info.id(), body, now);
            self.machine.store.borrow_mut().set_part(part.clone());
            self.emit_part(&part);
            parts.push(part);
        }
        self.touch(session, |_| ());
        Ok(Message { info, parts })
    }

    /// The user message of a prompt. The session keeps the model and the agent, also a model that does not exist.
    fn user_message(&self, session: &str, ask: &Ask) -> Result<UserInfo, PromptError> {
        let now = self.machine.now();
        let known = self.machine.store.borrow().get(session).cloned().ok_or(PromptError::NoSession)?;
        let agent = ask.agent.clone().or(known.agent.clone()).unwrap_or_else(|| "build".into());
        if !AGENTS.contains(&agent.as_str()) {
            let error = PromptError::NoAgent(agent);
            self.emit_error(session, &unknown_error(&error.to_string()));
            return Err(error);
        }
        let model =
            ask.model.clone().or(known.model.clone().map(Model::from)).unwrap_or(self.default_model());
        let id = match &ask.message_id {
            Some(id) if self.machine.store.borrow().message(session, id).is_some() => {
                return Err(PromptError::MessageTaken);
            }
            Some(id) => id.clone(),
            None => self.machine.store.borrow_mut().ids.ascending("msg", now),
        };
        let kept = SessionModel::from(model.clone());
        if known.agent.as_ref() != Some(&agent) || known.model.as_ref() != Some(&kept) {
            self.touch(session, |session| (session.agent, session.model) = (Some(agent.clone()), Some(kept)));
        }
        let time = sessions::created(now);
        Ok(UserInfo { id, session_id: session.into(), role: "user", time, summary: None, agent, model })
    }

    fn default_model(&self) -> Model {
        let name = &self.machine.options.models[0];
        let (provider_id, model_id) = name.split_once('/').unwrap_or(("fake", name));
        Model { provider_id: provider_id.into(), model_id: model_id.into() }
    }
}

impl From<SessionModel> for Model {
    fn from(model: SessionModel) -> Self {
        Self { provider_id: model.provider_id, model_id: model.id }
    }
}

impl From<Model> for SessionModel {
    fn from(model: Model) -> Self {
        Self { id: model.model_id, provider_id: model.provider_id, variant: Some("default".into()) }
    }
}
