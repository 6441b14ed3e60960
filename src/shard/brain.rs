//! What the runtime tells a shard, and what the shard does first of all.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use super::{
    Shard,
    ask::{Answer, Question},
    connection::MqttConnection,
    connections::Connections,
    end::Cause,
    letter::LetterBatch,
    ports::{Arrival, Brain, Closing, End, Payer, Ports, Undelivered},
    rules::Rules,
    timers::Timer,
};
use crate::{
    access::Finding,
    base::{
        ids::{ConnectionId, ShardId},
        time::{Moment, Span},
    },
    mqtt::frame,
};

impl Brain for Shard {
    fn handle_accepted(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        arrival: Arrival,
        ports: &mut impl Ports,
    ) {
        self.context.now = now;
        self.context.counters.connections_accepted += u64::from(!arrival.handed_over);
        if self.context.stopping {
            self.context.counters.count_end(Cause::ShuttingDown);
            return ports.close(connection, Closing::Abort);
        }
        let (accounts, rules) = (&self.context.settings.accounts, &self.context.rules);
        let arrived = MqttConnection::new(arrival, accounts, now, Rc::clone(rules));
        // Whose share counts is known when the header of the proxy has come.
        let is_counted = !arrival.handed_over && !rules.is_behind_proxies(arrival.listener);
        if !arrival.handed_over && self.is_banned_address(arrival.peer.ip()) {
            return self.refuse_banned_address(connection, &arrived, ports);
        }
        if is_counted && Connections::has_no_room_for(&arrived) {
            return self.refuse_share(connection, &arrived, ports);
        }
        let is_new = !arrival.handed_over;
        let delay = if is_new { self.wait_for_turn(arrival.listener) } else { Some(Span::ZERO) };
        let Some(delay) = delay else {
            return self.refuse_rate(connection, &arrived, ports);
        };
        let account = arrived.principal().account().number();
        ports.bill(connection, Payer { account, is_let_in: false });
        self.connections.insert(connection, arrived);
        let begins_at = now + delay;
        if !delay.is_zero() {
            self.context.counters.delayed_rate += 1;
            self.hold_until(connection, begins_at, ports);
        }
        let due = begins_at + self.context.rules.limits.connect_timeout;
        self.context.timers.set(due, Timer::Connect(connection));
        self.tap_arrival(connection, ports);
    }

    fn handle_peer(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        peer: SocketAddr,
        ports: &mut impl Ports,
    ) {
        self.context.now = now;
        let Some(arrived) = self.connections.get_mut(connection) else { return };
        arrived.come_from(peer, &self.context.settings.accounts);
        let account = arrived.principal().account().number();
        let has_room = !Connections::has_no_room_for(arrived);
        let is_banned = self.is_banned_address(peer.ip());
        if has_room && !is_banned {
            ports.bill(connection, Payer { account, is_let_in: false });
            return self.tap_arrival(connection, ports);
        }
        let Some(refused) = self.connections.remove(connection) else { return };
        if let Some(tap) = ports.tap() {
            tap.forget(connection);
        }
        if is_banned {
            self.refuse_banned_address(connection, &refused, ports);
        } else {
            self.refuse_share(connection, &refused, ports);
        }
    }

    fn handle_bytes(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        bytes: &[u8],
        ports: &mut impl Ports,
    ) -> usize {
        self.context.now = now;
        let taken = self.handle_packets(connection, bytes, ports);
        self.settle(ports);
        taken
    }

    fn packet_size(&self, connection: ConnectionId, begun: &[u8]) -> Option<usize> {
        let packet_size_max = self.connections.get(connection)?.packet_size_max();
        frame::packet_size(begun).filter(|&size| size <= packet_size_max)
    }

    fn handle_end(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        end: End,
        ports: &mut impl Ports,
    ) {
        self.context.now = now;
        let cause = match end {
            End::Finished => Cause::Finished,
            End::Broken => Cause::Broken,
            End::HandshakeRefused => Cause::HandshakeRefused,
            End::FramesRefused => Cause::FramesRefused,
            End::TlsFailed(failure) => Cause::TlsFailed(failure),
            End::ProxyRefused(failure) => Cause::ProxyRefused(failure),
            End::PartialOverflow => Cause::PartialOverflow,
            End::PacketTimeout => Cause::PacketTimeout,
            End::Stalled => Cause::Stalled,
        };
        self.end(connection, cause, ports);
        self.settle(ports);
    }

    fn handle_drained(&mut self, now: Moment, connection: ConnectionId, ports: &mut impl Ports) {
        self.context.now = now;
        self.pump_connection(connection, ports);
    }

    fn handle_letters(
        &mut self,
        now: Moment,
        from: ShardId,
        letters: &LetterBatch,
        ports: &mut impl Ports,
    ) -> usize {
        self.context.now = now;
        let handled = self.read_letters(from, letters, ports);
        self.settle(ports);
        handled
    }

    fn handle_posted(&mut self, now: Moment, to: ShardId, ports: &mut impl Ports) {
        self.context.now = now;
        self.connections.note_posted(to);
        self.router.note_posted();
        self.settle(ports);
    }

    fn handle_durable(&mut self, now: Moment, mark: u64, ports: &mut impl Ports) {
        self.context.now = now;
        self.context.recorder.note_durable(mark);
        self.connections.note_durable(mark, ports);
        while let Some(subscriber) = self.router.next_durable(mark) {
            self.pump(subscriber, ports);
        }
        self.settle(ports);
    }

    fn handle_store_room(&mut self, now: Moment, has_room: bool, ports: &mut impl Ports) {
        self.context.now = now;
        self.context.note_store_room(has_room);
        self.connections.note_store_room(has_room);
        self.settle(ports);
    }

    fn handle_start(&mut self, now: Moment, ports: &mut impl Ports) {
        self.context.now = now;
        self.restore(ports);
        self.settle(ports);
    }

    fn is_ready(&self) -> bool {
        self.router.interest().is_applied_everywhere()
    }

    fn handle_verdict(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        finding: Finding,
        ports: &mut impl Ports,
    ) {
        self.context.now = now;
        self.authenticator.note_verdict(
            connection,
            finding,
            &mut self.connections,
            &mut self.context,
        );
        self.give_checks(None, ports);
        self.settle(ports);
    }

    fn handle_time(&mut self, now: Moment, ports: &mut impl Ports) {
        self.context.now = now;
        self.fire_timers(ports);
        if self.router.can_go_on() {
            let clients = (&mut self.sessions, &mut self.connections);
            self.router.go_on(clients, &mut self.context, ports);
        }
        self.settle(ports);
    }

    fn handle_turn(&mut self, now: Moment, ports: &mut impl Ports) {
        self.context.now = now;
        self.note_memory(ports.held());
        self.purge(ports);
    }

    fn handle_rules(&mut self, now: Moment, rules: &Arc<Rules>, _: &mut impl Ports) {
        self.context.now = now;
        self.adopt(rules);
    }

    fn handle_question(
        &mut self,
        now: Moment,
        question: &Question,
        ports: &mut impl Ports,
    ) -> Answer {
        self.context.now = now;
        let answer = self.answer_question(question, ports);
        self.settle(ports);
        answer
    }

    fn steps(&self) -> u64 {
        self.context.counters.steps()
    }

    fn client_id(&self, connection: ConnectionId) -> Option<&str> {
        self.connections.get(connection).map(|it| it.principal().client_id())
    }

    fn next_deadline(&self) -> Option<Moment> {
        let next_turn = self.router.can_go_on().then_some(self.context.now);
        next_turn.or_else(|| self.context.timers.next_due())
    }

    fn handle_drain(&mut self, now: Moment, ports: &mut impl Ports) {
        self.context.now = now;
        self.context.begin_stop();
        self.end_strangers(ports);
    }

    fn is_drained(&self) -> bool {
        !self.router.is_placing()
            && self.sessions.iter().all(|(_, session)| {
                let outbound = session.outbound();
                session.link().is_none() || (outbound.queue.is_empty() && !outbound.is_resending())
            })
    }

    fn undelivered(&self) -> Undelivered {
        let mut undelivered = Undelivered::default();
        undelivered.connected += self.router.waiting().0 as u64;
        for (_, session) in self.sessions.iter() {
            let is_connected = session.link().is_some();
            let Undelivered { connected, absent } = &mut undelivered;
            *(if is_connected { connected } else { absent }) += session.load() as u64;
        }
        undelivered
    }

    fn handle_stop(&mut self, now: Moment, ports: &mut impl Ports) {
        self.context.now = now;
        self.context.begin_stop();
        self.end_strangers(ports);
        for connection in self.connections.ids() {
            self.end(connection, Cause::ShuttingDown, ports);
        }
        self.router.notices_mut().report_all(now);
    }
}
