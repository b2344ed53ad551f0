//! What was thrown, as its developer reads it.

use convex::Value;
use rquickjs::{CaughtError, Object};

use super::marshal::from_js;
use crate::sources::USER_PREFIX;

/// What a `ConvexError` carries.
pub(super) fn convex_error_data(error: &Object<'_>) -> Option<Value> {
    if error.get::<_, String>("name").ok()? != "ConvexError" || !error.contains_key("data").ok()? {
        return None;
    }
    from_js(&error.get("data").ok()?).ok()
}

/// Name, message and the user's part of the stack.
pub(super) fn describe(caught: &CaughtError<'_>) -> String {
    let CaughtError::Exception(exception) = caught else { return format!("{caught:?}") };
    let name = exception.as_object().get::<_, String>("name").unwrap_or_else(|_| "Error".into());
    let message = exception.message().unwrap_or_default();
    let stack = exception.stack().unwrap_or_default();
    let frames = stack.lines().filter(|line| line.contains(USER_PREFIX)).map(|line| {
        match line.split_once(USER_PREFIX) {
            Some((before, module)) => format!("{before}{USER_PREFIX}{}", module.replacen(':', ".ts:", 1)),
            None => line.to_owned(),
        }
    });
    frames.fold(format!("{name}: {message}"), |text, frame| format!("{text}\n    {}", frame.trim()))
}
