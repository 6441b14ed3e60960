//! Files of secrets and of what the broker keeps: nobody but their owner may read them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use thiserror::Error;
use tracing::warn;

/// Why such a file is not read.
#[derive(Debug, Error)]
pub enum OwnFileFault {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("others than its owner may read it: `chmod 600` it")]
    Open,
}

/// Reads a file that nobody but its owner may read.
pub fn read_own(path: &Path) -> Result<String, OwnFileFault> {
    let mut file = File::open(path)?;
    if file.metadata()?.permissions().mode() & OTHERS != 0 {
        return Err(OwnFileFault::Open);
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// The lines that say something, with their numbers: neither empty ones nor those that begin with
/// a number sign.
pub fn lines_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Replaces a file as a whole or not at all.
pub fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let held = File::open(folder)?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // What an earlier process has left may have another mode, or be a link.
    drop(fs::remove_file(&new));
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The file is there, whatever comes of this.
    if let Err(fault) = held.sync_all() {
        warn!(path = %path.display(), %fault, "the folder of a file cannot be synced");
    }
    Ok(())
}

/// The permissions of a group and of everybody.
const OTHERS: u32 = 0o077;

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    #[test]
    fn a_file_is_replaced_whatever_stood_beside_it() {
        let folder = env::temp_dir().join(format!("ringmq-whole-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, left) = (folder.join("a.json"), folder.join("a.json.new"));
        std::os::unix::fs::symlink(folder.join("elsewhere"), &left).unwrap();
        for text in ["one", "two"] {
            write_whole(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!((mode & 0o777, folder.join("elsewhere").exists()), (0o600, false));
        fs::remove_dir_all(&folder).unwrap();
        // A bare name is in the present folder.
        let name = format!("ringmq-whole-{}.json", process::id());
        write_whole(Path::new(&name), b"here").unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"here");
        fs::remove_file(&name).unwrap();
    }
}
