//! The broker rumqttd for scripts/compare.sh: MQTT 3.1.1 over TCP on loopback, no log.
//!
//! ```text
//! rumqttd-peer PORT
//! ```

use std::{env, error::Error};

use rumqttd::{Broker, Config};

fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = env::args().nth(1).ok_or("usage: rumqttd-peer PORT")?.parse()?;
    let mut config: Config = toml::from_str(include_str!("rumqttd.toml"))?;
    for server in config.v4.iter_mut().flat_map(|servers| servers.values_mut()) {
        server.listen.set_port(port);
    }
    Broker::new(config).start()?;
    Ok(())
}
