//! The two messages of a client, in the grammar of RFC 5802, section 7.

use base64ct::{Base64, Encoding};

/// client-first-message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst<'a> {
    pub(super) gs2_header: &'a str,
    /// client-first-message-bare: all that follows the header.
    pub(super) bare: &'a str,
    pub(super) user_name: String,
    pub(super) nonce: &'a str,
}

/// client-final-message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFinal<'a> {
    pub(super) without_proof: &'a str,
    /// The GS2 header again, because no channel is bound.
    pub(super) channel_binding: Vec<u8>,
    pub(super) nonce: &'a str,
    pub(super) proof: Vec<u8>,
}

impl<'a> ClientFirst<'a> {
    /// `None` if the client wants to act for another user (`a=`), or requires channel binding
    /// (`p=`) or an extension (`m=`): none of these is supported. Other extensions are ignored.
    pub(super) fn parse(text: &'a str) -> Option<ClientFirst<'a>> {
        let bare = text.strip_prefix("n,,").or_else(|| text.strip_prefix("y,,"))?;
        let mut attributes = bare.split(',');
        let user_name = unescape(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
        let gs2_header = &text[..text.len() - bare.len()];
        Some(ClientFirst { gs2_header, bare, user_name, nonce })
    }
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(text: &'a str) -> Option<ClientFinal<'a>> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let channel_binding = attributes.next()?.strip_prefix("c=")?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        Some(ClientFinal {
            without_proof,
            channel_binding: Base64::decode_vec(channel_binding).ok()?,
            nonce,
            proof: Base64::decode_vec(proof).ok()?,
        })
    }
}

/// Reads a name in which `=2C` stands for a comma and `=3D` for an equals sign.
fn unescape(saslname: &str) -> Option<String> {
    let mut pieces = saslname.split('=');
    let mut name = pieces.next()?.to_owned();
    for piece in pieces {
        let (character, rest) = match piece.strip_prefix("2C") {
            Some(rest) => (',', rest),
            None => ('=', piece.strip_prefix("3D")?),
        };
        name.push(character);
        name.push_str(rest);
    }
    Some(name).filter(|name| !name.is_empty())
}

/// Printable, and of at least one character. Commas have been taken for separators.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_message_is_taken_apart() {
        for (text, gs2_header, user_name) in [
            ("n,,n=user,r=abc", "n,,", "user"),
            ("y,,n=a=2Cb=3Dc,r=abc", "y,,", "a,b=c"),
            ("n,,n=ü,r=abc,x=extension", "n,,", "ü"),
        ] {
            let first = ClientFirst::parse(text).unwrap();
            assert_eq!((first.gs2_header, first.nonce), (gs2_header, "abc"), "{text}");
            assert_eq!((first.user_name.as_str(), first.bare), (user_name, &text[3..]), "{text}");
        }
    }

    #[test]
    fn what_is_no_first_message_or_asks_for_too_much_is_refused() {
        for text in [
            "",
            "n",
            "n,,",
            "n=user,r=abc",
            "n,,n=user",
            "n,,n=,r=abc",
            "n,,n=user,r=",
            "n,,n=user,r=a c",
            "n,,n=user,r=ü",
            "n,,r=abc,n=user",
            "n,,n=us=er,r=abc",
            "n,,n=us=2cer,r=abc",
            "n,,n=user=,r=abc",
            "n,,m=must,n=user,r=abc",
            "n,a=other,n=user,r=abc",
            "p=tls-unique,,n=user,r=abc",
        ] {
            assert_eq!(ClientFirst::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_final_message_is_taken_apart_or_refused() {
        let client_final = ClientFinal::parse("c=biws,r=abc,x=1,p=AAEC").unwrap();
        assert_eq!(client_final.without_proof, "c=biws,r=abc,x=1");
        assert_eq!((client_final.channel_binding, client_final.nonce), (b"n,,".to_vec(), "abc"));
        assert_eq!(client_final.proof, [0, 1, 2]);
        for text in ["", "c=biws,r=abc", "r=abc,c=biws,p=AAEC", "c=,p=AAEC", "c=biws,r=abc,p=~"] {
            assert_eq!(ClientFinal::parse(text), None, "{text:?}");
        }
    }
}
