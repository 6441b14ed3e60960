//! The exchanges of QoS 1 and 2 that a publisher has open.

use ringmq::mqtt::PacketId;

use super::fault::Fault;

/// Packet Identifiers of one publisher, from 1 up, and how far the exchange of each has come.
///
/// ```text
///          PUBLISH             PUBACK
///   free ----------> published --------------------> free      QoS 1
///          PUBLISH             PUBREC   PUBREL            PUBCOMP
///   free ----------> published --------> released ----------> free      QoS 2
/// ```
#[derive(Debug, Default)]
pub struct Window {
    steps: Vec<Step>,
    free: Vec<PacketId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Free,
    Published,
    Released,
}

impl Window {
    pub fn new(size: u16) -> Window {
        let free: Vec<_> = (1..=size).rev().filter_map(PacketId::new).collect();
        Window { steps: vec![Step::Free; free.len()], free }
    }

    /// Begins an exchange, unless as many are open as may be.
    #[inline]
    pub fn publish(&mut self) -> Option<PacketId> {
        let id = self.free.pop()?;
        self.steps[index(id)] = Step::Published;
        Some(id)
    }

    #[inline]
    pub fn handle_puback(&mut self, id: PacketId) -> Result<(), Fault> {
        self.step(id, Step::Published, Step::Free)
    }

    pub fn handle_pubrec(&mut self, id: PacketId) -> Result<(), Fault> {
        self.step(id, Step::Published, Step::Released)
    }

    pub fn handle_pubcomp(&mut self, id: PacketId) -> Result<(), Fault> {
        self.step(id, Step::Released, Step::Free)
    }

    pub fn open_count(&self) -> usize {
        self.steps.len() - self.free.len()
    }

    #[inline]
    fn step(&mut self, id: PacketId, from: Step, to: Step) -> Result<(), Fault> {
        match self.steps.get_mut(index(id)) {
            Some(step) if *step == from => *step = to,
            _ => return Err(Fault::Unexpected("an acknowledgement of what was not sent")),
        }
        if to == Step::Free {
            self.free.push(id);
        }
        Ok(())
    }
}

fn index(id: PacketId) -> usize {
    usize::from(id.value()) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_full_until_an_exchange_ends() {
        let mut window = Window::new(2);
        let first = window.publish().unwrap();
        let second = window.publish().unwrap();
        assert_ne!(first, second);
        assert_eq!((window.publish(), window.open_count()), (None, 2));
        window.handle_puback(first).unwrap();
        assert_eq!(window.publish(), Some(first));
    }

    #[test]
    fn qos_2_ends_with_pubcomp() {
        let mut window = Window::new(1);
        let id = window.publish().unwrap();
        assert!(window.handle_pubcomp(id).is_err());
        window.handle_pubrec(id).unwrap();
        assert_eq!(window.publish(), None);
        assert!(window.handle_puback(id).is_err());
        window.handle_pubcomp(id).unwrap();
        assert_eq!(window.open_count(), 0);
    }

    #[test]
    fn an_acknowledgement_needs_a_publish() {
        let mut window = Window::new(1);
        assert!(window.handle_puback(PacketId::MIN).is_err());
        assert!(window.handle_puback(PacketId::new(9).unwrap()).is_err());
    }
}
