//! What the broker says when one of its shards panics: what the shard was handling.
//!
//! A panic ends the process at once. Lines of the log that wait to be written are lost then, so
//! these words go to standard error directly.

use std::{cell::Cell, fmt, panic};

use crate::{
    base::ids::{ConnectionId, ShardId},
    mqtt::frame::PacketType,
    shard::ports::Brain,
};

/// What a shard is handling.
#[derive(Clone, Copy, Debug)]
enum Handled {
    Nothing,
    /// Bytes of a client, and how they begin.
    Bytes {
        client: Beginning,
        length: usize,
        first: u8,
    },
    Letters(ShardId),
    /// Reminders, and work that goes on from earlier turns.
    Time,
}

/// The beginning of a text.
#[derive(Clone, Copy)]
struct Beginning {
    bytes: [u8; TEXT_BYTES_MAX],
    length: usize,
}

/// Client Identifiers are told up to this length. [MQTT-3.1.3-5] asks for 23.
const TEXT_BYTES_MAX: usize = 64;

thread_local! {
    static HANDLED: Cell<Handled> = const { Cell::new(Handled::Nothing) };
}

/// The brain is about to handle bytes of a connection.
pub(super) fn note_bytes(brain: &impl Brain, id: ConnectionId, bytes: &[u8]) {
    let client = Beginning::of(brain.client_id(id).unwrap_or_default());
    let first = bytes.first().copied().unwrap_or_default();
    HANDLED.set(Handled::Bytes { client, length: bytes.len(), first });
}

/// The brain is about to handle letters.
pub(super) fn note_letters(from: ShardId) {
    HANDLED.set(Handled::Letters(from));
}

/// The bytes or the letters have been handled.
pub(super) fn note_time() {
    HANDLED.set(Handled::Time);
}

/// From now on a panic tells what its thread was handling, and then what it usually tells.
pub fn tell_at_panic() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let handled = HANDLED.get();
        if !matches!(handled, Handled::Nothing) {
            eprintln!("ringmq: a fault of the broker, while it handled {handled}");
        }
        usual(panic);
    }));
}

impl fmt::Display for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Handled::Nothing => f.write_str("nothing"),
            Handled::Bytes { client, length, first } => write!(
                f,
                "{length} bytes from the client {:?}, which begin with a packet {} ({first:#04x})",
                client.text(),
                PacketType::name_of(*first)
            ),
            Handled::Letters(from) => write!(f, "letters from shard {from}"),
            Handled::Time => f.write_str("reminders and unfinished work"),
        }
    }
}

impl Beginning {
    fn of(text: &str) -> Beginning {
        let length = text.floor_char_boundary(TEXT_BYTES_MAX);
        let mut bytes = [0; TEXT_BYTES_MAX];
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        Beginning { bytes, length }
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).expect("it ends between characters")
    }
}

impl fmt::Debug for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use super::*;

    const CHILD: &str = "RINGMQ_TEST_PANICS";

    /// Panics in a process of its own, because a hook is for a whole process.
    #[test]
    fn a_panic_tells_whose_bytes_were_handled() {
        if env::var_os(CHILD).is_some() {
            tell_at_panic();
            let client = Beginning::of(&format!("a\n\"b\"{}", "\u{e9}".repeat(64)));
            HANDLED.set(Handled::Bytes { client, length: 117, first: 0x30 });
            panic!("on purpose");
        }
        let name = "runtime::last_words::tests::a_panic_tells_whose_bytes_were_handled";
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        let expected = format!(
            "ringmq: a fault of the broker, while it handled 117 bytes from the client \
             \"a\\n\\\"b\\\"{}\", which begin with a packet PUBLISH (0x30)\n",
            "\u{e9}".repeat(29)
        );
        assert!(told.contains(&expected), "{told}");
        assert!(told.contains("on purpose") && !output.status.success(), "{told}");
    }

    #[test]
    fn other_work_is_named() {
        let letters = Handled::Letters(ShardId::FIRST);
        assert_eq!(letters.to_string(), "letters from shard 0");
        assert_eq!(Handled::Time.to_string(), "reminders and unfinished work");
    }
}
