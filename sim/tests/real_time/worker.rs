//! What the tests have in common: the binary under test.

use std::{sync::LazyLock, time::Duration};

/// How long anything that is waited for may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// The binary, built as this test is. With `sim` beside it, so that both are built with the same features; and without
/// what cargo tells a test about its package, which would have `ring` and all above it built again.
pub(crate) static WORKER: LazyLock<String> = LazyLock::new(|| {
    let build = escargot::CargoBuild::new().package("worker").arg("--package=sim").bin("worker");
    let about_us = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_"));
    let build = about_us.fold(build, |build, (name, _)| build.env_remove(name));
    let build = build.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    let built = build.current_release().run().expect("the worker builds");
    built.path().to_str().expect("a path of letters").to_owned()
});
