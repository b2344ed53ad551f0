//! Fake Convex.
