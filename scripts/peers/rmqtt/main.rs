//! The broker rmqtt for scripts/compare.sh: TCP on loopback, retained messages and shared
//! subscriptions in memory, no log.
//!
//! ```text
//! rmqtt-peer PORT
//! ```

use std::{env, num::NonZeroU16};

use rmqtt::{
    context::ServerContext,
    net::{Builder, Result},
    server::MqttServer,
};

#[tokio::main]
async fn main() -> Result<()> {
    let port: u16 = env::args().nth(1).expect("usage: rmqtt-peer PORT").parse()?;
    let context = ServerContext::new().busy_check_enable(false).build().await;
    rmqtt_retainer::register(&context, true, false).await?;
    rmqtt_shared_subscription::register(&context, true, false).await?;
    let listener = Builder::new()
        .laddr(([127, 0, 0, 1], port).into())
        .nodelay(true)
        .max_handshaking_limit(20_000)
        .max_packet_size(4 << 20)
        .max_inflight(NonZeroU16::new(100).expect("it is not zero"))
        .max_mqueue_len(1_000_000)
        .bind()?
        .tcp()?;
    MqttServer::new(context).listener(listener).build().run().await
}
