//! The topics of retained messages as a tree, one level at a time.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{
    api::{Answered, Asked, asked, json, limit},
    panel::Panel,
    problem::Problem,
};
use crate::{
    base::ids::ShardId,
    shard::ask::{Answer, Question, RetainedPage},
};

/// Which level is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
    /// The levels above, `a/b`; the first level if it is not given.
    below: Option<String>,
}

#[derive(Debug, Serialize)]
struct Page {
    levels: Vec<Entry>,
    /// Where the next page begins; `null` after the last one.
    cursor: Option<String>,
}

/// One level, and what there is from it on.
#[derive(Debug, Serialize)]
struct Entry {
    level: String,
    topic: String,
    /// A message is retained for this topic itself.
    retained: bool,
    /// There are retained messages on further levels.
    deeper: bool,
}

/// A page of the names of one level, in the order of the topics.
pub(super) async fn list(State(panel): State<Panel>, listing: Asked<Listing>) -> Answered {
    let Listing { limit: count, cursor, below } = asked(listing)?;
    let count = limit(count)?;
    if below.as_ref().is_some_and(|below| below.contains(['+', '#'])) {
        return Err(Problem::bad_request("`below` is a part of a Topic Name: it has no wildcard"));
    }
    let above = below.map_or(String::new(), |below| below + "/");
    let mut walk = Walk { panel: &panel, above, after: cursor, levels: Vec::new(), questions: 0 };
    let cursor = walk.go(count).await?;
    json(&Page { levels: walk.levels, cursor })
}

/// A walk over the topics in their order, which jumps over what is below a level.
struct Walk<'a> {
    panel: &'a Panel,
    /// What all topics begin with.
    above: String,
    /// The topic behind which to go on.
    after: Option<String>,
    levels: Vec<Entry>,
    questions: usize,
}

impl Walk<'_> {
    /// Finds so many levels. Returns where to go on.
    async fn go(&mut self, count: usize) -> Result<Option<String>, Problem> {
        while self.questions < QUESTIONS_MAX {
            let page =
                self.ask(format!("{}#", self.above), self.after.clone(), MESSAGES_AT_ONCE).await?;
            for message in page.messages {
                if self.levels.len() >= count {
                    return Ok(self.after.clone());
                }
                // The message of `a` matches `a/#`, and is not below it.
                let Some(rest) = message.topic.strip_prefix(&self.above) else { continue };
                let is_passed = |after: &String| message.topic <= *after;
                if self.after.as_ref().is_some_and(is_passed) {
                    continue;
                }
                let (level, deeper) =
                    rest.split_once('/').map_or((rest, false), |(it, _)| (it, true));
                let level = level.to_owned();
                self.note(&level, deeper).await?;
                self.after = Some(if deeper {
                    format!("{}{level}/{LAST}", self.above).max(message.topic)
                } else {
                    message.topic
                });
            }
            if page.next.is_none() {
                return Ok(None);
            }
            // A level that goes on behind this page is jumped over.
            self.after = self.after.take().max(page.next);
        }
        Ok(self.after.clone())
    }

    /// Adds a level. One with a message of its own comes first by that, and again by what is below
    /// it, with others such as `a-b` between `a` and `a/b`.
    async fn note(&mut self, level: &str, is_below: bool) -> Result<(), Problem> {
        let topic = format!("{}{level}", self.above);
        let page = self.ask(format!("{topic}/#"), None, 2).await?;
        let retained = page.messages.first().is_some_and(|first| first.topic == topic);
        if !(retained && is_below) {
            let found = page.messages.len() > usize::from(retained);
            let deeper = is_below || found || page.next.is_some();
            self.levels.push(Entry { level: level.to_owned(), topic, retained, deeper });
        }
        Ok(())
    }

    async fn ask(
        &mut self,
        filter: String,
        after: Option<String>,
        count: usize,
    ) -> Result<RetainedPage, Problem> {
        self.questions += 1;
        let question = Question::Retained { filter, after, count };
        match self.panel.ask(ShardId::FIRST, &question).await? {
            Answer::Retained(page) => Ok(page),
            Answer::Refused(_) => Err(Problem::bad_request("`below` is no part of a Topic Name")),
            _ => Ok(RetainedPage::default()),
        }
    }
}

const MESSAGES_AT_ONCE: usize = 64;
/// Questions for one page.
const QUESTIONS_MAX: usize = 1024;
/// Comes after almost all names of a level; a name that comes after it is met one by one.
const LAST: &str = "\u{10FFFF}\u{10FFFF}";
