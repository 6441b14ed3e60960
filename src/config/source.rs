//! Where the settings of a broker come from: flags, then the environment, then the configuration
//! file, then the defaults. They can be read again.

use std::{
    collections::BTreeMap,
    env,
    error::Error as _,
    ffi::{OsStr, OsString},
    fmt, fs, io, iter,
    path::{Path, PathBuf},
};

use clap::{
    ArgMatches, Command, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use thiserror::Error;

use super::{
    file::{self, FileFault, ListenerTable},
    flags::{Flags, broker_flags},
    keys::{FILE_FLAG, Key, Takes, VARIABLE_PREFIX, nearest},
    listener::{ListenerFlags, listener_flags},
    settings::{Sources, settings},
};

/// The flags and the variables of this process, and the path of its configuration file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The flags that are given, by their place in the list of keys.
    given: Values,
    /// Those that begin with `RINGMQ_` and have a value.
    variables: BTreeMap<String, OsString>,
    file: Option<PathBuf>,
    /// What the service manager has made for the process.
    run_directory: Option<PathBuf>,
}

/// Values by their place in the list of keys.
pub(super) type Values = BTreeMap<usize, Vec<OsString>>;

/// Why the settings cannot be read. Each message is one line for each thing that is wrong.
#[derive(Debug, Error)]
pub enum SourceError {
    #[error("configuration file {}: {error}", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}", Faults(.path, .faults))]
    File { path: PathBuf, faults: Vec<FileFault> },
    #[error("{name}={}: {problem}", .value.display())]
    Variable { name: String, value: OsString, problem: String },
    /// Values of several flags.
    #[error("{0}")]
    Together(String),
}

impl Source {
    /// What was given, without the file.
    pub(super) fn new(
        matches: &ArgMatches,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Source {
        let keys = Key::all(&broker_flags());
        let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let values = |id: &str| -> Vec<OsString> {
            matches.get_raw(id).into_iter().flatten().map(OsStr::to_owned).collect()
        };
        let given = keys.iter().enumerate().filter(|(_, key)| is_given(&key.id));
        let given = given.map(|(place, key)| (place, values(&key.id))).collect();
        let mut variables: BTreeMap<String, OsString> = variables
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX) || name == RUN_DIRECTORY)
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let run_directory = variables.remove(RUN_DIRECTORY).as_deref().and_then(first_path);
        let file = variables.get(FILE_VARIABLE).map(PathBuf::from);
        let file = matches.get_one::<PathBuf>(FILE_FLAG).cloned().or(file);
        Source { given, variables, file, run_directory }
    }

    /// The configuration file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the file and puts everything together.
    pub(super) fn read(&self) -> Result<Flags, SourceError> {
        let command = broker_flags();
        let keys = Key::all(&command);
        let file = self.of_file(&command)?;
        let (mut all, mut listeners) = (file.values, file.listeners);
        let mut sources: Sources = all.keys().map(|&place| (place, "file")).collect();
        let environment = self.of_environment(&command, &keys)?;
        for (name, above) in [("environment", environment), ("flag", self.given.clone())] {
            sources.extend(above.keys().map(|&place| (place, name)));
            if above.keys().any(|&place| keys[place].makes_listeners()) {
                all.retain(|&place, _| !keys[place].makes_listeners());
                listeners.clear();
            }
            all.extend(above);
        }
        let words =
            all.iter().flat_map(|(&place, values)| values.iter().map(move |value| (place, value)));
        let words = words.map(|(place, value)| word(&keys[place].flag, value));
        let flags = flags_of(&command, words);
        let mut flags = flags.map_err(|error| SourceError::Together(first_line(&error)))?;
        for listener in listeners {
            listener.add_to(&mut flags).expect("the file was checked when it was read");
        }
        flags.settings = settings(&command, &keys, &all, &sources);
        flags.run_directory.clone_from(&self.run_directory);
        Ok(flags)
    }

    fn of_file(&self, command: &Command) -> Result<FileValues, SourceError> {
        let Some(path) = &self.file else { return Ok(FileValues::default()) };
        let text = fs::read_to_string(path)
            .map_err(|error| SourceError::Unreadable { path: path.clone(), error })?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        parse_file(&text, folder, command)
            .map_err(|faults| SourceError::File { path: path.clone(), faults })
    }

    fn of_environment(&self, command: &Command, keys: &[Key]) -> Result<Values, SourceError> {
        let mut values = Values::new();
        for (place, key) in keys.iter().enumerate() {
            let name = key.variable();
            let Some(value) = self.variables.get(&name) else { continue };
            let split = split(value, key);
            check(command, key, &split).map_err(|problem| SourceError::Variable {
                name,
                value: value.clone(),
                problem,
            })?;
            values.insert(place, split);
        }
        Ok(values)
    }

    /// Variables that begin as ours do and mean nothing, with what may have been meant.
    pub fn unknown_variables(&self) -> Vec<String> {
        let known: Vec<String> = Key::all(&broker_flags()).iter().map(Key::variable).collect();
        let is_known =
            |name: &str| name == FILE_VARIABLE || known.iter().any(|known| known == name);
        let unknown = self.variables.keys().filter(|name| !is_known(name));
        let near = |name: &String| {
            let near = nearest(name, known.iter().map(String::as_str))?;
            Some(format!("the variable {name} means nothing: did you mean {near}?"))
        };
        unknown.filter_map(near).collect()
    }
}

/// The values of a file, each checked by itself.
#[derive(Debug, Default)]
pub(super) struct FileValues {
    pub(super) values: Values,
    pub(super) listeners: Vec<ListenerFlags>,
}

pub(super) fn parse_file(
    text: &str,
    folder: &Path,
    command: &Command,
) -> Result<FileValues, Vec<FileFault>> {
    let keys = Key::all(command);
    let listener_keys = Key::all(&listener_flags());
    let mut values = Values::new();
    let mut faults = Vec::new();
    let entries = file::parse(text, &keys, &listener_keys)?;
    for entry in entries.keys {
        let key = &keys[entry.key];
        let here = |value: &String| {
            if key.is_path { folder.join(value).into_os_string() } else { value.into() }
        };
        let checked: Vec<OsString> = entry.values.iter().map(here).collect();
        if let Err(problem) = check(command, key, &checked) {
            let problem = format!("`{}` in [{}]: {problem}", key.flag, key.section);
            faults.push(FileFault { line: entry.line, problem });
        }
        values.insert(entry.key, checked);
    }
    let listeners = parse_listeners(entries.listeners, &listener_keys, &mut faults);
    faults.sort_by_key(|fault| fault.line);
    if faults.is_empty() { Ok(FileValues { values, listeners }) } else { Err(faults) }
}

fn parse_listeners(
    tables: Vec<ListenerTable>,
    keys: &[Key],
    faults: &mut Vec<FileFault>,
) -> Vec<ListenerFlags> {
    let mut scratch = flags_of(&broker_flags(), iter::empty()).expect("all flags have a default");
    let mut listeners = Vec::new();
    for ListenerTable { line, keys: entries } in tables {
        let words = entries.iter().flat_map(|entry| {
            entry.values.iter().map(|value| word(&keys[entry.key].flag, OsStr::new(value)))
        });
        let listener = ListenerFlags::parse(words.collect()).map_err(|error| problem(&error));
        let checked = listener.and_then(|listener| {
            listener.add_to(&mut scratch)?;
            Ok(listener)
        });
        match checked {
            Ok(listener) => listeners.push(listener),
            Err(problem) => faults.push(FileFault { line, problem }),
        }
    }
    listeners
}

/// The values of a variable: separated by commas if there may be several.
fn split(value: &OsStr, key: &Key) -> Vec<OsString> {
    match value.to_str() {
        Some(text) if key.takes == Takes::Values => {
            text.split(',').map(|value| value.trim().into()).collect()
        }
        _ => vec![value.to_owned()],
    }
}

/// Whether the flag takes these values.
fn check(command: &Command, key: &Key, values: &[OsString]) -> Result<(), String> {
    let words = values.iter().map(|value| word(&key.flag, value));
    flags_of(command, words).map(drop).map_err(|error| problem(&error))
}

fn word(flag: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(format!("--{flag}="));
    word.push(value);
    word
}

fn flags_of(
    command: &Command,
    words: impl Iterator<Item = OsString>,
) -> Result<Flags, clap::Error> {
    let words = [OsString::from("ringmq")].into_iter().chain(words);
    Flags::from_arg_matches(&command.clone().try_get_matches_from(words)?)
}

/// What is wrong with one value, without the name of the flag.
fn problem(error: &clap::Error) -> String {
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => format!("{value:?}: "),
        _ => String::new(),
    };
    let problem = match (error.kind(), error.source(), error.get(ContextKind::ValidValue)) {
        (ErrorKind::ValueValidation, Some(source), _) => source.to_string(),
        (_, _, Some(ContextValue::Strings(valid))) => format!("not one of {}", valid.join(", ")),
        _ => return first_line(error),
    };
    format!("{value}{problem}")
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// One line for each fault.
struct Faults<'a>(&'a Path, &'a [FileFault]);

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Faults(path, faults) = self;
        for (number, FileFault { line, problem }) in faults.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{line}: {problem}", path.display())?;
        }
        Ok(())
    }
}

/// The first of the paths that a variable names, with colons between them.
pub(super) fn first_path(paths: &OsStr) -> Option<PathBuf> {
    env::split_paths(paths).find(|path| !path.as_os_str().is_empty())
}

/// The variable in which a service manager says which folders it has made for the process.
pub(super) const RUN_DIRECTORY: &str = "RUNTIME_DIRECTORY";
const FILE_VARIABLE: &str = "RINGMQ_CONFIG";

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;
    use crate::config::flags::command_line;

    /// The flags of a source with a file of this name and text.
    fn read(
        line: &str,
        variables: &[(&str, &str)],
        name: &str,
        text: &str,
    ) -> Result<Flags, String> {
        let path = env::temp_dir().join(format!("ringmq-{}-{name}.toml", process::id()));
        fs::write(&path, text).unwrap();
        let words = ["ringmq", "--config", path.to_str().unwrap()].into_iter();
        let words = words.chain(line.split_whitespace());
        let matches = command_line().try_get_matches_from(words).unwrap();
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let flags = Source::new(&matches, variables).read();
        fs::remove_file(&path).unwrap();
        flags.map_err(|error| error.to_string().replace(&format!("{}", path.display()), "FILE"))
    }

    fn faults(text: &str) -> Vec<(usize, String)> {
        let faults = parse_file(text, Path::new(""), &broker_flags()).unwrap_err();
        faults.into_iter().map(|FileFault { line, problem }| (line, problem)).collect()
    }

    #[test]
    fn a_flag_comes_before_a_variable_and_a_variable_before_the_file() {
        let text = "[limits]\nmax-queued = 1\nmax-retained = 1\nmax-sessions = 200_000\n\
                    max-packet-size = \"1MiB\"\n[features]\ndisable = \"retain\"\n";
        let variables = [("RINGMQ_MAX_QUEUED", "2"), ("RINGMQ_MAX_RETAINED", "2"), ("OTHER", "x")];
        let flags = read("--max-queued 3", &variables, "order", text).unwrap();
        let limits = &flags.limits;
        assert_eq!((limits.queue_messages_max, limits.retained_max), (3, 2));
        assert_eq!((limits.sessions_max, limits.packet_bytes_max), (200_000, 1 << 20));
        assert_eq!(limits.connections_max, 100_000);
        assert_eq!(flags.offer.disable.len(), 1);
    }

    #[test]
    fn listeners_are_replaced_together_and_arrays_as_a_whole() {
        let text = "[network]\nlisten = [1, \"[::1]:2\"]\nlisten-websocket = 3\n\
                    [limits]\nexempt-address = [\"10.0.0.0/8\", \"::1\"]\n";
        let file = read("", &[("RINGMQ_LISTEN", "")], "listeners", text).unwrap();
        assert_eq!((file.network.listen.len(), file.network.listen_websocket.len()), (2, 1));
        assert_eq!(file.limits.exempt.len(), 2);
        let variables = [("RINGMQ_LISTEN", "4, 5,6"), ("RINGMQ_EXEMPT_ADDRESS", "127.0.0.1")];
        let over = read("", &variables, "listeners-2", text).unwrap();
        assert_eq!((over.network.listen.len(), over.network.listen_websocket.len()), (3, 0));
        assert_eq!(over.limits.exempt.len(), 1);
        let flag = read("--listen-websocket 7", &variables, "listeners-3", text).unwrap();
        assert_eq!((flag.network.listen.len(), flag.network.listen_websocket.len()), (0, 1));
    }

    #[test]
    fn paths_are_relative_to_the_folder_of_the_file() {
        let text = "[access]\npassword-file = \"users\"\nscram-file = \"/etc/scram\"\n";
        let flags = read("", &[], "paths", text).unwrap();
        assert_eq!(flags.access.password_file, Some(env::temp_dir().join("users")));
        assert_eq!(flags.access.scram_file, Some("/etc/scram".into()));
        let flags = read("--password-file users", &[], "paths-2", text).unwrap();
        assert_eq!(flags.access.password_file, Some("users".into()));
    }

    #[test]
    fn a_switch_of_the_file_can_be_taken_back() {
        let text = "[access]\nallow-anonymous = true\n";
        assert!(read("", &[], "switch", text).unwrap().access.allow_anonymous);
        let variables = [("RINGMQ_ALLOW_ANONYMOUS", "false")];
        assert!(!read("", &variables, "switch-2", text).unwrap().access.allow_anonymous);
        let flag = read("--allow-anonymous", &variables, "switch-3", text).unwrap();
        assert!(flag.access.allow_anonymous);
    }

    #[test]
    fn all_that_is_wrong_with_a_file_is_said_by_line() {
        let text = "max-queued = 1\n[limit]\n[limits]\nmax-queue = 1\nlisten = 2\n\
                    max-retained = -1\nmax-packet-size = [1]\noutbox-bytes = 0x10\n\
                    [access]\nallow-anonymous = \"yes\"\n[log]\nlog-format = \"xml\"\nlog = 1.5\n";
        let expected = [
            (1, "the key `max-queued` belongs into [limits]"),
            (2, "unknown table [limit]: did you mean [limits]?"),
            (4, "unknown key `max-queue` in [limits]: did you mean `max-queued` in [limits]?"),
            (5, "the key `listen` belongs into [network], not [limits]"),
            (7, "`max-packet-size` takes one value, not an array"),
            (8, "`outbox-bytes` takes a string or a decimal number"),
            (10, "`allow-anonymous` is true or false"),
            (13, "`log` takes a string or a decimal number"),
        ];
        assert_eq!(faults(text), expected.map(|(line, problem)| (line, problem.to_owned())));
        let values = "[limits]\nmax-queued = 0\n[log]\nlog-format = \"xml\"\n[network]\n\
                      listen = [\"1\", \"nowhere\"]\n";
        let expected = [
            (2, "`max-queued` in [limits]: \"0\": must be from 1 to 268435456"),
            (4, "`log-format` in [log]: \"xml\": not one of text, json"),
            (
                6,
                "`listen` in [network]: \"nowhere\": not an IP address, IP:PORT, [IPv6]:PORT or \
                 PORT",
            ),
        ];
        assert_eq!(faults(values), expected.map(|(line, problem)| (line, problem.to_owned())));
        let [(2, twice)] = &faults("[limits]\n[limits]\n")[..] else { panic!() };
        assert!(twice.contains("duplicate"), "{twice}");
        assert_eq!(faults("[limits\n").len(), 1);
        let said = read("", &[], "wrong", values).unwrap_err();
        assert!(said.starts_with("FILE:2: `max-queued`"), "{said}");
        assert_eq!(said.lines().count(), 3);
    }

    #[test]
    fn listeners_may_have_tables_of_their_own() {
        let text = "[network]\nlisten = 1\n[[listener]]\naddress = 2\nallow-anonymous = true\n\
                    [[listener]]\naddress = \"10.0.0.1\"\nprotocol = \"mqtts\"\n\
                    proxy-protocol = true\n\
                    [[listener]]\naddress = \"::1\"\nprotocol = \"websocket\"\n";
        let flags = read("", &[], "tables", text).unwrap();
        let words = |addresses: &[std::net::SocketAddr]| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(&flags.network.listen), "127.0.0.1:1 127.0.0.1:2");
        assert_eq!(words(&flags.tls.listen_tls), "10.0.0.1:8883");
        assert_eq!(words(&flags.network.listen_websocket), "[::1]:8083");
        let own = flags.own_settings.iter().map(|own| (own.anonymous, own.proxied));
        let expected = [(Some(true), None), (None, Some(true)), (None, None)];
        assert_eq!(own.collect::<Vec<_>>(), expected);
        let flags = read("--listen 5", &[], "tables-2", text).unwrap();
        assert_eq!(words(&flags.network.listen), "127.0.0.1:5");
        assert!(flags.tls.listen_tls.is_empty() && flags.own_settings.is_empty());
        let wrong = "[[listener]]\naddres = 1\n[[listener]]\n[[listener]]\naddress = \"x\"\n\
                     [[listener]]\naddress = 1\n[[listener]]\naddress = \"localhost:1\"\n\
                     [[listener]]\nprotocol = \"udp\"\n";
        let lines: Vec<usize> = faults(wrong).iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2]);
        let wrong = wrong.replace("addres = 1", "address = 7");
        let expected = [
            (3, "`address` is missing in [[listener]]"),
            (4, "`address`: \"x\": not an IP address, IP:PORT, [IPv6]:PORT or PORT"),
            (8, "another [[listener]] has the address 127.0.0.1:1"),
            (10, "\"udp\": not one of mqtt, mqtts, websocket, websocket-tls"),
        ];
        assert_eq!(faults(&wrong), expected.map(|(line, problem)| (line, problem.to_owned())));
        let tables = faults("listener = 1\n");
        assert_eq!(tables[0].1, "`listener` is an array of tables: write [[listener]]");
    }

    #[test]
    fn a_wrong_variable_is_named_and_an_unknown_one_is_no_error() {
        let wrong = read("", &[("RINGMQ_SHARDS", "0")], "variable", "").unwrap_err();
        assert_eq!(wrong, "RINGMQ_SHARDS=0: \"0\": must be from 1 to 128");
        let matches = command_line().try_get_matches_from(["ringmq"]).unwrap();
        let names = ["RINGMQ_SHARD", "RINGMQ_PORT_1883_TCP_ADDR", "RINGMQ_SHARDS", "RINGMQ_CONFIG"];
        let variables = names.into_iter().map(|name| (name.into(), "1".into()));
        let source = Source::new(&matches, variables);
        let said = "the variable RINGMQ_SHARD means nothing: did you mean RINGMQ_SHARDS?";
        assert_eq!(source.unknown_variables(), [said]);
        assert_eq!(source.file(), Some(Path::new("1")));
        assert!(matches!(source.read(), Err(SourceError::Unreadable { .. })));
    }

    #[test]
    fn values_that_go_together_on_no_command_line_are_refused_from_several_sources() {
        let text = "[other-servers]\nrefer-to = \"a\"\n";
        let said = read("--moved-to b", &[], "together", text).unwrap_err();
        assert!(said.contains("--moved-to") && said.contains("--refer-to"), "{said}");
    }
}
