//! The flags of `ringmq passwd` and `ringmq scram`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::access::{HashKind, ITERATIONS_MAX, scram::Mechanism};

/// A change of a file of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersOrder {
    pub file: PathBuf,
    pub secrets: Secrets,
    pub change: UsersChange,
}

/// What the file keeps of passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    Hash(HashKind),
    Verifier { mechanism: Mechanism, iterations: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsersChange {
    Set {
        user: String,
        /// Without one, it is asked for.
        password: Option<String>,
        /// Begin with an empty file.
        create: bool,
    },
    Delete {
        user: String,
    },
    /// Hash all that is not hashed yet.
    HashAll,
}

/// Adds a user to a password file, changes its password, or removes it. Works on the files of
/// `mosquitto_passwd` and takes its flags. Without -b the password is asked for, or read from
/// standard input
#[derive(Args, Debug)]
pub(super) struct PasswdFlags {
    #[command(flatten)]
    user: UserFlags,
    /// The user
    #[arg(value_name = "USER", index = 2, value_parser = parse_user)]
    #[arg(required_unless_present = "hash_all")]
    name: Option<String>,
    /// Hash all passwords of a file that has them in plain text
    #[arg(short = 'U', conflicts_with_all = ["create", "delete", "batch", "name", "password"])]
    hash_all: bool,
    /// How passwords are hashed: sha512-pbkdf2 is read by every mosquitto, argon2id by mosquitto
    /// 2.1 and later
    #[arg(short = 'H', value_name = "KIND", default_value = "sha512-pbkdf2")]
    kind: Kind,
    /// Iterations of sha512-pbkdf2. More of them make guessing slower, and each login as well
    #[arg(short = 'I', value_name = "NUMBER", default_value = "10000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(ITERATIONS_MAX)))]
    iterations: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    #[value(name = "sha512-pbkdf2")]
    Pbkdf2,
    Argon2id,
}

/// Adds a user to a SCRAM file, changes its password, or removes it. Without -b the password is
/// asked for, or read from standard input
#[derive(Args, Debug)]
pub(super) struct ScramFlags {
    #[command(flatten)]
    user: UserFlags,
    /// The user
    #[arg(value_name = "USER", index = 2, value_parser = parse_user)]
    name: String,
    /// The mechanism that the user can authenticate with. A user may have both, one after the other
    #[arg(short = 'H', value_name = "MECHANISM", default_value = "SCRAM-SHA-256")]
    #[arg(value_parser = parse_mechanism)]
    mechanism: Mechanism,
    /// Iterations, which a client has to do at each login
    #[arg(short = 'I', value_name = "NUMBER", default_value = "4096")]
    #[arg(value_parser = clap::value_parser!(u32).range(4096..=i64::from(ITERATIONS_MAX)))]
    iterations: u32,
}

#[derive(Args, Debug)]
struct UserFlags {
    /// Create the file, or empty it if it is there
    #[arg(short = 'c', conflicts_with = "delete")]
    create: bool,
    /// Take the password from the command line, where other users of the machine may see it
    #[arg(short = 'b', requires = "password", conflicts_with = "delete")]
    batch: bool,
    /// Remove the user
    #[arg(short = 'D', conflicts_with = "password")]
    delete: bool,
    /// The file of users
    #[arg(value_name = "FILE", index = 1)]
    file: PathBuf,
    /// The password, with -b only
    #[arg(value_name = "PASSWORD", index = 3, requires = "batch")]
    password: Option<String>,
}

impl UserFlags {
    fn change(self, user: Option<String>) -> UsersChange {
        let UserFlags { create, delete, password, .. } = self;
        match user {
            None => UsersChange::HashAll,
            Some(user) if delete => UsersChange::Delete { user },
            Some(user) => UsersChange::Set { user, password, create },
        }
    }
}

impl From<PasswdFlags> for UsersOrder {
    fn from(flags: PasswdFlags) -> UsersOrder {
        let kind = match flags.kind {
            Kind::Pbkdf2 => HashKind::Pbkdf2 { iterations: flags.iterations },
            Kind::Argon2id => HashKind::Argon2id,
        };
        let (file, secrets) = (flags.user.file.clone(), Secrets::Hash(kind));
        UsersOrder { file, secrets, change: flags.user.change(flags.name) }
    }
}

impl From<ScramFlags> for UsersOrder {
    fn from(flags: ScramFlags) -> UsersOrder {
        let ScramFlags { user, name, mechanism, iterations } = flags;
        let (file, secrets) = (user.file.clone(), Secrets::Verifier { mechanism, iterations });
        UsersOrder { file, secrets, change: user.change(Some(name)) }
    }
}

fn parse_mechanism(text: &str) -> Result<Mechanism, String> {
    Mechanism::from_name(text).ok_or_else(|| {
        let [one, other] = Mechanism::ALL.map(Mechanism::name);
        format!("not {one} or {other}")
    })
}

/// A user name that a line of the file can have and a CONNECT can send.
fn parse_user(text: &str) -> Result<String, String> {
    let is_plain = !text.starts_with('#') && !text.contains(|c: char| c == ':' || c.is_control());
    let fits = (1..=usize::from(u16::MAX)).contains(&text.len());
    if is_plain && fits && text.trim() == text {
        Ok(text.to_owned())
    } else {
        Err("a user name has 1 to 65535 bytes, no `:`, no control character, no space at its ends \
             and no `#` at its beginning"
            .to_owned())
    }
}
