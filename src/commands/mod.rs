//! The subcommands that run no broker: they change files of users, translate a configuration, and
//! ask a running broker.

#![forbid(unsafe_code)]

mod import;
mod prompt;
mod remote;
mod users;
mod users_file;

pub use self::{
    import::{Imported, Remark, import},
    remote::ask_remote,
    users::change_users,
};
