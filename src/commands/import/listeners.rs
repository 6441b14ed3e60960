//! The listeners of mosquitto.conf. A listener begins with `listener`, and what follows is about
//! it; what comes before the first one is about the default listener, if there is one.

use super::{
    read::Line,
    values::{is_true, text},
};

#[derive(Debug)]
pub(super) struct Listeners {
    /// The first one is the default listener.
    all: Vec<Listener>,
    /// `allow_anonymous` holds for its listener only.
    per_listener: bool,
    /// The same for all listeners.
    anonymous: Option<bool>,
}

#[derive(Debug, Default)]
struct Listener {
    /// Where it begins.
    place: String,
    address: String,
    port: Option<u16>,
    websocket: bool,
    certificate: bool,
    proxied: bool,
    anonymous: Option<bool>,
    connections_max: Option<u32>,
}

impl Default for Listeners {
    fn default() -> Listeners {
        Listeners { all: vec![Listener::default()], per_listener: false, anonymous: None }
    }
}

impl Listeners {
    pub(super) fn take(&mut self, line: &Line) -> Result<(), String> {
        let value = line.value.as_str();
        if line.name == "listener" {
            return self.begin(line);
        }
        let (per_listener, current) = (self.per_listener, self.current());
        match line.name.as_str() {
            "port" => current.port = Some(port(value)?),
            "bind_address" => value.clone_into(&mut current.address),
            "protocol" => match value {
                "mqtt" => current.websocket = false,
                "websockets" => current.websocket = true,
                _ => return Err("there is no such protocol".to_owned()),
            },
            "max_connections" => {
                let connections: i64 = value.parse().map_err(|_| "the value is not a number")?;
                current.connections_max = u32::try_from(connections).ok();
            }
            "per_listener_settings" => self.per_listener = is_true(value)?,
            // Headers of both versions are taken.
            "enable_proxy_protocol" if !["1", "2"].contains(&value) => {
                return Err("there is no such version".to_owned());
            }
            "enable_proxy_protocol" => {
                current.proxied = true;
                if !current.is_unix() {
                    return Err(PROXIES.to_owned());
                }
            }
            "allow_anonymous" if per_listener => current.anonymous = Some(is_true(value)?),
            "allow_anonymous" => self.anonymous = Some(is_true(value)?),
            "listener_allow_anonymous" => current.anonymous = Some(is_true(value)?),
            _ => return Err("nothing is known about it".to_owned()),
        }
        Ok(())
    }

    fn begin(&mut self, line: &Line) -> Result<(), String> {
        let (number, address) = line.value.split_once(' ').unwrap_or((&line.value, ""));
        let mut listener = Listener { place: line.place.clone(), ..Listener::default() };
        let address = address.trim();
        listener.port = Some(port(number)?);
        address.clone_into(&mut listener.address);
        self.all.push(listener);
        Ok(())
    }

    fn current(&mut self) -> &mut Listener {
        self.all.last_mut().expect("the default listener is always there")
    }

    /// A `certfile` makes TLS of its listener.
    pub(super) fn note_certificate(&mut self) {
        self.current().certificate = true;
    }

    /// The connections of all listeners, if each has a limit.
    pub(super) fn connections_max(&self) -> Option<u32> {
        let limits: Option<Vec<u32>> = self.used().map(|it| it.connections_max).collect();
        limits.map(|limits| limits.iter().sum()).filter(|&sum| sum > 0)
    }

    /// Why listeners are missing, each with its line.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let faults = self.all.iter().filter_map(|it| Some((it.place.clone(), it.fault()?)));
        faults.map(|(place, fault)| (place, fault.to_owned())).collect()
    }

    /// The default listener counts if it has a port or an address, or if there is no other.
    fn used(&self) -> impl Iterator<Item = &Listener> {
        let only_one = self.all.len() == 1;
        self.all.iter().filter(move |it| {
            let is_default = it.place.is_empty();
            !is_default || only_one || it.port.is_some() || !it.address.is_empty()
        })
    }

    /// Whether the last listener so far is for proxies.
    pub(super) fn is_proxied(&self) -> bool {
        self.all.last().is_some_and(|listener| listener.proxied)
    }

    /// A `[[listener]]` for each.
    pub(super) fn toml(&self) -> String {
        // Without any listener, mosquitto serves its own machine, and lets everybody in.
        let is_local =
            self.all.len() == 1 && self.all[0].port.is_none() && self.all[0].address.is_empty();
        let usable = self.used().filter(|listener| listener.fault().is_none());
        usable.map(|listener| self.table(listener, is_local)).collect()
    }

    fn table(&self, listener: &Listener, is_local: bool) -> String {
        let anonymous = listener.anonymous.or(self.anonymous).unwrap_or(is_local);
        let proxied = if listener.proxied { "proxy-protocol = true\n" } else { "" };
        if listener.is_unix() {
            return format!(
                "\n[[listener]]\naddress = {}\nprotocol = \"mqtt\"\n\
                 allow-anonymous = {anonymous}\n{proxied}",
                text(&listener.address)
            );
        }
        let everywhere = if is_local { "127.0.0.1" } else { "[::]" };
        let address = match listener.address.as_str() {
            "" => everywhere.to_owned(),
            ipv6 if ipv6.contains(':') => format!("[{ipv6}]"),
            other => other.to_owned(),
        };
        let port = listener.port.unwrap_or(1883);
        let protocol = match (listener.websocket, listener.certificate) {
            (false, false) => "mqtt",
            (false, true) => "mqtts",
            (true, false) => "websocket",
            (true, true) => "websocket-tls",
        };
        format!(
            "\n[[listener]]\naddress = {}\nprotocol = \"{protocol}\"\n\
             allow-anonymous = {anonymous}\n{proxied}",
            text(&format!("{address}:{port}"))
        )
    }
}

impl Listener {
    /// Its port is 0, and its address the path of a file.
    fn is_unix(&self) -> bool {
        self.port == Some(0) && self.address.contains('/')
    }

    fn fault(&self) -> Option<&'static str> {
        let is_name = |text: &str| text != "localhost" && text.parse::<std::net::IpAddr>().is_err();
        if self.is_unix() {
            return (self.websocket || self.certificate).then_some(UNIX);
        }
        (!self.address.is_empty() && is_name(&self.address)).then_some(NAME)
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "the port is not a number".to_owned())
}

const PROXIES: &str =
    "headers are taken from the proxies in `proxy-from` only: name their networks";
const UNIX: &str = "a Unix socket takes MQTT alone, without WebSocket and TLS";
const NAME: &str = "no name is looked up: write the address";
