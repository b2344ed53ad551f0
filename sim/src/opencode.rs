//! Fake OpenCode.
