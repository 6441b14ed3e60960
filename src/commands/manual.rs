//! `ringmq man`: writes the man pages.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::config;

/// Writes all pages to a directory, and makes it if need be.
pub fn write_man_pages(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("directory {}", directory.display()))?;
    for page in config::man_pages() {
        let path = directory.join(page.file);
        fs::write(&path, page.text).with_context(|| format!("man page {}", path.display()))?;
    }
    Ok(())
}
