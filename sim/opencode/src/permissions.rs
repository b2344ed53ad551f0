//! Permission questions: asked by a tool, listed, answered by a client, forgotten when their run ends.

use std::rc::Rc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::server::Inner;

/// A question that waits for its answer.
pub(super) struct Pending {
    request: Request,
    answer: oneshot::Sender<bool>,
}

/// The shape of `PermissionRequest` in the API description.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Request {
    id: String,
    #[serde(rename = "sessionID")]
    session_id: String,
    permission: &'static str,
    patterns: Vec<String>,
    metadata: Value,
    always: Vec<String>,
    tool: ToolRef,
}

#[derive(Debug, Clone, Serialize)]
struct ToolRef {
    #[serde(rename = "messageID")]
    message_id: String,
    #[serde(rename = "callID")]
    call_id: String,
}

/// Forgets the question when the run that asked is aborted or dies.
struct Asked {
    server: Rc<Inner>,
    id: String,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.server.permissions.borrow_mut().remove(&self.id);
    }
}

impl Inner {
    /// Asks whether a command may run, and waits as long as it takes. `always` is taken as `once`.
    pub(super) async fn ask(
        self: &Rc<Self>,
        session: &str,
        message: &str,
        call: &str,
        command: &str,
    ) -> bool {
        let id = self.machine.store.borrow_mut().ids.ascending("per", self.machine.now());
        let request = Request {
            id: id.clone(),
            session_id: session.into(),
            permission: "bash",
            patterns: vec![command.into()],
            metadata: json!({ "command": command }),
            always: vec![format!("{command} *")],
            tool: ToolRef { message_id: message.into(), call_id: call.into() },
        };
        let (answer, answered) = oneshot::channel();
        self.permissions.borrow_mut().insert(id.clone(), Pending { request: request.clone(), answer });
        let _asked = Asked { server: self.clone(), id };
        self.emit("permission.asked", &request);
        answered.await.unwrap_or(false)
    }

    pub(super) fn pending_permissions(&self) -> Vec<Request> {
        self.permissions.borrow().values().map(|pending| pending.request.clone()).collect()
    }

    /// Answers a question; false when there is none with this id.
    pub(super) fn answer_permission(&self, id: &str, reply: &str) -> bool {
        let Some(pending) = self.permissions.borrow_mut().remove(id) else { return false };
        let session = &pending.request.session_id;
        self.emit("permission.replied", &json!({ "sessionID": session, "requestID": id, "reply": reply }));
        // The run may have ended in this very moment; then nobody waits.
        let _ = pending.answer.send(reply != "reject");
        true
    }
}
