//! Why TLS fails, in words that say what to do.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Declares all failures, each with its text.
macro_rules! failures {
    ($($(#[$about:meta])* $name:ident = $text:literal;)+) => {
        /// Why a connection cannot go on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum TlsFailure {
            $($(#[$about])* $name,)+
        }

        impl TlsFailure {
            /// The failure in words.
            pub fn text(self) -> &'static str {
                match self {
                    $(TlsFailure::$name => $text,)+
                }
            }
        }
    };
}

failures! {
    PlainMqtt = "plain MQTT on a TLS port";
    PlainHttp = "plain HTTP on a TLS port";
    NotTls = "the first bytes are not TLS: this listener speaks TLS";
    /// The client's alert is about the certificate.
    Distrusted = "the client does not trust the certificate of the broker";
    /// Another alert of the client.
    Alert = "the client ended TLS with an alert";
    VersionTooLow = "the client offers no TLS version that --tls-min allows";
    NothingInCommon = "no TLS version or cipher suite in common";
    NoProtocol = "no ALPN protocol in common (--tls-alpn)";
    NoCertificate = "the client has no certificate, and this listener requires one";
    Revoked = "the client's certificate was revoked";
    Expired = "the client's certificate has expired";
    NotYetValid = "the client's certificate is not valid yet";
    UnknownIssuer = "the client's certificate is of no authority in --tls-client-ca";
    NoList = "no list in --tls-crl is of the authority of the client's certificate";
    ListExpired = "the list in --tls-crl has expired: the authority has to issue another one";
    WrongPurpose = "the client's certificate is not for clients (its extended key usage)";
    BadCertificate = "the client's certificate cannot be used";
    BadSignature = "the client has not proven that its certificate is its own";
    /// The client asks for new keys, or for another handshake, over and over.
    TooManyRequests = "the client asks for new keys too often";
    Wrong = "the TLS records of the client are wrong";
}

impl From<&Error> for TlsFailure {
    fn from(error: &Error) -> TlsFailure {
        use rustls::PeerMisbehaved::{TooManyKeyUpdateRequests, TooManyRenegotiationRequests};
        match error {
            Error::AlertReceived(alert) => of_alert(*alert),
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => TlsFailure::VersionTooLow,
            Error::PeerIncompatible(_) => TlsFailure::NothingInCommon,
            Error::NoApplicationProtocol => TlsFailure::NoProtocol,
            Error::NoCertificatesPresented => TlsFailure::NoCertificate,
            Error::InvalidCertificate(error) => of_certificate(error),
            Error::PeerMisbehaved(TooManyKeyUpdateRequests | TooManyRenegotiationRequests) => {
                TlsFailure::TooManyRequests
            }
            _ => TlsFailure::Wrong,
        }
    }
}

fn of_alert(alert: AlertDescription) -> TlsFailure {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired => TlsFailure::Distrusted,
        _ => TlsFailure::Alert,
    }
}

fn of_certificate(error: &CertificateError) -> TlsFailure {
    match error {
        CertificateError::Revoked => TlsFailure::Revoked,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFailure::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFailure::NotYetValid
        }
        CertificateError::UnknownIssuer => TlsFailure::UnknownIssuer,
        CertificateError::UnknownRevocationStatus => TlsFailure::NoList,
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => TlsFailure::ListExpired,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            TlsFailure::WrongPurpose
        }
        CertificateError::BadSignature => TlsFailure::BadSignature,
        _ => TlsFailure::BadCertificate,
    }
}
