//! `ringmq import`: the configuration of mosquitto as one of ringmq.

mod directives;
mod listeners;
mod read;
mod values;

use std::{collections::BTreeMap, fmt, path::Path};

use anyhow::Result;

use self::{
    directives::{Meaning, meaning},
    listeners::Listeners,
    read::Line,
    values::is_true,
};
use crate::config;

/// A configuration of ringmq, and what of mosquitto's is missing in it.
#[derive(Debug)]
pub struct Imported {
    pub toml: String,
    /// One for each directive without an equivalent, with the file and the line.
    pub remarks: Vec<Remark>,
}

/// A directive that was not taken over, or not as it was.
#[derive(Debug)]
pub struct Remark {
    place: String,
    directive: String,
    why: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Remark { place, directive, why } = self;
        write!(f, "{place}: {directive}: {why}")
    }
}

/// Reads a configuration file of mosquitto with the files that it includes.
pub fn import(path: &Path) -> Result<Imported> {
    let mut import = Import::default();
    for line in read::lines(path)? {
        import.take(&line);
    }
    Ok(import.finish())
}

#[derive(Debug, Default)]
struct Import {
    /// TOML values by table and key, with the line that said them.
    keys: BTreeMap<String, BTreeMap<&'static str, String>>,
    listeners: Listeners,
    log_level: Option<usize>,
    remarks: Vec<Remark>,
}

impl Import {
    fn take(&mut self, line: &Line) {
        let outcome = match meaning(&line.name) {
            Some(Meaning::Key(key, convert)) => {
                convert.apply(&line.value).map_err(str::to_owned).and_then(|value| match value {
                    Some(value) => self.set(key, value),
                    None => Ok(()),
                })
            }
            Some(Meaning::Part) => self.take_part(line),
            Some(Meaning::Same) => Ok(()),
            Some(Meaning::None(why)) => Err(why.to_owned()),
            None => Err("mosquitto has no such directive".to_owned()),
        };
        if let Err(why) = outcome {
            self.remark(line, why);
        }
    }

    /// Sets a key. The first value stays, as our settings hold for all listeners.
    fn set(&mut self, key: &'static str, value: impl Into<String>) -> Result<(), String> {
        let value = value.into();
        let Some(table) = config::table_of(key) else {
            return Err("this build has nothing like it".to_owned());
        };
        let known = self.keys.entry(table).or_default().entry(key).or_insert_with(|| value.clone());
        if *known == value {
            Ok(())
        } else {
            Err(format!("`{key}` holds for all listeners, and is {known} already"))
        }
    }

    fn take_part(&mut self, line: &Line) -> Result<(), String> {
        let value = &line.value;
        match line.name.as_str() {
            "log_type" => self.take_log_type(value),
            "log_dest" if value == "stderr" => Ok(()),
            "log_dest" => {
                Err("the log goes to standard error: let the service manager collect it".to_owned())
            }
            "retain_available" if is_true(value)? => Ok(()),
            "retain_available" => self.set("disable", "[\"retain\"]".to_owned()),
            "certfile" => {
                self.listeners.note_certificate();
                self.set("tls-cert", values::text(value))
            }
            "keyfile" => self.set("tls-key", values::text(value)),
            "cafile" => self.set("tls-client-ca", values::text(value)),
            "require_certificate" if self.listeners.is_proxied() => {
                Err("let the proxy ask for certificates".to_owned())
            }
            "require_certificate" => {
                let whether = if is_true(value)? { "required" } else { "none" };
                self.set("tls-client-certs", values::text(whether))
            }
            "use_identity_as_username" | "use_subject_as_username" if !is_true(value)? => Ok(()),
            "use_identity_as_username" if self.listeners.is_proxied() => {
                self.set("proxy-user-from-cn", "true")
            }
            "use_identity_as_username" => self.set("tls-user-from", values::text("cn")),
            "use_subject_as_username" => self.set("tls-user-from", values::text("subject")),
            "tls_version" => match value.as_str() {
                "tlsv1.3" => self.set("tls-min", values::text("1.3")),
                "tlsv1.2" => self.set("tls-min", values::text("1.2")),
                _ => Err("TLS begins with 1.2".to_owned()),
            },
            _ => self.listeners.take(line),
        }
    }

    /// Several lines name several kinds of messages; ours are ordered.
    fn take_log_type(&mut self, value: &str) -> Result<(), String> {
        let level = match value {
            "none" => 0,
            "error" => 1,
            "warning" => 2,
            "notice" | "information" | "subscribe" | "unsubscribe" | "websockets" => 3,
            "debug" | "all" | "internal" => 4,
            _ => return Err("there are no such messages".to_owned()),
        };
        self.log_level = self.log_level.max(Some(level));
        Ok(())
    }

    fn remark(&mut self, line: &Line, why: String) {
        let Line { place, name, value } = line;
        // A password is not repeated.
        let hidden = name.contains("password") && name != "password_file" || name == "bridge_psk";
        let value = if hidden { "..." } else { value };
        let directive = format!("{name} {value}").trim_end().to_owned();
        self.remarks.push(Remark { place: place.clone(), directive, why });
    }

    fn finish(mut self) -> Imported {
        const LEVELS: [&str; 5] = ["off", "error", "warn", "info", "debug"];
        if let Some(level) = self.log_level {
            // The key cannot be set yet.
            drop(self.set("log", values::text(LEVELS[level])));
        }
        if let Some(connections) = self.listeners.connections_max() {
            drop(self.set("max-connections", connections.to_string()));
        }
        for (place, why) in self.listeners.faults() {
            self.remarks.push(Remark { place, directive: "listener".to_owned(), why });
        }
        Imported { toml: self.toml(), remarks: self.remarks }
    }

    fn toml(&self) -> String {
        let mut lines =
            vec!["# Made by `ringmq import` from a configuration of mosquitto.".to_owned()];
        if !self.remarks.is_empty() {
            lines.push("#\n# What was not taken over:".to_owned());
        }
        let one_line = |remark: &Remark| remark.to_string().replace(char::is_control, " ");
        lines.extend(self.remarks.iter().map(|remark| format!("# {}", one_line(remark))));
        for (table, keys) in &self.keys {
            lines.push(format!("\n[{table}]"));
            lines.extend(keys.iter().map(|(key, value)| format!("{key} = {value}")));
        }
        lines.join("\n") + "\n" + &self.listeners.toml()
    }
}

#[cfg(test)]
mod tests;
