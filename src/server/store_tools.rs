//! `ringmq store`: does what is asked, and writes to standard output.

use std::io;

use anyhow::{Context, Result};

use crate::{config::StoreOrder, runtime::store::tools};

/// Does what is asked with a store.
pub fn store(order: &StoreOrder) -> Result<()> {
    let out = &mut io::BufWriter::new(io::stdout().lock());
    match order {
        StoreOrder::Inspect(from) => tools::inspect(&from.path, out)?,
        StoreOrder::Verify(from) => tools::verify(&from.path, out)?,
        StoreOrder::Export(from) => tools::export(&from.path, out)?,
        StoreOrder::Digest(from) => tools::digest(&from.path, out)?,
        StoreOrder::Backup { from, to } => tools::backup(&from.path, to, out)?,
        StoreOrder::Import { file, to } => {
            let seed = getrandom::u64().context("the kernel's random numbers")?;
            tools::import(file, to, seed, out)?;
        }
        StoreOrder::Repair(from) => tools::repair(&from.path, out)?,
        StoreOrder::Measure(from) => tools::measure(&from.path, out)?,
    }
    Ok(())
}
