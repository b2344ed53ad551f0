//! The HTTP API: authentication, routes, and one place that reports each request.

use std::rc::Rc;

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use serde_json::json;

use self::{
    answer::{Answer, Body, Problem},
    call::Call,
};
use super::{
    observation::Observation,
    state::{ServerState, pause},
    wire::VERSION,
};

mod answer;
mod auth;
mod call;
mod input;
mod messages;
mod providers;
mod routes;
mod session;

/// Answers one request.
pub(super) async fn handle(server: Rc<ServerState>, request: Request<Incoming>) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = routes::find(method.as_str(), &path);
    let template = route.as_ref().map_or("*", |route| route.template);
    server.while_it_hangs().await;
    let refusal = server.faults().refuses(method.as_str(), template);
    let result = match (auth::check(server.password.as_deref(), &request), refusal, route) {
        (Err(problem), ..) => Err(problem),
        (Ok(()), Some(status), _) => Err(Problem::Refused(status)),
        (Ok(()), None, Some(route)) => respond(&server, route, request).await,
        (Ok(()), None, None) => Ok(answer::page()),
    };
    let mut response =
        result.unwrap_or_else(|problem| problem.into_answer(&server, method.as_str(), template));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
    let (method, status) = (method.as_str(), response.status().as_u16());
    server.machine.observe(&Observation::Request { method, route: template, status });
    response
}

async fn respond(server: &Rc<ServerState>, route: routes::Found, request: Request<Incoming>) -> Answer {
    let call = Call::read(route, request).await?;
    let is_prompt =
        call.template.ends_with("/prompt_async") || call.is("POST", "/session/{sessionID}/message");
    if !is_prompt {
        pause(server.latencies().request).await;
    }
    dispatch(server, &call).await
}

async fn dispatch(server: &Rc<ServerState>, call: &Call) -> Answer {
    match (call.method.as_str(), call.template) {
        ("GET", "/global/health") => answer::json(&json!({ "healthy": true, "version": VERSION })),
        ("GET", "/doc") => answer::json(&json!({
            "openapi": "3.1.0", "info": { "title": "opencode", "version": "1.0.0" }, "paths": {},
        })),
        ("GET", "/event") => Ok(answer::events(server.event_stream(call.is_for(server.directory())))),
        ("GET", "/config/providers") => providers::list(server),
        ("GET", "/session") => session::list(server, call),
        ("GET", "/experimental/session") => session::list_pages(server, call),
        ("POST", "/session") => session::create(server, call).await,
        ("GET", "/session/status") => session::status(server),
        ("GET", "/session/{sessionID}") => session::get(server, call),
        ("PATCH", "/session/{sessionID}") => session::patch(server, call),
        ("DELETE", "/session/{sessionID}") => session::delete(server, call),
        ("GET", "/session/{sessionID}/children") => session::children(server, call),
        ("POST", "/session/{sessionID}/abort") => session::abort(server, call),
        ("GET", "/session/{sessionID}/message") => messages::list(server, call),
        ("GET", "/session/{sessionID}/message/{messageID}") => messages::get(server, call),
        ("POST", "/session/{sessionID}/message") => messages::prompt(server, call).await,
        ("POST", "/session/{sessionID}/prompt_async") => messages::prompt_async(server, call).await,
        ("GET", "/permission") => answer::json(&server.pending_permissions()),
        ("POST", "/permission/{requestID}/reply") => permission(server, call, 0, "reply"),
        ("POST", "/session/{sessionID}/permissions/{permissionID}") => {
            permission(server, call, 1, "response")
        }
        ("GET", "/question") => answer::json(&json!([])),
        _ => Err(Problem::NotModelled("this route")),
    }
}

/// Both ways to answer a permission question; they differ in the name of the field.
fn permission(server: &ServerState, call: &Call, id: usize, field: &str) -> Answer {
    let body = call.json().map_err(|_| Problem::BadRequest)?;
    let reply = body[field].as_str().filter(|reply| ["once", "always", "reject"].contains(reply));
    let reply = reply.ok_or(Problem::BadRequest)?;
    if !server.answer_permission(call.id(id), reply) {
        return Err(Problem::NoPermission(call.id(id).into()));
    }
    answer::json(&true)
}
