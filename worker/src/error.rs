//! How a call of a backend function fails, as the rest of the worker sees it.

/// Why a backend function did not return a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The function refused with a code that the backend documents, such as `superseded`.
    #[error("{path} refused ({code}): {message}")]
    Refused {
        /// The function.
        path: &'static str,
        /// What programs tell it by.
        code: String,
        /// What people read.
        message: String,
    },
    /// The function failed otherwise: not deployed, an exception, a limit.
    #[error("{path} failed: {message}; are the functions of this version deployed?")]
    Failed {
        /// The function.
        path: &'static str,
        /// What the backend said.
        message: String,
    },
    /// The function returned something that this worker does not understand.
    #[error("{path} returned an unexpected value ({problem}); are the functions of this version deployed?")]
    Unexpected {
        /// The function.
        path: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The connection's owner has stopped.
    #[error("{path} was not called: the worker is stopping")]
    Closed {
        /// The function.
        path: &'static str,
    },
}

impl CallError {
    /// The code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Returns true if the function ran and changed nothing: it threw.
    pub fn was_thrown(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Failed { .. })
    }

    /// The function.
    pub fn path(&self) -> &'static str {
        match self {
            Self::Refused { path, .. }
            | Self::Failed { path, .. }
            | Self::Unexpected { path, .. }
            | Self::Closed { path } => path,
        }
    }

    /// Returns true if it says something about the worker as a whole rather than about this call.
    pub fn concerns_worker(&self) -> bool {
        let codes = [
            "superseded",
            "unauthorized",
            "revoked",
            "not_approved",
            "not_invited",
            "worker_too_old",
            "functions_too_old",
        ];
        matches!(self, Self::Closed { .. }) || self.code().is_some_and(|code| codes.contains(&code))
    }
}
