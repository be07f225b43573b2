//! How the service is reached: proxy, certificate roots, HTTP version.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::HeaderValue;
use reqwest::{Url, redirect, retry};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::direct::Direct;
use super::{Endpoint, Local};
use crate::model::HttpVersion;

/// Idle connections are dropped before common servers and proxies drop them: a request on a
/// connection that the other side has just closed ends in doubt.
pub(super) const POOL_IDLE: Duration = Duration::from_secs(10);

/// How long a connection may take to come about.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What this program calls itself.
pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("roe-batch/", env!("CARGO_PKG_VERSION")));

/// What lies between this program and the service.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// The proxy for everything, whatever the environment says; none to take the environment's,
    /// and none at all for this machine.
    pub proxy: Option<Proxy>,
    /// Roots beside the platform's.
    pub roots: Roots,
    /// The HTTP version to speak.
    pub version: HttpVersion,
}

impl Transport {
    /// Whether the key stays encrypted, or on this machine, on its way: an address that is only on
    /// this machine is another one's behind a proxy elsewhere.
    ///
    /// # Errors
    ///
    /// Says what would happen to it.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), String> {
        let Some(proxy) = &self.proxy else {
            return Ok(());
        };
        let is_plain = endpoint.upload.scheme() == "http";
        let local = proxy.0.host_str().map_or(Local::Elsewhere, Local::of);
        if is_plain && local == Local::Elsewhere {
            return Err(format!(
                "the key would travel unencrypted to the proxy {proxy}; use https"
            ));
        }
        Ok(())
    }
}

/// A proxy's address. Credentials in it are used and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(Url);

impl Proxy {
    /// Takes an address such as `http://proxy:3128` or `socks5h://user:password@127.0.0.1:1080`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, and nothing of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let Some((scheme, _)) = text.split_once("://") else {
            return Err("it has no scheme");
        };
        // Without a host of its own a URL of these takes the path's beginning for one.
        if !["http", "https", "socks5", "socks5h"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return Err("it is neither http, https, socks5 nor socks5h");
        }
        let url = Url::parse(text).map_err(|_| "it is not a URL")?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err("it has no host");
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("it has more than scheme, host and port");
        }
        if reqwest::Proxy::all(url.clone()).is_err() {
            return Err("it is not a proxy's address");
        }
        Ok(Self(url))
    }

    /// Whether it takes HTTP requests itself, rather than passing bytes on.
    fn speaks_http(&self) -> bool {
        matches!(self.0.scheme(), "http" | "https")
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.0.scheme())?;
        match self.0.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Certificates that are trusted beside the platform's.
#[derive(Clone, Default)]
pub struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// Takes the certificates of a PEM file.
    ///
    /// # Errors
    ///
    /// Says why there is none that can be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        let mut roots = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem) {
            let der = der.map_err(|_| "it is not a PEM file".to_owned())?;
            let number = roots.len() + 1;
            let unusable = |why: String| format!("certificate {number} in it is unusable: {why}");
            store
                .add(der.clone())
                .map_err(|error| unusable(error.to_string()))?;
            roots.push(der);
        }
        if roots.is_empty() {
            return Err("there is no certificate in it; PEM is wanted".to_owned());
        }
        Ok(Self(roots))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

/// The HTTP clients: one for everything, and where nothing lies in between one for uploads, which
/// have to be fast.
pub(super) fn build(
    endpoint: &Endpoint,
    transport: &Transport,
    connections: usize,
) -> Result<(reqwest::Client, Option<Direct>), String> {
    let tls = tls(endpoint, transport)?;
    let is_plain = endpoint.upload.scheme() == "http";
    let by_http = transport.proxy.as_ref().is_some_and(Proxy::speaks_http);
    let builder = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        // The watchdog alone says when nothing moves; the kernel's shorter patience, which
        // reqwest sets otherwise, would end an upload to a slow reader early.
        .tcp_user_timeout(None)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(connections);
    let mut negotiated = tls.clone();
    let builder = match transport.version {
        // Nobody negotiates without TLS; a proxy that is asked in HTTP/1.1 would not understand.
        HttpVersion::Two if is_plain && !by_http => builder.http2_prior_knowledge(),
        HttpVersion::Two if !is_plain => {
            negotiated.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            builder
        }
        HttpVersion::One | HttpVersion::Two => {
            negotiated.alpn_protocols = vec![b"http/1.1".to_vec()];
            builder.http1_only()
        }
    };
    let builder = builder.tls_backend_preconfigured(negotiated);
    let builder = match (&transport.proxy, endpoint.local) {
        (Some(proxy), _) => {
            let proxy = reqwest::Proxy::all(proxy.0.clone());
            builder.proxy(proxy.map_err(|error| super::cause(&error))?)
        }
        (None, Local::Loopback) => builder.no_proxy(),
        (None, Local::Elsewhere) => builder,
    };
    let client = builder.build().map_err(|error| super::cause(&error))?;
    let is_direct = transport.version == HttpVersion::One && !has_proxy(endpoint, transport);
    let direct = is_direct
        .then(|| Direct::new(&endpoint.upload, tls, connections))
        .transpose()?;
    Ok((client, direct))
}

/// Whether a proxy lies between, by the user's word or the environment's.
fn has_proxy(endpoint: &Endpoint, transport: &Transport) -> bool {
    match (&transport.proxy, endpoint.local) {
        (Some(_), _) => true,
        (None, Local::Loopback) => false,
        (None, Local::Elsewhere) => {
            let upload = endpoint.upload.as_str().parse();
            // As reqwest asks it.
            upload.map_or(true, |upload| {
                Matcher::from_system().intercept(&upload).is_some()
            })
        }
    }
}

/// Whom to trust.
fn tls(endpoint: &Endpoint, transport: &Transport) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let extra = || transport.roots.0.iter().cloned();
    let bundled = || {
        let mut store = RootCertStore::empty();
        let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned();
        store.add_parsable_certificates(bundled.chain(extra()));
        store
    };
    if endpoint.upload.scheme() == "http" && transport.proxy.is_none() {
        // Nobody is asked for a certificate, and to read all roots takes a while.
        let nobody = RootCertStore::empty();
        return Ok(builder.with_root_certificates(nobody).with_no_client_auth());
    }
    // Without a certificate store on the machine the platform's verifier cannot start: then the
    // bundled roots serve. With extra roots it would start all the same, and know no others.
    let verifier = Verifier::new(Arc::clone(&provider)).and_then(|verifier| {
        if transport.roots.0.is_empty() {
            Ok(verifier)
        } else {
            Verifier::new_with_extra_roots(extra(), provider)
        }
    });
    Ok(match verifier {
        Ok(verifier) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth(),
        Err(_) => builder
            .with_root_certificates(bundled())
            .with_no_client_auth(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_never_travels_unencrypted_to_a_proxy_elsewhere() {
        for (base, proxy, is_fine) in [
            ("http://localhost:8787", "http://192.0.2.2:9120", false),
            ("http://127.0.0.1:8787", "socks5://proxy", false),
            ("http://127.0.0.1:8787", "http://127.0.0.1:3128", true),
            ("http://127.0.0.1:8787", "http://localhost:3128", true),
            ("https://api.example.com", "http://192.0.2.2:9120", true),
        ] {
            let endpoint = Endpoint::parse(base).expect(base);
            let transport = Transport {
                proxy: Some(Proxy::parse(proxy).expect(proxy)),
                ..Transport::default()
            };
            let checked = transport.check(&endpoint);
            assert_eq!(checked.is_ok(), is_fine, "{base} by {proxy}: {checked:?}");
        }
    }

    #[test]
    fn a_proxy_is_shown_without_its_credentials() {
        for (text, shown) in [
            ("http://proxy:3128", "http://proxy:3128"),
            ("HTTP://proxy/", "http://proxy"),
            ("https://user:s3cret@proxy", "https://proxy"),
            ("socks5://user:s3cret@[::1]:1080", "socks5://[::1]:1080"),
            ("socks5h://s3cret@proxy:9", "socks5h://proxy:9"),
        ] {
            let proxy = Proxy::parse(text).expect(text);
            assert_eq!(proxy.to_string(), shown);
            assert!(!format!("{proxy:?}").contains("s3cret"));
        }
    }

    #[test]
    fn what_is_wrong_with_a_proxy_is_said_without_repeating_it() {
        for bad in [
            "",
            "proxy:3128",
            "s3cret@proxy",
            "ftp://user:s3cret@proxy",
            "socks4://s3cret@proxy",
            "http://user:s3cret@",
            "http://",
            "socks5://",
            "http://user:s3cret@proxy:port",
            "http://proxy/?s3cret",
            "http://proxy/s3cret",
        ] {
            let why = Proxy::parse(bad).expect_err(bad);
            assert!(!why.contains("s3cret"), "{bad}");
        }
    }

    #[test]
    fn only_certificates_in_pem_are_roots() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        for bad in ["", "no PEM", key, junk, torn] {
            assert!(Roots::from_pem(bad.as_bytes()).is_err(), "{bad}");
        }
        let authority = rcgen::generate_simple_self_signed(["here".to_owned()]).expect("a root");
        let twice = authority.cert.pem().repeat(2);
        let roots = Roots::from_pem(twice.as_bytes()).expect("roots");
        assert_eq!(format!("{roots:?}"), "Roots(2)");
    }
}
