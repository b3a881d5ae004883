//! Where `libggpager.so` is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The preloaded library's file name.
pub const FILE_NAME: &str = "libggpager.so";

/// Names the library itself; wins over every folder.
pub const VARIABLE: &str = "GGPAGER_LIB";

/// Why the library cannot be preloaded.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// No candidate exists.
    #[error("{FILE_NAME} is in none of these places:{}\nset {VARIABLE} to its path", listing(.0))]
    NotFound(Vec<PathBuf>),
    /// `$GGPAGER_LIB` names something that is no file.
    #[error("{VARIABLE} names {0:?}, which is not a file")]
    NotAFile(PathBuf),
    /// The loader splits `LD_PRELOAD` at spaces and colons and knows no escape (ld.so(8)).
    #[error(
        "the loader cannot preload {0:?}: LD_PRELOAD is split at spaces and colons; \
         copy the library elsewhere and set {VARIABLE} to its path"
    )]
    Unspeakable(PathBuf),
}

fn listing(places: &[PathBuf]) -> String {
    places.iter().map(|place| format!("\n  {}", place.display())).collect()
}

/// Finds the library: `$GGPAGER_LIB`, then beside the running binary, its `../lib` and
/// `../lib/ggpager`, the cargo target folder that the binary lies in, then the system's folders.
/// The path is absolute.
pub fn find() -> Result<PathBuf, LibraryError> {
    let exe = std::env::current_exe().ok().and_then(|exe| exe.canonicalize().ok());
    find_for(std::env::var_os(VARIABLE).as_deref(), exe.as_deref())
}

fn find_for(named: Option<&OsStr>, exe: Option<&Path>) -> Result<PathBuf, LibraryError> {
    let found = match named.filter(|name| !name.is_empty()) {
        Some(name) => {
            let path = PathBuf::from(name);
            path.is_file().then(|| path.clone()).ok_or(LibraryError::NotAFile(path))?
        }
        None => {
            let places = candidates(exe);
            places.iter().find(|place| place.is_file()).cloned().ok_or(LibraryError::NotFound(places))?
        }
    };
    let path = found.canonicalize().unwrap_or(found);
    if path.as_os_str().as_bytes().iter().any(|byte| b" :".contains(byte)) {
        return Err(LibraryError::Unspeakable(path));
    }
    Ok(path)
}

/// Every place that is looked at, in order.
fn candidates(exe: Option<&Path>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(folder) = exe.and_then(Path::parent) {
        folders.push(folder.to_owned());
        if let Some(parent) = folder.parent() {
            folders.extend([parent.join("lib"), parent.join("lib/ggpager")]);
            // target/debug/deps/ for test binaries, target/debug/ beside target/release/.
            if folder.ends_with("deps") {
                folders.push(parent.to_owned());
            }
            if folder.ends_with("debug") {
                folders.push(parent.join("release"));
            }
        }
    }
    let triplet = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    for root in ["/usr/local/lib", "/usr/lib", &triplet, "/usr/lib64"] {
        folders.extend([PathBuf::from(root), Path::new(root).join("ggpager")]);
    }
    folders.into_iter().map(|folder| folder.join(FILE_NAME)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) -> PathBuf {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
        path.canonicalize().unwrap()
    }

    #[test]
    fn the_variable_wins_over_the_folder_of_the_binary() {
        let root = tempfile::tempdir().unwrap();
        let exe = touch(&root.path().join("bin/ggpager"));
        let beside = touch(&root.path().join("bin/libggpager.so"));
        let named = touch(&root.path().join("elsewhere/lib.so"));
        assert_eq!(find_for(None, Some(&exe)).unwrap(), beside);
        assert_eq!(find_for(Some(OsStr::new("")), Some(&exe)).unwrap(), beside);
        assert_eq!(find_for(Some(named.as_os_str()), Some(&exe)).unwrap(), named);
        let gone = root.path().join("gone.so");
        assert!(
            matches!(find_for(Some(gone.as_os_str()), Some(&exe)), Err(LibraryError::NotAFile(path)) if path == gone)
        );
    }

    #[test]
    fn installed_and_cargo_layouts_are_known() {
        for (exe, library) in [
            ("bin/ggpager", "lib/libggpager.so"),
            ("bin/ggpager", "lib/ggpager/libggpager.so"),
            ("target/debug/ggpager", "target/release/libggpager.so"),
            ("target/debug/deps/run-0123", "target/debug/libggpager.so"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let exe = touch(&root.path().join(exe));
            let library = touch(&root.path().join(library));
            assert_eq!(find_for(None, Some(&exe)).unwrap(), library);
        }
    }

    #[test]
    fn an_error_names_where_it_looked_and_a_path_that_cannot_be_preloaded() {
        let root = tempfile::tempdir().unwrap();
        let exe = touch(&root.path().join("bin/ggpager"));
        // A library installed in the system's own folders is found: then there is no error to see.
        if let Err(error) = find_for(None, Some(&exe)) {
            let text = error.to_string();
            assert!(text.contains("bin/libggpager.so") && text.contains("/usr/local/lib/libggpager.so"), "{text}");
        }
        let spaced = touch(&root.path().join("my models/libggpager.so"));
        assert!(matches!(find_for(Some(spaced.as_os_str()), None), Err(LibraryError::Unspeakable(_))));
    }
}
