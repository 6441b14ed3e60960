//! The listeners that the flags make, and which flags about them contradict each other.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use super::{
    Contradiction, flags::NetworkFlags, listener::OwnSettings, tls::TlsFlags, values::PORT,
};
use crate::{
    access::Anonymous,
    transport::{Address, Listener, Proxies, listener::FileAccess, websocket::HandshakePolicy},
};

/// Listeners without TLS: those for TCP in the order of their flags, for WebSocket, Unix sockets.
pub(super) fn plain(flags: &NetworkFlags, tls: &TlsFlags) -> Vec<Listener> {
    let policy = policy(flags);
    let tcp = flags.listen.iter().copied().chain(default(flags, tls)).map(Listener::tcp);
    let websocket = flags.listen_websocket.iter();
    let websocket = websocket.map(|&address| Listener::websocket(address, policy.clone()));
    let file = FileAccess { mode: flags.unix_mode, owner: flags.unix_owner };
    let unix = flags.listen_unix.iter().map(|path| Listener::unix(path.as_path().into(), file));
    tcp.chain(websocket).chain(unix).collect()
}

/// The address to listen on if no flag has one.
fn default(flags: &NetworkFlags, tls: &TlsFlags) -> Option<SocketAddr> {
    let has_plain = !flags.listen.is_empty() || !flags.listen_websocket.is_empty();
    let is_default = !has_plain && flags.listen_unix.is_empty() && !tls.has_listener();
    is_default.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))
}

/// What the WebSocket listeners ask of a request.
pub(super) fn policy(flags: &NetworkFlags) -> HandshakePolicy {
    HandshakePolicy {
        path: flags.websocket_path.clone(),
        origins: flags.websocket_origin.clone(),
        ..HandshakePolicy::default()
    }
}

/// The proxies of the listeners that are for proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyOptions {
    pub proxies: Proxies,
    /// All listeners are, unless their own settings say otherwise.
    pub everywhere: bool,
}

pub(super) fn proxy(flags: &NetworkFlags) -> ProxyOptions {
    let networks = flags.proxy_from.as_slice().into();
    let proxies = Proxies { networks, name_users: flags.proxy_user_from_cn };
    ProxyOptions { proxies, everywhere: flags.proxy_protocol }
}

pub(super) fn check(
    network: &NetworkFlags,
    tls: &TlsFlags,
    anonymous: Anonymous,
    own_settings: &[OwnSettings],
) -> Result<(), Contradiction> {
    let mut seen = BTreeSet::new();
    let nobody_admitted = anonymous == Anonymous::OnLoopback;
    let mut has_proxied = false;
    for (flag, address) in addresses(network, tls) {
        check_new(&mut seen, flag, &address)?;
        let own = own_settings.iter().find(|own| own.address == address);
        let is_proxied = own.and_then(|own| own.proxied).unwrap_or(network.proxy_protocol);
        if is_proxied && network.proxy_from.is_empty() && address.ip().is_some() {
            return Err(Contradiction::NoProxies { flag, address });
        }
        has_proxied |= is_proxied;
        let admits_all = own.is_some_and(|own| own.anonymous == Some(true));
        let is_local = address.is_loopback() && !is_proxied;
        if nobody_admitted && !is_local && !admits_all {
            return Err(Contradiction::NobodyAdmitted { flag, address });
        }
    }
    let needs = |given: bool, flag, has: bool, other| {
        if given && !has { Err(Contradiction::Needs(flag, other)) } else { Ok(()) }
    };
    needs(!network.proxy_from.is_empty(), "--proxy-from", has_proxied, "--proxy-protocol")?;
    let names_users = network.proxy_user_from_cn;
    needs(names_users, "--proxy-user-from-cn", has_proxied, "--proxy-protocol")?;
    check_websocket(network, tls)
}

/// Notes the address of a listener. An error if another listener has it.
pub(super) fn check_new(
    seen: &mut BTreeSet<Address>,
    flag: &'static str,
    address: &Address,
) -> Result<(), Contradiction> {
    // The system chooses another port for each port 0.
    let is_any_port = address.ip().is_some_and(|it| it.port() == 0);
    if seen.insert(address.clone()) || is_any_port {
        Ok(())
    } else {
        Err(Contradiction::ListenerTwice { flag, address: address.clone() })
    }
}

/// All addresses with their flags.
fn addresses<'a>(
    network: &'a NetworkFlags,
    tls: &'a TlsFlags,
) -> impl Iterator<Item = (&'static str, Address)> + use<'a> {
    let plain = network.listen.iter().copied().chain(default(network, tls));
    let plain = plain.map(|address| ("--listen", address));
    let websocket = network.listen_websocket.iter();
    let websocket = websocket.map(|&address| ("--listen-websocket", address));
    let secure = tls.listen_tls.iter().map(|&address| ("--listen-tls", address));
    let secure_websocket = tls.listen_websocket_tls.iter();
    let secure_websocket = secure_websocket.map(|&address| ("--listen-websocket-tls", address));
    let in_network = plain.chain(websocket).chain(secure).chain(secure_websocket);
    let in_network = in_network.map(|(flag, address)| (flag, Address::Ip(address)));
    let unix = network.listen_unix.iter();
    in_network.chain(unix.map(|path| ("--listen-unix", Address::Unix(path.as_path().into()))))
}

fn check_websocket(network: &NetworkFlags, tls: &TlsFlags) -> Result<(), Contradiction> {
    let has_websocket = !network.listen_websocket.is_empty();
    if has_websocket || !tls.listen_websocket_tls.is_empty() {
        return Ok(());
    }
    match network {
        NetworkFlags { websocket_path: Some(_), .. } => {
            Err(Contradiction::NoWebSocket("--websocket-path"))
        }
        NetworkFlags { websocket_origin, .. } if !websocket_origin.is_empty() => {
            Err(Contradiction::NoWebSocket("--websocket-origin"))
        }
        _ => Ok(()),
    }
}
