//! The subcommands that run no broker: they change files of users.

#![forbid(unsafe_code)]

mod prompt;
mod users;
mod users_file;

pub use self::users::change_users;
