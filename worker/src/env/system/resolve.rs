//! From the name of an executable to the file that is to be run.
//!
//! Since 1.18 npm's `opencode` is a link to the real executable (seen in the package). Older packages, and some
//! installers, put a script for node there, which starts the real one as its child. That child would outlive a worker
//! that is killed, because the signal on a parent's death reaches only the script. So the script is passed by where
//! the package beside it holds the real executable.

use std::{
    env::consts::ARCH,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// The file to run for `binary`; `binary` itself if nothing better is found (the start then says what is wrong).
pub(super) fn resolve(binary: &Path) -> PathBuf {
    let Some(file) = find(binary).and_then(|found| found.canonicalize().ok()) else {
        return binary.to_owned();
    };
    if is_node_script(&file) { packaged(&file).unwrap_or(file) } else { file }
}

fn find(binary: &Path) -> Option<PathBuf> {
    if binary.components().count() > 1 {
        return Some(binary.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(binary)).find(|file| file.is_file())
}

fn is_node_script(file: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(128).read_to_end(&mut head));
    let first =
        String::from_utf8_lossy(head.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    read.is_ok() && first.starts_with("#!") && first.contains("node")
}

/// The executable in the platform's package, which npm puts beside the script's package or inside it.
fn packaged(script: &Path) -> Option<PathBuf> {
    let arch = if ARCH == "x86_64" { "x64" } else { "arm64" };
    let variants: &[&str] =
        if has_avx2() { &["", "-baseline", "-musl"] } else { &["-baseline", "-baseline-musl", ""] };
    let inside = |dir: &Path, variant: &&str| {
        dir.join(format!("node_modules/opencode-{}-{arch}{variant}/bin/opencode", std::env::consts::OS))
    };
    let dirs = script.ancestors().skip(1);
    dirs.flat_map(|dir| variants.iter().map(move |variant| inside(dir, variant))).find(|file| file.is_file())
}

fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_node_script_is_passed_by_where_the_real_executable_lies_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let script = root.join("node_modules/opencode-ai/bin/opencode");
        fs::create_dir_all(script.parent().unwrap()).unwrap();
        fs::write(&script, "#!/usr/bin/env node\nrequire('child_process')\n").unwrap();
        assert_eq!(resolve(&script), script, "nothing better is there");

        let arch = if ARCH == "x86_64" { "x64" } else { "arm64" };
        let variant = if has_avx2() { "" } else { "-baseline" };
        let real = root.join(format!("node_modules/opencode-linux-{arch}{variant}/bin/opencode"));
        fs::create_dir_all(real.parent().unwrap()).unwrap();
        fs::write(&real, "\x7fELF").unwrap();
        assert_eq!(resolve(&script), real);
    }

    #[test]
    fn a_link_leads_to_its_file_and_a_missing_file_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let real = root.join("opencode.exe");
        fs::write(&real, "\x7fELF").unwrap();
        let link = root.join("opencode");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(resolve(&link), real);
        assert_eq!(resolve(Path::new("no-such-program-anywhere")), Path::new("no-such-program-anywhere"));
    }

    #[test]
    fn a_bare_name_is_looked_up_in_the_path() {
        assert_eq!(resolve(Path::new("sh")), Path::new("/bin/sh").canonicalize().unwrap());
    }
}
