//! The subcommands that run no broker: they change files of users, translate a configuration, ask a
//! running broker, and write the manual.

#![forbid(unsafe_code)]

mod import;
mod manual;
mod place;
mod prompt;
mod remote;
mod top;
mod trace;
mod users;
mod users_file;

pub use self::{
    import::{Imported, Remark, import},
    manual::write_man_pages,
    remote::ask_remote,
    users::change_users,
};
