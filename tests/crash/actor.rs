//! A client that connects again and again, and what it does for its role.

use std::time::Duration;

use ringmq::mqtt::{Connect, Packet, ReasonCode, Version};

use crate::{client::encode, ledger::Ledger, link::Link, random::Random};

/// What a client does while it is let in.
pub(crate) trait Role {
    /// Whether it begins a new session that ends with the connection.
    fn connects_clean(&mut self, _random: &mut Random) -> bool {
        false
    }

    /// The broker has let it in, and says whether it has its session.
    fn enter(&mut self, present: bool, out: &mut Vec<u8>, ledger: &mut Ledger);

    fn handle(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>, ledger: &mut Ledger);

    /// Does something of its own accord. A calm client begins nothing.
    fn act(&mut self, _calm: bool, _random: &mut Random, _out: &mut Vec<u8>, _: &mut Ledger) {}

    /// The connection has gone.
    fn leave(&mut self, _was_let_in: bool) {}

    /// Whether it waits for nothing.
    fn is_idle(&self) -> bool;
}

pub(crate) struct Actor {
    pub(crate) name: &'static str,
    version: Version,
    /// A client that is away between connections, now and then.
    pub(crate) is_lazy: bool,
    role: Box<dyn Role>,
    link: Option<Link>,
    is_in: bool,
    /// The connection before, which the broker has to end.
    former: Option<Link>,
    pub(crate) pongs: usize,
}

impl Actor {
    pub(crate) fn new(name: &'static str, version: Version, role: Box<dyn Role>) -> Actor {
        let (link, former) = (None, None);
        Actor { name, version, is_lazy: false, role, link, is_in: false, former, pongs: 0 }
    }

    pub(crate) fn lazy(self) -> Actor {
        Actor { is_lazy: true, ..self }
    }

    pub(crate) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Whether it waits for CONNACK.
    pub(crate) fn is_connecting(&self) -> bool {
        self.link.is_some() && !self.is_in
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.is_in && self.role.is_idle()
    }

    /// Connects, also while the connection before is open.
    pub(crate) fn open(&mut self, port: u16, random: &mut Random) {
        let former = self.link.take();
        if former.is_some() {
            self.role.leave(self.is_in);
        }
        self.former = former;
        let clean = self.role.connects_clean(random);
        let mut connect = Connect::new(self.version, self.name);
        connect.clean_start = clean;
        if self.version == Version::V5 && !clean {
            connect.properties.session_expiry_interval = Some(86_400);
        }
        let mut link = Link::open(port);
        link.unsent = encode(&Packet::Connect(connect), self.version);
        link.flush();
        (self.link, self.is_in) = (Some(link), false);
    }

    pub(crate) fn close(&mut self) {
        self.former = None;
        if self.link.take().is_some() {
            self.role.leave(self.is_in);
        }
        self.is_in = false;
    }

    pub(crate) fn ping(&mut self) {
        if let Some(link) = &mut self.link {
            link.unsent.extend([0xC0, 0]);
            link.flush();
        }
    }

    /// Takes what has come, and answers. Returns how many bytes have come.
    pub(crate) fn pump(&mut self, ledger: &mut Ledger) -> usize {
        let Some(link) = &mut self.link else { return 0 };
        link.receive();
        let (role, is_in, pongs) = (&mut self.role, &mut self.is_in, &mut self.pongs);
        let name = self.name;
        link.each_packet(self.version, |packet, out| match packet {
            Packet::Connack(connack) if connack.reason_code == ReasonCode::Success => {
                ledger.acknowledgements += 1;
                *is_in = true;
                role.enter(connack.session_present, out, ledger);
            }
            Packet::Pingresp => *pongs += 1,
            Packet::Connack(_) | Packet::Disconnect(_) => {
                ledger.find(format!("{name} was sent {packet:?}"));
            }
            packet => role.handle(packet, out, ledger),
        });
        link.flush();
        std::mem::take(&mut link.received)
    }

    pub(crate) fn act(&mut self, calm: bool, random: &mut Random, ledger: &mut Ledger) {
        if let Some(link) = self.link.as_mut().filter(|_| self.is_in) {
            self.role.act(calm, random, &mut link.unsent, ledger);
            link.flush();
        }
    }

    /// Closes the connection if the broker has ended it, and says whether it has.
    pub(crate) fn close_broken(&mut self) -> bool {
        let is_broken = self.link.as_ref().is_some_and(Link::is_broken);
        if is_broken {
            self.close();
        }
        is_broken
    }
}

/// How long nothing may come while something is owed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
