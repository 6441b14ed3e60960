//! The naive list that judges the trie and the groups.
