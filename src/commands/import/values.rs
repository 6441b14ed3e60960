//! Values of mosquitto.conf, as TOML.

use std::fmt::Write;

/// How a value becomes one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convert {
    Text,
    Number,
    /// 0 or less means no limit there, which is this here; nothing is written if it is empty.
    NumberOr(&'static str),
    /// A limit of the payload, which is one of the packet here.
    Payload,
    /// A time such as `14d`, here in seconds.
    Duration,
}

impl Convert {
    /// The value as TOML; `Ok(None)` if the default says it.
    pub(super) fn apply(self, value: &str) -> Result<Option<String>, &'static str> {
        let number = || value.parse::<i64>().map_err(|_| "the value is not a number");
        match self {
            Convert::Text => Ok(Some(text(value))),
            Convert::NumberOr(unlimited) if number()? <= 0 => {
                Ok(Some(unlimited).filter(|text| !text.is_empty()).map(of_word))
            }
            Convert::Number | Convert::NumberOr(_) => Ok(Some(number()?.to_string())),
            Convert::Payload => match number()? {
                0 => Ok(None),
                bytes => Ok(Some(bytes.saturating_add(PACKET_OVERHEAD).to_string())),
            },
            Convert::Duration => seconds(value).map(|seconds| Some(seconds.to_string())),
        }
    }
}

/// A string of TOML.
pub(super) fn text(value: &str) -> String {
    let mut out = String::from('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => {
                let escaped = write!(out, "\\u{:04X}", u32::from(letter));
                escaped.expect("a String takes all that is written to it");
            }
            letter => out.push(letter),
        }
    }
    out + "\""
}

/// A number as it is, anything else as a string.
fn of_word(word: &str) -> String {
    if word.parse::<u64>().is_ok() { word.to_owned() } else { text(word) }
}

/// `true` and `false`, as mosquitto reads them.
pub(super) fn is_true(value: &str) -> Result<bool, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("the value is not true or false"),
    }
}

/// The seconds of a time with its unit: hours, days, weeks, months or years.
fn seconds(value: &str) -> Result<u32, &'static str> {
    let wrong = "the value is not a time such as 14d";
    let unit = match value.chars().last() {
        Some('h') => 3600,
        Some('d') => DAY,
        Some('w') => 7 * DAY,
        Some('m') => 30 * DAY,
        Some('y') => 365 * DAY,
        _ => return Err(wrong),
    };
    let count: u64 = value[..value.len() - 1].parse().map_err(|_| wrong)?;
    Ok(u32::try_from(count.saturating_mul(unit)).unwrap_or(u32::MAX))
}

const DAY: u64 = 24 * 3600;
/// Room for a topic and properties beside a payload.
const PACKET_OVERHEAD: i64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_converted() {
        for (convert, value, expected) in [
            (Convert::Text, "/a b\"\\", Ok(Some("\"/a b\\\"\\\\\""))),
            (Convert::Text, "a\tb", Ok(Some("\"a\\u0009b\""))),
            (Convert::Number, "7", Ok(Some("7"))),
            (Convert::Number, "x", Err("the value is not a number")),
            (Convert::NumberOr("65535"), "0", Ok(Some("65535"))),
            (Convert::NumberOr("256MiB"), "-1", Ok(Some("\"256MiB\""))),
            (Convert::NumberOr(""), "0", Ok(None)),
            (Convert::NumberOr(""), "5", Ok(Some("5"))),
            (Convert::Payload, "0", Ok(None)),
            (Convert::Payload, "1000", Ok(Some("66536"))),
            (Convert::Duration, "2w", Ok(Some("1209600"))),
            (Convert::Duration, "999y", Ok(Some("4294967295"))),
            (Convert::Duration, "2", Err("the value is not a time such as 14d")),
            (Convert::Duration, "ä", Err("the value is not a time such as 14d")),
        ] {
            let expected = expected.map(|value| value.map(str::to_owned));
            assert_eq!(convert.apply(value), expected, "{convert:?} {value}");
        }
    }
}
