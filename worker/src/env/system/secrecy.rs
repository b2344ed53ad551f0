//! What keeps other processes of the same user, OpenCode's tools among them, from reading the worker's secret out of it.

use std::ffi::CStr;

use secrecy::SecretString;

/// Hides this process's memory, environment and open files from processes of the same user: they cannot trace it, and
/// `/proc` shows them nothing but what everybody sees. No core is dumped. Root sees everything.
///
/// # Errors
///
/// The system does not let it; only Linux does.
#[cfg(target_os = "linux")]
pub fn hide_process() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// See the other one.
///
/// # Errors
///
/// Always: the system has no such thing.
#[cfg(not(target_os = "linux"))]
pub fn hide_process() -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Takes a variable out of the environment, so that `/proc/PID/environ` does not show it any more: to remove a variable
/// leaves its text where the kernel looks. Call it while the process has one thread.
#[expect(unsafe_code, reason = "the text lies in memory that the C library owns")]
pub fn take_variable(name: &CStr) -> Option<SecretString> {
    // SAFETY: `name` ends with a zero. What is returned is zero or a string that ends with one and lives as long as
    // nobody changes the environment; nobody else runs.
    let text = unsafe { libc::getenv(name.as_ptr()) };
    if text.is_null() {
        return None;
    }
    // SAFETY: see above. The bytes belong to the process's own stack or heap, both writable; the zero at the end stays.
    let value = unsafe {
        let length = CStr::from_ptr(text).count_bytes();
        std::slice::from_raw_parts_mut(text.cast::<u8>(), length)
    };
    let taken = String::from_utf8_lossy(value).into_owned();
    value.fill(0);
    Some(taken.into())
}
