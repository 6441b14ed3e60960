//! `ringmq passwd` and `ringmq scram`: the files of users.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{prompt, users_file::UsersFile};
use crate::{
    access::{Passwords, hash_password, scram},
    config::{Secrets, UsersChange, UsersOrder},
};

/// Changes a file of users.
pub fn change_users(order: &UsersOrder) -> Result<()> {
    let UsersOrder { file: path, secrets, change } = order;
    let mut file = match change {
        UsersChange::Set { create: true, .. } => UsersFile::default(),
        _ => UsersFile::read(path)?,
    };
    match change {
        UsersChange::Set { user, password, .. } => {
            set(&mut file, *secrets, user, password.as_deref())?;
        }
        UsersChange::Delete { user } => {
            if !file.remove(user) {
                bail!("the file has no user {user:?}");
            }
        }
        UsersChange::HashAll => hash_all(&mut file, *secrets, path)?,
    }
    file.write(path)
}

fn set(file: &mut UsersFile, secrets: Secrets, user: &str, password: Option<&str>) -> Result<()> {
    let password = password.map_or_else(prompt::password, |password| Ok(password.to_owned()))?;
    if password.is_empty() {
        bail!("the password is empty");
    }
    let secret = secret(secrets, &password)?;
    file.set(user, &secret, |old| match secrets {
        Secrets::Hash(_) => true,
        Secrets::Verifier { mechanism, .. } => old.starts_with(&format!("{}$", mechanism.name())),
    });
    Ok(())
}

/// Hashes the passwords of a file that are in plain text, as `mosquitto_passwd -U` does.
fn hash_all(file: &mut UsersFile, secrets: Secrets, path: &Path) -> Result<()> {
    let replace = |password: &str| {
        let is_hashed = Passwords::is_hash(password);
        Ok(if is_hashed { None } else { Some(secret(secrets, password)?) })
    };
    file.replace_all(replace).with_context(|| path.display().to_string())
}

/// What the file keeps of a password.
fn secret(secrets: Secrets, password: &str) -> Result<String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).context("the kernel's random numbers")?;
    match secrets {
        Secrets::Hash(kind) => Ok(hash_password(kind, password.as_bytes(), salt)),
        Secrets::Verifier { mechanism, iterations } => {
            // A client prepares other passwords by SASLprep, which is not built in here.
            if !password.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
                bail!("a password for SCRAM can have printable ASCII characters only");
            }
            Ok(scram::verifier(mechanism, password.as_bytes(), iterations, &salt))
        }
    }
}
