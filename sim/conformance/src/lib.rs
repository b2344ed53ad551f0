//! What the fakes are measured with: the real programs, found or reported as missing, and what they need around them.
//!
//! ```text
//! tools    Node, the npm packages and the real OpenCode, if they are installed
//! place    a home and a project for an OpenCode, and what still runs in them
//! model    a model server on loopback that answers by the directives in a prompt, as the fake OpenCode does
//! tap      a tap between a Convex client and a backend: keeps what is said, cuts where it is told to
//! opencode the same asked of the fake and of the real OpenCode, and how they differ
//! process  a child process whose output is awaited line by line
//! ```
//!
//! Nothing here talks to anything but loopback. What is not installed is skipped by the tests, which say so.

pub mod model;
pub mod opencode;
pub mod place;
pub mod process;
pub mod tap;
pub mod tools;
