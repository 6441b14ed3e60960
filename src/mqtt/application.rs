//! The properties of a message that are forwarded from publisher to subscribers unaltered.

use super::{
    error::DecodeError,
    properties::{PropertyReader, UserProperties, put},
    property::{APPLICATION, Property, ResponseTopic},
};

/// The properties that a server forwards as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplicationProperties<'a> {
    /// 1 if the payload is declared as UTF-8 text, 0 if it is unspecified bytes. [MQTT-3.3.2-4]
    pub payload_format_indicator: Option<u8>,
    pub content_type: Option<&'a str>,
    pub response_topic: Option<&'a str>,
    pub correlation_data: Option<&'a [u8]>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> ApplicationProperties<'a> {
    pub const fn is_empty(&self) -> bool {
        self.payload_format_indicator.is_none()
            && self.content_type.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.user_properties.is_empty()
    }

    /// Appends the properties in one fixed order, without a Property Length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let format = self.payload_format_indicator.map(|format| format != 0);
        put(out, format.map(Property::PayloadFormatIndicator));
        put(out, self.content_type.map(Property::ContentType));
        put(out, self.response_topic.map(|topic| Property::ResponseTopic(ResponseTopic(topic))));
        put(out, self.correlation_data.map(Property::CorrelationData));
        self.user_properties.encode(out);
    }

    /// How many bytes [`ApplicationProperties::encode`] appends.
    pub fn bytes(&self) -> usize {
        let texts = self.content_type.into_iter().chain(self.response_topic).map(str::len);
        let with_length = texts.chain(self.correlation_data.map(<[u8]>::len));
        let format = self.payload_format_indicator.map_or(0, |_| 2);
        format + with_length.map(|len| 3 + len).sum::<usize>() + self.user_properties.bytes()
    }

    /// Reads what [`ApplicationProperties::encode`] has written.
    pub fn decode(raw: &'a [u8]) -> Result<ApplicationProperties<'a>, DecodeError> {
        let mut properties = ApplicationProperties::default();
        let mut reader = PropertyReader::new(raw, APPLICATION);
        for property in &mut reader {
            properties.set(property?);
        }
        properties.user_properties = reader.user_properties();
        Ok(properties)
    }

    /// Keeps a property if it is one of these. User Properties are kept by their list.
    pub(super) fn set(&mut self, property: Property<'a>) {
        match property {
            Property::PayloadFormatIndicator(text) => {
                self.payload_format_indicator = Some(u8::from(text));
            }
            Property::ContentType(content_type) => self.content_type = Some(content_type),
            Property::ResponseTopic(ResponseTopic(topic)) => self.response_topic = Some(topic),
            Property::CorrelationData(data) => self.correlation_data = Some(data),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::error::Malformed;

    #[test]
    fn what_is_forwarded_is_written_in_one_order_and_read_back() {
        let properties = ApplicationProperties {
            payload_format_indicator: Some(1),
            content_type: Some("text"),
            response_topic: Some("reply/to"),
            correlation_data: Some(&[7, 0]),
            user_properties: UserProperties::Pairs(&[("b", "1"), ("a", ""), ("b", "1")]),
        };
        let mut raw = Vec::new();
        properties.encode(&mut raw);
        assert_eq!(ApplicationProperties::decode(&raw), Ok(properties));
        assert_eq!(raw[..6], [0x01, 1, 0x03, 0, 4, b't']);
    }

    #[test]
    fn the_message_expiry_is_not_forwarded_unaltered() {
        let raw = [0x02, 0, 0, 0, 1];
        let refused = ApplicationProperties::decode(&raw);
        assert_eq!(refused, Err(Malformed::PropertyIdentifier.into()));
    }
}
