//! Loaded functions: what they are, and whether arguments and results fit.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use convex::Value;
use rquickjs::{Function, Persistent};

use crate::{error::FunctionError, kind::Kind, limits, size::size, validator::Validator};

/// A loaded function.
pub(crate) struct LoadedFunction {
    pub(crate) kind: Kind,
    pub(crate) public: bool,
    pub(super) args: Option<Validator>,
    pub(super) returns: Option<Validator>,
    pub(super) definition: Persistent<Function<'static>>,
}

impl LoadedFunction {
    pub(super) fn check_args(&self, args: &Value) -> Result<(), FunctionError> {
        let size = size(args);
        if size > limits::ARGUMENTS_BYTES {
            return Err(FunctionError::plain(format!(
                "Arguments are too large (actual: {size} bytes, limit: {} bytes)",
                limits::ARGUMENTS_BYTES
            )));
        }
        let checked = self.args.as_ref().map_or(Ok(()), |validator| validator.check(args));
        checked.map_err(|why| FunctionError::plain(format!("ArgumentValidationError: {why}\n")))
    }

    pub(super) fn check_result(&self, result: &Value) -> Result<(), FunctionError> {
        let size = size(result);
        if size > limits::RESULT_BYTES {
            return Err(FunctionError::plain(format!(
                "Function return value is too large (actual: {size} bytes, limit: {} bytes)",
                limits::RESULT_BYTES
            )));
        }
        let checked = self.returns.as_ref().map_or(Ok(()), |validator| validator.check(result));
        checked.map_err(|why| FunctionError::plain(format!("ReturnsValidationError: {why}\n")))
    }
}

/// The loaded functions, by `module:name`.
#[derive(Default)]
pub(crate) struct Registry(pub(super) RefCell<BTreeMap<String, Rc<LoadedFunction>>>);

impl Registry {
    /// Finds a function by its path without `.js`.
    pub(crate) fn find(&self, path: &str) -> Option<Rc<LoadedFunction>> {
        self.0.borrow().get(path).cloned()
    }

    pub(super) fn nested(&self, kind: &str, path: &str) -> Result<Rc<LoadedFunction>, String> {
        let function = self.find(path).ok_or_else(|| format!("Could not find function for '{path}'."))?;
        if function.kind.as_str() == kind {
            Ok(function)
        } else {
            Err(format!(
                "Trying to execute {path} as {kind}, but it is defined as {}.",
                function.kind.as_str()
            ))
        }
    }
}

/// A cron job as declared.
#[derive(Debug, Clone, PartialEq)]
pub struct CronDeclaration {
    /// Its name.
    pub name: String,
    /// `{type, …}`, as `crons.ts` gave it.
    pub schedule: Value,
    /// The function that it runs.
    pub path: String,
    /// With which arguments.
    pub args: Value,
}
