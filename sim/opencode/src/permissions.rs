//! Permission questions: asked by a tool, listed, answered by a client, forgotten when their run ends.

use std::rc::Rc;

use serde_json::json;
use tokio::sync::oneshot;

use super::{
    state::{PendingPermission, ServerState},
    wire::{PermissionRequest, ToolRef},
};

/// Forgets the question when the run that asked is aborted or dies.
struct Asked {
    server: Rc<ServerState>,
    id: String,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.server.permissions.borrow_mut().remove(&self.id);
    }
}

impl ServerState {
    /// Asks whether a command may run, and waits as long as it takes. `always` is taken as `once`.
    pub(super) async fn ask(
        self: &Rc<Self>,
        session: &str,
        message: &str,
        call: &str,
        command: &str,
    ) -> bool {
        let id = self.machine.store.borrow_mut().ids.ascending("per", self.machine.now());
        let request = PermissionRequest {
            id: id.clone(),
            session_id: session.into(),
            permission: "bash",
            patterns: vec![command.into()],
            metadata: json!({ "command": command }),
            always: vec![format!("{command} *")],
            tool: ToolRef { message_id: message.into(), call_id: call.into() },
        };
        let (answer, answered) = oneshot::channel();
        self.permissions
            .borrow_mut()
            .insert(id.clone(), PendingPermission { request: request.clone(), answer });
        let _asked = Asked { server: self.clone(), id };
        self.emit("permission.asked", &request);
        answered.await.unwrap_or(false)
    }

    pub(super) fn pending_permissions(&self) -> Vec<PermissionRequest> {
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
