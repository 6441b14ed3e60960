//! Keys that another thread fetches from an address, while the broker runs.
//!
//! Does not know how. A set that cannot be used leaves the former one in force.

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use super::{KeyFault, Parts, TokenFault, keys::Keys};
use crate::base::time::Span;

/// Where the keys come from.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyAddress {
    pub url: String,
    /// They are fetched as often as this.
    pub interval: Span,
    /// The certificates of the authorities that may prove who the server is, in PEM.
    pub authorities: Vec<u8>,
}

/// The URL may hold a secret.
impl fmt::Debug for KeyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyAddress").field("interval", &self.interval).finish_non_exhaustive()
    }
}

/// The keys that were fetched last, which threads share.
pub struct FetchedKeys {
    address: KeyAddress,
    latest: Lock<Option<Latest>>,
    /// Tells whoever fetches that a token had an unknown key, or that nobody wants keys any more.
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Clone)]
struct Latest {
    content: Arc<[u8]>,
    keys: Arc<Keys>,
}

impl FetchedKeys {
    /// None yet.
    pub fn new(address: KeyAddress, wake: impl Fn() + Send + Sync + 'static) -> FetchedKeys {
        FetchedKeys { address, latest: Lock::new(None), wake: Box::new(wake) }
    }

    pub fn address(&self) -> &KeyAddress {
        &self.address
    }

    /// Takes a JWK Set in the place of the former one. Returns how many keys it has, if it is
    /// another one.
    pub fn replace(&self, content: &[u8]) -> Result<Option<usize>, KeyFault> {
        if self.latest().is_some_and(|latest| *latest.content == *content) {
            return Ok(None);
        }
        let keys = Keys::parse_public_set(content)?;
        let count = keys.len();
        let latest = Latest { content: content.into(), keys: Arc::new(keys) };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(latest);
        Ok(Some(count))
    }

    /// Begins with the keys of another fetcher, unless some have come.
    pub fn begin_with(&self, former: &FetchedKeys) {
        let former = former.latest();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.is_none() {
            *latest = former;
        }
    }

    pub(super) fn verify(&self, parts: &Parts<'_>) -> Result<(), TokenFault> {
        let latest = self.latest().ok_or(TokenFault::KeysMissing)?;
        let verified = latest.keys.verify(parts);
        if verified == Err(TokenFault::KeyUnknown) {
            (self.wake)();
        }
        verified
    }

    fn latest(&self) -> Option<Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for FetchedKeys {
    fn drop(&mut self) {
        (self.wake)();
    }
}

impl fmt::Debug for FetchedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedKeys").field("address", &self.address).finish_non_exhaustive()
    }
}

#[expect(
    clippy::disallowed_types,
    reason = "taken by the threads that check tokens, not by shards"
)]
type Lock<T> = std::sync::Mutex<T>;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_set_stays_until_a_good_one_comes_and_unknown_keys_ask_for_it() {
        let set = include_str!("../../../tests/jwt/jwks.json");
        let signed = include_str!("../../../tests/jwt/tokens.txt");
        let token = |of: &str| {
            let line = signed.lines().find(|line| line.contains(of)).unwrap();
            line.rsplit_once(' ').unwrap().1
        };
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let address =
            KeyAddress { url: String::new(), interval: Span::ZERO, authorities: Vec::new() };
        let keys = FetchedKeys::new(address, move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let verify = |text: &str| keys.verify(&Parts::of(text.as_bytes()).unwrap());
        assert_eq!(verify(token("EdDSA")), Err(TokenFault::KeysMissing));
        assert_eq!(keys.replace(set.as_bytes()).unwrap(), Some(3));
        assert_eq!(keys.replace(set.as_bytes()).unwrap(), None);
        for bad in [
            "",
            "{}",
            "a secret that is long enough to be one",
            "-----BEGIN PUBLIC KEY-----",
            r#"{"keys":[{"kty":"oct","k":"YSBzZWNyZXQgdGhhdCBpcyBsb25nIGVub3VnaCB0byBiZSBvbmU"}]}"#,
        ] {
            assert!(keys.replace(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(verify(token("EdDSA")), Ok(()));
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
        let named = set.replace("\"OKP\"", "\"OKPX\"");
        assert_eq!(keys.replace(named.as_bytes()).unwrap(), Some(2));
        assert_eq!(verify(token("EdDSA")), Err(TokenFault::KeyUnknown));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        // A key that cannot be read, and one that is too weak.
        let odd = set.replace('[', r#"[{"kty":5},{"kty":"RSA","n":"AQAB","e":"AQAB"},"#);
        assert_eq!(keys.replace(odd.as_bytes()).unwrap(), Some(3));
        assert_eq!(verify(token("EdDSA")), Ok(()));
        let address = KeyAddress { interval: Span::from_secs(1), ..keys.address().clone() };
        let next = FetchedKeys::new(address, || {});
        next.begin_with(&keys);
        assert_eq!(next.verify(&Parts::of(token("EdDSA").as_bytes()).unwrap()), Ok(()));
        assert_eq!(next.replace(named.as_bytes()).unwrap(), Some(2));
        next.begin_with(&keys);
        let of_next = next.verify(&Parts::of(token("EdDSA").as_bytes()).unwrap());
        assert_eq!(of_next, Err(TokenFault::KeyUnknown));
        drop(keys);
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }
}
