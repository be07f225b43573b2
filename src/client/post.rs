//! Telling others than the API: a JSON text, posted once, without the key.

use std::fmt;

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::{Endpoint, Local, Transport, cause, transport};

/// Somebody who is told: only scheme and host of the address are ever shown, since what is behind
/// them is often a secret.
#[derive(Clone)]
pub struct Receiver {
    url: Url,
    local: Local,
}

/// What may be told without encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// What stays on this machine.
    OnThisMachine,
    /// Anything.
    Anywhere,
}

impl Receiver {
    /// Takes an address.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, and nothing of it.
    pub fn parse(text: &str, plain: Plain) -> Result<Self, &'static str> {
        let url = Url::parse(text.trim()).map_err(|_| "it is not a URL")?;
        let host = url.host_str().ok_or("it has no host")?;
        let local = Local::of(host);
        match (url.scheme(), local, plain) {
            ("https", _, _) | ("http", Local::Loopback, _) | ("http", _, Plain::Anywhere) => {}
            ("http", Local::Elsewhere, Plain::OnThisMachine) => {
                return Err("what is posted there would travel unencrypted; use https");
            }
            _ => return Err("it is not an https address"),
        }
        Ok(Self { url, local })
    }

    /// The same one at a path below.
    #[must_use]
    pub fn below(&self, path: &str) -> Self {
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{path}"));
        Self {
            url,
            local: self.local,
        }
    }

    /// Posts a JSON text. No redirect is followed, nothing is tried again, and of the answer only the
    /// status is read. What stays on this machine takes no proxy.
    ///
    /// # Errors
    ///
    /// Why it was not taken, without the address.
    pub async fn post(
        &self,
        body: String,
        headers: HeaderMap,
        transport: &Transport,
    ) -> Result<(), String> {
        let mut transport = transport.clone();
        if self.local == Local::Loopback {
            transport.proxy = None;
        }
        let endpoint = Endpoint {
            upload: self.url.clone(),
            local: self.local,
        };
        let (client, _) = transport::build(&endpoint, &transport, 1)?;
        let request = client
            .post(self.url.clone())
            .headers(headers)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let answer = request.send().await.map_err(|error| cause(&error))?;
        match answer.status().as_u16() {
            200..=299 => Ok(()),
            status @ 300..=399 => Err(format!("HTTP {status}; redirects are not followed")),
            status => Err(format!("HTTP {status}")),
        }
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.url.scheme())?;
        match self.url.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({self})")
    }
}

/// Reads headers as OpenTelemetry's variables have them: `name=value,name=value`, percent-encoded.
///
/// # Errors
///
/// Says what is wrong with them, and nothing of them.
pub fn headers(text: &str) -> Result<HeaderMap, &'static str> {
    let mut headers = HeaderMap::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("a header has no `=`")?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| "a header's name is none")?;
        let value = HeaderValue::try_from(decoded(value.trim()));
        let mut value = value.map_err(|_| "a header's value does not fit a header")?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Percent-decoded; what is no code stays as it is.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| byte == b'%');
        let code = code.and_then(|code| str::from_utf8(code).ok());
        let code = code.filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()));
        if let Some(code) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            bytes.push(code);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_this_machine_is_told() {
        for (text, is_fine, is_fine_in_plain) in [
            ("https://hooks.example.com/T0/s3cret?x=s3cret", true, true),
            ("https://user:s3cret@hooks.example.com", true, true),
            ("http://127.0.0.1:9/s3cret", true, true),
            ("http://[::1]/s3cret", true, true),
            ("http://localhost/s3cret", true, true),
            ("http://localhost.example.com/s3cret", false, true),
            ("http://collector:4318/s3cret", false, true),
            ("ftp://127.0.0.1/s3cret", false, false),
            ("file:///s3cret", false, false),
            ("s3cret", false, false),
            ("", false, false),
        ] {
            for (plain, expected) in [
                (Plain::OnThisMachine, is_fine),
                (Plain::Anywhere, is_fine_in_plain),
            ] {
                let parsed = Receiver::parse(text, plain);
                assert_eq!(parsed.is_ok(), expected, "{text} {plain:?}");
                let said = match parsed {
                    Ok(receiver) => format!("{receiver} {receiver:?}"),
                    Err(why) => why.to_owned(),
                };
                assert!(!said.contains("s3cret"), "{said}");
            }
        }
    }

    #[test]
    fn headers_are_read_as_collectors_document_them() {
        let read = headers("Authorization=Basic%20czNjcmV0, x-tenant = a%zz,,").expect("headers");
        assert_eq!(read["authorization"], "Basic czNjcmV0");
        assert_eq!(read["x-tenant"], "a%zz");
        assert!(!format!("{read:?}").contains("czNjcmV0"));
        for bad in ["s3cret", "a b=s3cret", "a=s3cret%0a"] {
            let why = headers(bad).expect_err(bad);
            assert!(!why.contains("s3cret"), "{bad}");
        }
    }

    #[test]
    fn a_path_is_put_behind_an_address() {
        for (base, whole) in [
            ("http://localhost:4318", "http://localhost:4318/v1/metrics"),
            ("http://localhost:4318/", "http://localhost:4318/v1/metrics"),
            (
                "https://otlp.example.com/otlp/",
                "https://otlp.example.com/otlp/v1/metrics",
            ),
        ] {
            let receiver = Receiver::parse(base, Plain::Anywhere).expect(base);
            assert_eq!(receiver.below("/v1/metrics").url.as_str(), whole);
        }
    }
}
