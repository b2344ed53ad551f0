//! Placeholder, replaced by the OpenCode client.
