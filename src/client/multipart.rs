//! The multipart form (RFC 7578), as bytes around the file's own.

use bytes::Bytes;

use crate::model::{ContentType, Metadata, RemoteName, Target, write_hex};

/// The texts of one upload.
#[derive(Debug, Clone, Copy)]
pub struct Form<'a> {
    /// Where the file goes.
    pub target: &'a Target,
    /// The name to store it under.
    pub remote_name: &'a RemoteName,
    /// What it is sent as.
    pub content_type: &'a ContentType,
    /// What is stored with it.
    pub metadata: &'a Metadata,
}

/// The bytes before and after the file's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// All other parts, and the file part's header.
    pub head: Vec<u8>,
    /// The final boundary. Django takes a file for complete once it has seen one byte after
    /// `--boundary`, so it is withheld whole.
    pub tail: Bytes,
    /// The request's `Content-Type`.
    pub content_type: String,
}

/// Room for the head of a form with a little metadata.
const HEAD_USUAL: usize = 1024;

/// What every boundary begins with.
const BOUNDARY: &[u8; 10] = b"roe-batch-";

/// The text between the parts.
struct Boundary([u8; 42]);

impl Boundary {
    fn new(number: u128) -> Self {
        let mut text = [0; 42];
        let (word, digits) = text.split_at_mut(BOUNDARY.len());
        word.copy_from_slice(BOUNDARY);
        write_hex(&number.to_be_bytes(), digits);
        Self(text)
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Envelope {
    /// Encodes a form, its head at the end of a buffer. The boundary must not occur in the file: 128
    /// random bits see to that.
    #[must_use]
    pub fn new(form: &Form<'_>, boundary: u128, buffer: Vec<u8>) -> Self {
        let boundary = Boundary::new(boundary);
        let boundary = boundary.as_str();
        let mut head = buffer;
        head.reserve(HEAD_USUAL);
        let mut add = |parts: &[&str]| {
            for part in parts {
                head.extend_from_slice(part.as_bytes());
            }
        };
        let mut field = |name: &str, value: &str| {
            let disposition = "\r\nContent-Disposition: form-data; name=\"";
            add(&[
                "--",
                boundary,
                disposition,
                name,
                "\"\r\n\r\n",
                value,
                "\r\n",
            ]);
        };
        if let Some(dataset) = &form.target.dataset_id {
            field("dataset_id", dataset.as_str());
        }
        if let Some(organization) = &form.target.organization_id {
            field("organization_id", organization.as_str());
        }
        if !form.metadata.is_empty() {
            field("metadata", form.metadata.sent_json());
        }
        add(&[
            "--",
            boundary,
            "\r\nContent-Disposition: form-data; name=\"file\"; ",
            &form.remote_name.header_parameters(),
            "\r\nContent-Type: ",
            form.content_type.as_str(),
            "\r\n\r\n",
        ]);
        Self {
            head,
            tail: ["\r\n--", boundary, "--\r\n"].concat().into(),
            content_type: ["multipart/form-data; boundary=", boundary].concat(),
        }
    }

    /// The exact `Content-Length` around a file of this size.
    #[must_use]
    pub fn length(&self, file: u64) -> u64 {
        self.head.len() as u64 + file + self.tail.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DatasetId, OrganizationId, Origin};

    #[test]
    fn a_form_has_its_fields_before_the_file_and_an_exact_length() {
        let target = Target {
            origin: Origin::new("sandbox"),
            organization_id: Some(OrganizationId::new("org")),
            dataset_id: Some(DatasetId::new("data")),
        };
        let metadata = Metadata::open([("a".to_owned(), "é\"1.10".to_owned())]);
        let form = Form {
            target: &target,
            remote_name: &RemoteName::new("x \"y\".txt").expect("a name"),
            content_type: &ContentType::of_name("x.txt"),
            metadata: &metadata,
        };
        let envelope = Envelope::new(&form, 0xabc, Vec::new());
        let text = String::from_utf8(envelope.head.clone()).expect("UTF-8");
        let b =
            "--roe-batch-00000000000000000000000000000abc\r\nContent-Disposition: form-data; name=";
        assert_eq!(
            text,
            format!(
                "{b}\"dataset_id\"\r\n\r\ndata\r\n{b}\"organization_id\"\r\n\r\norg\r\n\
                 {b}\"metadata\"\r\n\r\n{{\"a\":\"é\\\"1.10\"}}\r\n\
                 {b}\"file\"; filename=\"x \\\"y\\\".txt\"\r\nContent-Type: text/plain\r\n\r\n"
            )
        );
        let whole = [&envelope.head[..], b"12345", &envelope.tail].concat();
        assert_eq!(envelope.length(5), whole.len() as u64);
    }

    #[test]
    fn what_is_not_given_is_not_sent() {
        let target = Target {
            origin: Origin::new("sandbox"),
            organization_id: None,
            dataset_id: None,
        };
        let form = Form {
            target: &target,
            remote_name: &RemoteName::new("x").expect("a name"),
            content_type: &ContentType::of_name("x"),
            metadata: &Metadata::default(),
        };
        let head = Envelope::new(&form, 1, Vec::new()).head;
        let text = String::from_utf8(head).expect("UTF-8");
        assert_eq!(text.matches("name=").count(), 2, "{text}");
    }
}
