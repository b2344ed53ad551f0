//! A call of the `bash` tool inside a step, with or without asking for permission.

use serde_json::{Value, json};

use super::step::{Step, StepEnd};
use crate::{
    observation::ReplyOutcome,
    script::ToolCall,
    sessions::NewSession,
    state::pause,
    wire::{AssistantInfo, Info, Part, PartBody, Tokens},
};

impl Step<'_> {
    pub(super) async fn call_tool(&mut self, call: &ToolCall) -> StepEnd {
        let call_id = format!("call_{}", self.plan.tools_done + 1);
        let command = format!("echo {}", self.plan.tag());
        let input = json!({ "command": command, "description": "say it" });
        let pending = json!({ "status": "pending", "input": {}, "raw": "" });
        let tool = if call.child { "task" } else { "bash" };
        self.open(PartBody::Tool { tool, call_id: call_id.clone(), state: pending });
        let start = self.server.machine.now();
        let running = json!({ "status": "running", "input": input, "time": { "start": start } });
        self.tool_state(running.clone());
        if call.asks && !self.may_run(call, &call_id, &command, running.clone()).await {
            self.fail_tool("The user rejected permission to use this specific tool call.");
            self.finish("tool-calls", Tokens::default());
            self.ended(ReplyOutcome::PermissionRefused);
            return StepEnd::Refused;
        }
        let output = format!("{}\n", self.plan.tag());
        for seen in ["", &output] {
            let mut state = running.clone();
            state["metadata"] = json!({ "output": seen });
            self.tool_state(state);
            pause(call.runs_for / 2).await;
        }
        self.tool_state(json!({
            "status": "completed", "input": input, "output": output, "title": command,
            "metadata": { "output": output, "exit": 0, "truncated": false },
            "time": { "start": start, "end": self.server.machine.now() },
        }));
        self.open = None;
        self.plan.tools_done += 1;
        self.finish("tool-calls", Tokens::default());
        StepEnd::CalledTool
    }

    /// Asks whether the command may run: the session itself, or a child of it.
    async fn may_run(&self, call: &ToolCall, call_id: &str, command: &str, running: Value) -> bool {
        let server = self.server;
        if !call.child {
            return server.ask(self.session, &self.info.id, call_id, command).await;
        }
        let new = NewSession {
            title: Some("say it (@general subagent)".into()),
            parent_id: Some(self.session.to_owned()),
            ..NewSession::default()
        };
        let now = server.machine.now();
        let child = server.machine.store.borrow_mut().create(new, now);
        server.emit_session("session.created", &child);
        server.emit_status(&child.id, "busy");
        let message = self.message_of_child(&child.id, call_id, running, now);
        let allowed = server.ask(&child.id, &message, call_id, command).await;
        server.emit_idle(&child.id);
        allowed
    }

    /// The child's own message, in which its model calls the tool. Nobody here follows a child's messages, so no event
    /// tells of it.
    fn message_of_child(&self, child: &str, call_id: &str, state: Value, now: u64) -> String {
        let mut store = self.server.machine.store.borrow_mut();
        let id = store.ids.ascending("msg", now);
        let info = AssistantInfo { id: id.clone(), session_id: child.into(), ..(*self.info).clone() };
        store.push_message(child, Info::Assistant(info.into()));
        let body = PartBody::Tool { tool: "bash", call_id: call_id.into(), state };
        let part = store.part(child, &id, body, now);
        store.set_part(part);
        id
    }

    /// Tool states are stored as they come, unlike text.
    fn tool_state(&mut self, new: Value) {
        if let Some(Part { body: PartBody::Tool { state, .. }, .. }) = &mut self.open {
            *state = new;
        }
        if let Some(part) = self.open.clone() {
            self.store(part);
        }
    }

    pub(super) fn fail_tool(&mut self, error: &str) {
        let Some(Part { body: PartBody::Tool { state, .. }, .. }) = &self.open else { return };
        let now = self.server.machine.now();
        let start = state["time"]["start"].as_u64().unwrap_or(now);
        let time = json!({ "start": start, "end": now });
        let failed = json!({ "status": "error", "input": state["input"], "error": error, "time": time });
        self.tool_state(failed);
        self.open = None;
    }
}
