//! A SCRAM client, written down from RFC 5802 by itself: it shares no code with the broker.

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest, Sha256, Sha512};

pub(crate) const SHA_256: &str = "SCRAM-SHA-256";
pub(crate) const SHA_512: &str = "SCRAM-SHA-512";
const ITERATIONS: u32 = 4096;
const SALT: &[u8] = b"salt of the tests";

/// One side that knows a password, in one exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scram<'a> {
    pub(crate) method: &'a str,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
}

/// What a client sends last, and what the broker must answer.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) client_final: String,
    pub(crate) server_final: String,
}

const CLIENT_NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";

impl Scram<'_> {
    /// The line of the SCRAM file for this user.
    pub(crate) fn line(&self) -> String {
        let (client_key, server_key) = self.keys(SALT, ITERATIONS);
        let [salt, stored_key, server_key] =
            [SALT, &self.hash(&client_key), &server_key].map(Base64::encode_string);
        format!("{}:{}${ITERATIONS}:{salt}${stored_key}:{server_key}\n", self.user, self.method)
    }

    pub(crate) fn client_first(&self) -> String {
        format!("n,,n={},r={CLIENT_NONCE}", self.user)
    }

    /// Answers the broker's challenge.
    pub(crate) fn finish(&self, server_first: &str) -> Finish {
        let mut attributes = server_first.split(',').map(|text| &text[2..]);
        let [nonce, salt, iterations] =
            std::array::from_fn(|_| attributes.next().expect("three attributes"));
        assert!(nonce.starts_with(CLIENT_NONCE) && nonce.len() > CLIENT_NONCE.len());
        let salt = Base64::decode_vec(salt).expect("base64");
        let (client_key, server_key) = self.keys(&salt, iterations.parse().expect("a number"));
        let without_proof = format!("c=biws,r={nonce}");
        let said = format!("n={},r={CLIENT_NONCE},{server_first},{without_proof}", self.user);
        let signature = self.hmac(&self.hash(&client_key), said.as_bytes());
        let proof: Vec<u8> =
            client_key.iter().zip(&signature).map(|(key, byte)| key ^ byte).collect();
        let answer = self.hmac(&server_key, said.as_bytes());
        Finish {
            client_final: format!("{without_proof},p={}", Base64::encode_string(&proof)),
            server_final: format!("v={}", Base64::encode_string(&answer)),
        }
    }

    fn keys(&self, salt: &[u8], iterations: u32) -> (Vec<u8>, Vec<u8>) {
        let password = self.password.as_bytes();
        let mut salted = [0; 64];
        let salted = if self.method == SHA_256 {
            pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted[..32]);
            &salted[..32]
        } else {
            pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut salted);
            &salted[..]
        };
        (self.hmac(salted, b"Client Key"), self.hmac(salted, b"Server Key"))
    }

    fn hash(&self, bytes: &[u8]) -> Vec<u8> {
        if self.method == SHA_256 {
            Sha256::digest(bytes).to_vec()
        } else {
            Sha512::digest(bytes).to_vec()
        }
    }

    fn hmac(&self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        if self.method == SHA_256 {
            let mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
            mac.chain_update(bytes).finalize().into_bytes().to_vec()
        } else {
            let mac = Hmac::<Sha512>::new_from_slice(key).expect("any length");
            mac.chain_update(bytes).finalize().into_bytes().to_vec()
        }
    }
}
