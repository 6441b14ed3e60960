//! Runs as one page that needs no other file and no network.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use super::summary::Summary;

/// The summary of a run, under a name.
#[derive(Debug, Serialize)]
pub struct NamedSummary {
    pub name: String,
    pub summary: Summary,
}

/// Writes the page with all runs side by side.
pub fn write(path: &Path, runs: &[NamedSummary]) -> Result<()> {
    let page = embed(&serde_json::to_string(runs)?);
    fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// A script ends at the first text that looks like its end tag, so `<` is written as an escape.
fn embed(json: &str) -> String {
    TEMPLATE.replace(PLACE, &json.replace('<', "\\u003c"))
}

const TEMPLATE: &str = include_str!("page.html");

/// The place in the template where the runs are put.
const PLACE: &str = "/*RUNS*/[]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_runs_and_asks_for_nothing_else() {
        assert_eq!(TEMPLATE.matches(PLACE).count(), 1);
        for foreign in ["//", "src=", "href=", "@import", "url("] {
            let lines = TEMPLATE.lines().filter(|line| !line.starts_with("//"));
            assert!(!lines.into_iter().any(|line| line.contains(foreign)), "{foreign}");
        }
        assert!(embed("</script>").contains("\\u003c/script>;"));
    }
}
