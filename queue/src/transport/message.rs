//! A message: which job, and what somebody who looks at the queue wants to know. Nothing in it is needed but the id.

use chrono::{DateTime, Utc};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use uuid::Uuid;

/// A row that is to be published.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub id: Uuid,
    pub run: i64,
    pub kind: String,
    pub priority: i16,
    pub organization: Option<Uuid>,
    /// When the row was marked; the same for all of a batch.
    pub published: DateTime<Utc>,
}

impl Notice {
    /// The id as its 16 bytes.
    pub fn body(&self) -> [u8; 16] {
        *self.id.as_bytes()
    }

    pub fn properties(&self) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert("run".into(), AMQPValue::LongLongInt(self.run));
        headers.insert("priority".into(), AMQPValue::ShortInt(self.priority));
        headers.insert("published_us".into(), AMQPValue::LongLongInt(self.published.timestamp_micros()));
        BasicProperties::default()
            .with_delivery_mode(2)
            .with_type(self.kind.as_str().into())
            .with_headers(headers)
    }
}

/// What a delivery says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub tag: u64,
    pub id: Uuid,
    /// Microseconds; 0 when it does not say.
    pub published: i64,
}

impl Received {
    /// `None`: not a message of ours.
    pub fn read(delivery: &Delivery) -> Option<Received> {
        let id = Uuid::from_slice(&delivery.data).ok()?;
        let headers = delivery.properties.headers().as_ref();
        let published = headers.and_then(|headers| headers.inner().get("published_us"));
        let published = published.and_then(AMQPValue::as_long_long_int).unwrap_or_default();
        Some(Received { tag: delivery.delivery_tag, id, published })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let published = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        let (id, kind) = (Uuid::now_v7(), "send_mail".to_owned());
        let notice = Notice { id, run: 3, kind, priority: -1, organization: None, published };
        let mut delivery = Delivery::mock(7, "jobs".into(), "mail".into(), false, notice.body().to_vec());
        delivery.properties = notice.properties();
        let received = Received::read(&delivery).unwrap();
        assert_eq!(received, Received { tag: 7, id: notice.id, published: published.timestamp_micros() });
        assert_eq!(*delivery.properties.delivery_mode(), Some(2), "persistent");
    }

    #[test]
    fn what_others_write_is_not_taken_for_a_job() {
        let delivery = Delivery::mock(1, "".into(), "".into(), false, b"{\"id\":1}".to_vec());
        assert_eq!(Received::read(&delivery), None);
    }
}
