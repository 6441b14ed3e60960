//! The subcommands that run no broker: they change files of users, and translate a configuration.

#![forbid(unsafe_code)]

mod import;
mod prompt;
mod users;
mod users_file;

pub use self::{
    import::{Imported, Remark, import},
    users::change_users,
};
