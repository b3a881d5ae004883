//! Models in several files: `NAME-00001-of-00003.gguf`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The place of a file among the shards of its model, from its name (`llama_split_path`: five
/// digits each, counted from 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardName {
    directory: PathBuf,
    prefix: Vec<u8>,
    /// Counted from 1.
    pub number: u32,
    /// How many shards there are.
    pub count: u32,
}

/// `-00001-of-00003.gguf`
const TAIL_BYTES: usize = 1 + 5 + 4 + 5 + 5;

impl ShardName {
    /// Takes the name apart; `None` when the file is no shard.
    pub fn parse(path: &Path) -> Option<ShardName> {
        let name = path.file_name()?.as_bytes();
        let (prefix, tail) = name.split_at_checked(name.len().checked_sub(TAIL_BYTES)?)?;
        let rest = tail.strip_prefix(b"-")?.strip_suffix(b".gguf")?;
        let (number, rest) = rest.split_at_checked(5)?;
        let (number, count) = (digits(number)?, digits(rest.strip_prefix(b"-of-")?)?);
        let directory = path.parent().map(Path::to_owned).unwrap_or_default();
        (1..=count).contains(&number).then(|| ShardName { directory, prefix: prefix.to_vec(), number, count })
    }

    /// The path of shard `number`, counted from 1.
    pub fn path(&self, number: u32) -> PathBuf {
        let mut name = self.prefix.clone();
        name.extend_from_slice(format!("-{number:05}-of-{:05}.gguf", self.count).as_bytes());
        self.directory.join(OsString::from_vec(name))
    }

    /// The paths of all shards, this one included, in order.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        (1..=self.count).map(|number| self.path(number))
    }
}

fn digits(text: &[u8]) -> Option<u32> {
    let text = str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The paths of all shards of the model that `path` belongs to; only `path` itself when it is no
/// shard.
pub fn shard_paths(path: &Path) -> Vec<PathBuf> {
    match ShardName::parse(path) {
        Some(shard) => shard.paths().collect(),
        None => vec![path.to_owned()],
    }
}

/// Bytes of all shards of the model that `path` belongs to.
///
/// # Errors
/// Whatever `stat` says about the first shard that is not there.
pub fn model_bytes(path: &Path) -> io::Result<u64> {
    let bytes = |path: &Path| -> io::Result<u64> { Ok(u64::try_from(rustix::fs::stat(path)?.st_size).unwrap_or(0)) };
    match ShardName::parse(path) {
        Some(shard) => shard.paths().try_fold(0u64, |sum, path| Ok(sum.saturating_add(bytes(&path)?))),
        None => bytes(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_known_by_name() {
        let shard = ShardName::parse(Path::new("/m/a-b-00002-of-00003.gguf")).unwrap();
        assert_eq!((shard.number, shard.count), (2, 3));
        let paths: Vec<_> = shard.paths().collect();
        assert_eq!(paths[0], Path::new("/m/a-b-00001-of-00003.gguf"));
        assert_eq!(paths[2], Path::new("/m/a-b-00003-of-00003.gguf"));
        assert_eq!(paths.len(), 3);
        for name in [
            "a.gguf",
            "-00001-of-0002.gguf",
            "a-00000-of-00002.gguf",
            "a-00003-of-00002.gguf",
            "a-0000x-of-00002.gguf",
            "a-+0001-of-00002.gguf",
            "a-00001-of-00002.ggml",
            "a-00001_of-00002.gguf",
            "",
            "/",
        ] {
            assert_eq!(ShardName::parse(Path::new(name)), None, "{name}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_stay_as_they_are() {
        let name = OsString::from_vec(b"\xff\xfe-00001-of-00002.gguf".to_vec());
        let shard = ShardName::parse(Path::new(&name)).unwrap();
        assert_eq!(shard.path(2).as_os_str().as_bytes(), b"\xff\xfe-00002-of-00002.gguf");
    }

    #[test]
    fn all_shards_are_weighed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |number| folder.path().join(format!("m-0000{number}-of-00002.gguf"));
        std::fs::write(path(1), [0; 100]).unwrap();
        assert_eq!(model_bytes(&path(1)).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(path(2), [0; 23]).unwrap();
        assert_eq!(model_bytes(&path(1)).unwrap(), 123);
        assert_eq!(model_bytes(&path(2)).unwrap(), 123);
        let single = folder.path().join("single.gguf");
        std::fs::write(&single, [0; 7]).unwrap();
        assert_eq!(model_bytes(&single).unwrap(), 7);
        assert_eq!(shard_paths(&single), [single]);
        assert_eq!(shard_paths(&path(2)), [path(1), path(2)]);
    }
}
