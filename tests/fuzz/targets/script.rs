//! Bytes as a list of operations: each reads what it needs, until there are no more.

pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Script<'a> {
        Script(bytes)
    }

    /// The number of the next operation, of so many.
    pub(super) fn operation(&mut self, count: u8) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first % count)
    }

    /// One of so many; the first where nothing is left to say which.
    pub(super) fn choice(&mut self, count: u8) -> u8 {
        self.operation(count).unwrap_or(0)
    }

    pub(super) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        let count = u8::try_from(all.len()).expect("few to choose from");
        all[usize::from(self.choice(count))]
    }

    pub(super) fn flag(&mut self) -> bool {
        self.choice(2) == 1
    }

    pub(super) fn byte(&mut self) -> u8 {
        u8::try_from(self.number(1)).expect("one byte")
    }

    /// A number of so many bytes.
    pub(super) fn number(&mut self, bytes: usize) -> u64 {
        let (first, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        first.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}
