//! What the certificate of a client says in place of its CONNECT.

use super::{auth::Credentials, reason::Reason};
use crate::{mqtt::Connect, transport::tls::Certified};

/// A CONNECT with the names that the certificate of its client has proven.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) connect: Connect<'a>,
    /// Why the certificate does not let its client in, if it does not.
    pub(super) fault: Option<Reason>,
    is_proven: bool,
    /// The Client Identifier is the user name, because the client has left it empty.
    is_assigned: bool,
}

/// The User Name of the certificate takes the place of that in CONNECT.
pub(super) fn named<'a>(connect: &Connect<'a>, certified: &'a Certified) -> Named<'a> {
    let mut named = Named { connect: *connect, fault: None, is_proven: false, is_assigned: false };
    match certified {
        Certified::Nobody => {}
        Certified::Nameless => named.fault = Some(Reason::CertificateNameless),
        Certified::User { name, is_client_id } => {
            named.is_proven = true;
            named.connect.user_name = Some(name);
            if *is_client_id {
                named.is_assigned = connect.client_id.is_empty();
                named.connect.client_id = name;
                let is_other = !named.is_assigned && *connect.client_id != **name;
                named.fault = is_other.then_some(Reason::ClientIdentifierOfOther);
            }
        }
    }
    named
}

impl<'a> Named<'a> {
    /// What the client proves its User Name by. A client with an Authentication Method proves it
    /// in that way as well.
    pub(super) fn credentials(&self) -> Credentials<'a> {
        match Credentials::of(&self.connect) {
            Credentials::Password(_) if self.is_proven => Credentials::Certificate,
            credentials => credentials,
        }
    }

    /// The Client Identifier that the client has to be told. [MQTT-3.2.2-16]
    pub(super) fn assigned(&self) -> Option<Box<str>> {
        self.is_assigned.then(|| self.connect.client_id.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::Version;

    fn user(is_client_id: bool) -> Certified {
        Certified::User { name: "ada".into(), is_client_id }
    }

    fn connect(client_id: &'static str) -> Connect<'static> {
        Connect {
            user_name: Some("mallory"),
            password: Some(b"guess"),
            ..Connect::new(Version::V5, client_id)
        }
    }

    #[test]
    fn the_name_in_the_certificate_takes_the_place_of_that_in_connect() {
        let (connect, certified) = (connect("sensor"), user(false));
        let named = named(&connect, &certified);
        assert_eq!(named.connect.user_name, Some("ada"));
        assert!(matches!(named.credentials(), Credentials::Certificate));
        assert_eq!((named.connect.client_id, named.fault), ("sensor", None));
        assert_eq!(named.assigned(), None);
    }

    #[test]
    fn without_a_name_the_password_decides_as_ever() {
        let connect = connect("sensor");
        let nobody = named(&connect, &Certified::Nobody);
        assert!(matches!(nobody.credentials(), Credentials::Password(Some(b"guess"))));
        assert_eq!((nobody.connect, nobody.fault), (connect, None));
        let nameless = named(&connect, &Certified::Nameless);
        assert_eq!(nameless.fault, Some(Reason::CertificateNameless));
    }

    #[test]
    fn the_user_name_can_have_to_be_the_client_identifier() {
        for (client_id, fault, assigned) in [
            ("ada", None, None),
            ("", None, Some("ada")),
            ("bob", Some(Reason::ClientIdentifierOfOther), None),
        ] {
            let (connect, certified) = (connect(client_id), user(true));
            let named = named(&connect, &certified);
            assert_eq!((named.fault, named.assigned().as_deref()), (fault, assigned));
            assert_eq!(named.connect.client_id, "ada");
        }
    }
}
