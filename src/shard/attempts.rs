//! Attempts to log in: when one may go on, and how long the answer to a failed one waits.
//!
//! Knows who tries, and what [`crate::access::Failures`] says. Does not know how a connection
//! waits.

use super::{connection::MqttConnection, context::Context, rules::Limits};
use crate::{
    access::{AccountName, Admission},
    base::time::{Moment, Span},
};

/// Judges the packet in which a client proves who it is. A packet that has waited is not judged
/// again.
pub(super) fn admit(
    connection: &mut MqttConnection,
    user_name: &str,
    context: &mut Context,
) -> Admission {
    if connection.take_admission() {
        return Admission::Now;
    }
    let (now, patience) = (context.now, context.rules.limits.answer_span());
    let failures = &context.settings.failures;
    let admission = failures.admit(&address_of(connection), user_name, now, patience);
    if matches!(admission, Admission::At(_)) {
        context.counters.logins_delayed += 1;
        connection.give_admission();
    }
    admission
}

/// Whether attempts of this user from the address of the client are let through one at a time.
pub(super) fn come_in_turn(
    connection: &MqttConnection,
    user_name: &str,
    context: &Context,
) -> bool {
    context.settings.failures.are_many(&address_of(connection), user_name, context.now)
}

/// Notes that a client has not proven to be this user. Returns when it is to be told so, if that
/// is not now.
pub(super) fn note_failure(
    connection: &MqttConnection,
    user_name: &str,
    context: &mut Context,
) -> Option<Moment> {
    context.counters.logins_failed += 1;
    let (now, patience) = (context.now, context.rules.limits.answer_span());
    let delay = context.settings.failures.note_failure(&address_of(connection), user_name, now);
    (!delay.is_zero()).then(|| now + delay.min(patience))
}

/// Notes that a client has proven to be this user.
pub(super) fn note_success(connection: &MqttConnection, user_name: &str, context: &Context) {
    let failures = &context.settings.failures;
    failures.note_success(&address_of(connection), user_name, context.now);
}

impl Limits {
    /// How long a client can be made to wait for the answer to its CONNECT: many give up when
    /// nothing comes in ten seconds.
    pub(super) fn answer_span(&self) -> Span {
        Span::from_nanos(self.connect_timeout.as_nanos() / 2)
    }
}

fn address_of(connection: &MqttConnection) -> AccountName {
    AccountName::of_address(connection.principal().peer().ip())
}
