//! One client of rumqttc as the scenarios speak to it: each call waits, with a limit, until the
//! broker has answered.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::QoS;

use crate::dialects::{Dialect, Event, Message, Options};

pub(crate) struct Peer<D> {
    dialect: D,
    pub(crate) session_present: bool,
    pub(crate) assigned_client_identifier: Option<String>,
    /// Received while we waited for something else.
    messages: VecDeque<Message>,
}

impl<D: Dialect> Peer<D> {
    pub(crate) fn connect(options: Options) -> Self {
        let mut peer = Self {
            dialect: D::open(options),
            session_present: false,
            assigned_client_identifier: None,
            messages: VecDeque::new(),
        };
        (peer.session_present, peer.assigned_client_identifier) =
            peer.wait_for("CONNACK comes in time", |event| match event {
                Event::Connected { session_present, assigned_client_identifier } => {
                    Some((*session_present, assigned_client_identifier.clone()))
                }
                _ => None,
            });
        peer
    }

    pub(crate) fn subscribe(&mut self, topic_filter: &str, qos: QoS) {
        self.dialect.subscribe(topic_filter, qos);
        self.wait_for("SUBACK comes in time", |event| {
            (*event == Event::Granted(vec![qos])).then_some(())
        });
    }

    pub(crate) fn unsubscribe(&mut self, topic_filter: &str) {
        self.dialect.unsubscribe(topic_filter);
        self.wait_for("UNSUBACK comes in time", |event| {
            (*event == Event::Unsubscribed).then_some(())
        });
    }

    pub(crate) fn publish(&mut self, message: &Message) {
        self.publish_all(std::slice::from_ref(message));
    }

    /// Sends them one behind the other, then waits until each is sent (QoS 0) or acknowledged.
    pub(crate) fn publish_all(&mut self, messages: &[Message]) {
        for message in messages {
            self.dialect.publish(message);
        }
        for message in messages {
            let done = match message.qos {
                QoS::AtMostOnce => Event::Sent,
                QoS::AtLeastOnce | QoS::ExactlyOnce => Event::Acknowledged,
            };
            self.wait_for("a PUBLISH is done with in time", |event| (*event == done).then_some(()));
        }
    }

    /// The next message is this one.
    pub(crate) fn receives(&mut self, expected: &Message) {
        let received = self.receive();
        // A payload of 100 KiB does not help the reader of a failure.
        assert_eq!(received.payload.len(), expected.payload.len(), "to {}", received.topic);
        assert_eq!(received, *expected);
    }

    pub(crate) fn receive(&mut self) -> Message {
        if self.messages.is_empty() {
            self.wait_for("a message comes in time", |event| {
                matches!(event, Event::Received(_)).then_some(())
            });
        }
        self.messages.pop_front().expect("a message has come")
    }

    pub(crate) fn hears_pong(&mut self) {
        self.wait_for("PINGRESP comes in time", |event| (*event == Event::Pong).then_some(()));
    }

    /// Ends with DISCONNECT. A message that nobody expected makes the scenario fail.
    pub(crate) fn leave(mut self) {
        self.dialect.disconnect();
        self.wait_for("DISCONNECT goes out in time", |event| {
            (*event == Event::Disconnecting).then_some(())
        });
        assert_eq!(self.messages, [], "nobody expected these");
    }

    /// Ends the connection without DISCONNECT.
    pub(crate) fn vanish(self) {
        drop(self);
    }

    /// The server ends the connection: whether it says that another has taken the session over.
    pub(crate) fn ends(mut self) -> bool {
        let taken_over =
            self.wait_for("the server ends the connection in time", |event| match event {
                Event::Ended { taken_over } => Some(*taken_over),
                _ => None,
            });
        assert_eq!(self.messages, [], "nobody expected these");
        taken_over
    }

    /// Messages that come meanwhile are kept; an end that nobody waits for makes the scenario fail.
    fn wait_for<T>(&mut self, what: &str, find: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            let event = self.dialect.next_event(PATIENCE).expect(what);
            let found = find(&event);
            assert!(
                found.is_some() || !matches!(event, Event::Ended { .. }),
                "the connection has ended before: {what}"
            );
            if let Event::Received(message) = event {
                self.messages.push_back(message);
            }
            if let Some(found) = found {
                return found;
            }
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
