//! The lines of mosquitto.conf, and of the files in `include_dir`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// A directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The file and the line.
    pub(super) place: String,
    pub(super) name: String,
    /// The rest of the line.
    pub(super) value: String,
}

/// All directives, those of included files in the place of `include_dir`.
pub(super) fn lines(path: &Path) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    read(path, 0, &mut lines)?;
    Ok(lines)
}

fn read(path: &Path, depth: usize, lines: &mut Vec<Line>) -> Result<()> {
    if depth > DEPTH_MAX {
        bail!("{}: files include each other", path.display());
    }
    let text = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    for (number, text) in (1..).zip(text.lines()) {
        let Some((name, value)) = directive(text) else { continue };
        let place = format!("{}:{number}", path.display());
        if name == "include_dir" {
            for file in files_of(Path::new(value)).with_context(|| place.clone())? {
                read(&file, depth + 1, lines)?;
            }
        } else {
            lines.push(Line { place, name: name.to_owned(), value: value.to_owned() });
        }
    }
    Ok(())
}

/// The name and the rest of a line, if it has any.
fn directive(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let is_empty = line.is_empty() || line.starts_with('#');
    let (name, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    (!is_empty).then(|| (name, value.trim()))
}

/// The files that end in `.conf`, in the order of their names.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Folders within folders.
const DEPTH_MAX: usize = 8;
