//! Where messages go.

/// Where a publisher's messages go.
#[derive(Clone, Debug)]
pub enum Topics {
    One(String),
    /// Message n goes to topic n.
    Numbered(Pattern),
}

impl Topics {
    pub fn name(&self, sequence: u32) -> String {
        match self {
            Topics::One(topic) => topic.clone(),
            Topics::Numbered(pattern) => pattern.name(sequence),
        }
    }
}

/// Topic Names that differ in a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        Pattern(text.to_owned())
    }

    pub fn name(&self, id: u32) -> String {
        self.0.replace(ID, &id.to_string())
    }

    /// The filter of all names.
    pub fn filter(&self) -> String {
        self.0.replace(ID, "+")
    }
}

/// Stands for the number.
const ID: &str = "{id}";
