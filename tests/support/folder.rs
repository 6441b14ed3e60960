//! A folder of one test, with a file of tokens and a data directory.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process,
};

use crate::{broker::Broker, http::controlled};

pub(crate) const ADMIN: &str = "Authorization: Bearer bbbbbbbbbbbbbbbb";
pub(crate) const READER: &str = "Authorization: Bearer aaaaaaaaaaaaaaaa";

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(path.join("data")).unwrap();
        let tokens = "reader aaaaaaaaaaaaaaaa\nadmin bbbbbbbbbbbbbbbb\n";
        fs::write(path.join("tokens"), tokens).unwrap();
        fs::set_permissions(path.join("tokens"), fs::Permissions::from_mode(0o600)).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A broker with two shards that knows these tokens, and the port of its control thread.
    pub(crate) fn broker(&self, flags: &[&str]) -> (Broker, u16) {
        let tokens = self.path("tokens");
        controlled(2, &[&["--http-token-file", &tokens], flags].concat())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
