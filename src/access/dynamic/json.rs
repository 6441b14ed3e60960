//! JSON as mosquitto reads and writes it: keys in any case, and each value as cJSON prints it.

use std::fmt::Write;

use serde_json::{Map, Value};

/// A value that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    Text(String),
    Number(i64),
    Flag(bool),
    List(Vec<Json>),
    /// The keys need no escape.
    Object(Object),
}

/// The members of an object, in the order in which they are written.
pub(super) type Object = Vec<(&'static str, Json)>;

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl Json {
    /// On one line, without spaces.
    pub(super) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(None, &mut out);
        out
    }

    /// For people, indented with tabs.
    pub(super) fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(Some(0), &mut out);
        out
    }

    /// `depth`: on lines of their own, so deep.
    fn write(&self, depth: Option<usize>, out: &mut String) {
        match self {
            Json::Text(text) => push_text(text, out),
            Json::Number(number) => {
                write!(out, "{number}").expect("a String takes all that is written to it");
            }
            Json::Flag(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Json::List(values) => {
                out.push('[');
                for (nth, value) in values.iter().enumerate() {
                    if nth > 0 {
                        out.push_str(if depth.is_some() { ", " } else { "," });
                    }
                    value.write(depth.map(|depth| depth + 1), out);
                }
                out.push(']');
            }
            Json::Object(members) => write_object(members, depth.map(|depth| depth + 1), out),
        }
    }
}

fn write_object(members: &Object, depth: Option<usize>, out: &mut String) {
    let begin_line = |depth: Option<usize>, out: &mut String| {
        if let Some(depth) = depth {
            out.push('\n');
            out.extend(std::iter::repeat_n('\t', depth));
        }
    };
    out.push('{');
    for (nth, (key, value)) in members.iter().enumerate() {
        if nth > 0 {
            out.push(',');
        }
        begin_line(depth, out);
        push_text(key, out);
        out.push_str(if depth.is_some() { ":\t" } else { ":" });
        value.write(depth, out);
    }
    begin_line(depth.map(|depth| depth - 1), out);
    out.push('}');
}

fn push_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).expect("a text is valid JSON"));
}

/// What is wrong with a member that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is not there.
    Absent,
    /// It has another type.
    Wrong,
}

/// The members of an object that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    /// `None`: it is no object.
    pub(super) fn of(value: &'a Value) -> Option<Members<'a>> {
        value.as_object().map(Members)
    }

    /// The first key that is not among these.
    pub(super) fn stranger(self, known: &[&str]) -> Option<&'a str> {
        let is_known = |key: &str| known.iter().any(|name| name.eq_ignore_ascii_case(key));
        self.0.keys().map(String::as_str).find(|key| !is_known(key))
    }

    /// Upper and lower case of a key are the same.
    pub(super) fn get(self, key: &str) -> Option<&'a Value> {
        let other_case = || self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        self.0.get(key).or_else(|| other_case().map(|(_, value)| value))
    }

    pub(super) fn text(self, key: &str) -> Result<&'a str, Missing> {
        let value = self.get(key).ok_or(Missing::Absent)?;
        value.as_str().ok_or(Missing::Wrong)
    }

    /// A text that may be absent.
    pub(super) fn text_if_any(self, key: &str) -> Result<Option<&'a str>, Missing> {
        match self.text(key) {
            Err(Missing::Absent) => Ok(None),
            text => text.map(Some),
        }
    }

    /// The default stands for what is absent or no number. A larger number is the largest one.
    pub(super) fn number(self, key: &str, default: i32) -> i32 {
        let number = self.get(key).and_then(Value::as_f64);
        #[expect(clippy::cast_possible_truncation, reason = "the cast keeps to the bounds")]
        number.map_or(default, |number| number as i32)
    }

    /// The default stands for what is absent or is neither true nor false.
    pub(super) fn flag(self, key: &str, default: bool) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    /// `None`: it is absent or no list.
    pub(super) fn list(self, key: &str) -> Option<&'a [Value]> {
        self.get(key).and_then(Value::as_array).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_cjson_writes_it() {
        let inner = Json::Object(vec![("x", Json::Number(-1)), ("y", Json::List(Vec::new()))]);
        let list = Json::List(vec![inner.clone(), inner, Json::Flag(true)]);
        let json = Json::Object(vec![("a\"", Json::from("é\n\u{1}/")), ("l", list)]);
        let compact = r#"{"a\"":"é\n\u0001/","l":[{"x":-1,"y":[]},{"x":-1,"y":[]},true]}"#;
        assert_eq!(json.compact(), compact);
        let pretty = "{\n\t\"a\\\"\":\t\"é\\n\\u0001/\",\n\t\"l\":\t[{\n\t\t\t\"x\":\t-1,\n\t\t\t\
                      \"y\":\t[]\n\t\t}, {\n\t\t\t\"x\":\t-1,\n\t\t\t\"y\":\t[]\n\t\t}, true]\n}";
        assert_eq!(json.pretty(), pretty);
    }

    #[test]
    fn keys_are_found_in_any_case() {
        let value: Value = serde_json::from_str(
            r#"{"textName":"a","N":1e99,"f":false,"z":null,"l":[1],"d":2.9,"o":{}}"#,
        )
        .unwrap();
        let members = Members::of(&value).unwrap();
        assert_eq!(members.text("textname"), Ok("a"));
        assert_eq!(
            (members.text("n"), members.text("q")),
            (Err(Missing::Wrong), Err(Missing::Absent))
        );
        assert_eq!(
            (members.text_if_any("q"), members.text_if_any("z")),
            (Ok(None), Err(Missing::Wrong))
        );
        assert_eq!((members.number("n", 0), members.number("d", 0)), (i32::MAX, 2));
        assert_eq!((members.number("f", -1), members.flag("n", true)), (-1, true));
        assert!(!members.flag("F", true) && members.list("l").is_some_and(|list| list.len() == 1));
        assert!(members.list("o").is_none() && Members::of(&Value::Null).is_none());
        assert_eq!(members.stranger(&["TEXTNAME", "n", "f", "z", "l", "d"]), Some("o"));
    }
}
