//! The short way to the service for uploads: HTTP/1.1 with nothing in between.
//!
//! It is hyper's pool as reqwest uses it, without what reqwest does around it for each request
//! (parsing the address again, redirects, retries, headers of its own), which took as long as
//! sending a small file. Proxies and HTTP/2 are reqwest's.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reqwest::Url;
use reqwest::header::{ACCEPT, HOST, HeaderMap, HeaderValue, USER_AGENT};
use rustls::ClientConfig;
use tower_service::Service;

use super::Body;
use super::transport::{self, CONNECT_TIMEOUT, POOL_IDLE};

/// How often a connection that is silent is asked whether it is still there, as reqwest does it.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A pool of connections to one address. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Direct {
    pool: Client<Patient<HttpsConnector<HttpConnector>>, Body>,
    address: http::Uri,
    host: HeaderValue,
}

impl Direct {
    /// A pool for an address.
    ///
    /// # Errors
    ///
    /// The address is none that HTTP can be spoken to.
    pub(super) fn new(
        address: &Url,
        tls: ClientConfig,
        connections: usize,
    ) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // It is shared out among the addresses of a name: the next is tried where one is silent.
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(3));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(connections)
            .build(Patient(connector));
        let host = address.host_str().ok_or("there is no host in it")?;
        let host = match address.port() {
            Some(port) => Cow::Owned(format!("{host}:{port}")),
            None => Cow::Borrowed(host),
        };
        Ok(Self {
            pool,
            host: HeaderValue::from_str(&host).map_err(|error| error.to_string())?,
            address: address
                .as_str()
                .parse()
                .map_err(|error: http::uri::InvalidUri| error.to_string())?,
        })
    }

    /// Posts a body to the address.
    pub(super) fn post(
        &self,
        mut headers: HeaderMap,
        body: Body,
    ) -> impl Future<Output = Result<http::Response<Incoming>, legacy::Error>> + use<> {
        headers.insert(HOST, self.host.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(USER_AGENT, transport::USER_AGENT);
        let mut request = http::Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.address.clone();
        *request.headers_mut() = headers;
        self.pool.request(request)
    }
}

/// A connector whose whole work, TLS too, has its time.
#[derive(Debug, Clone)]
struct Patient<C>(C);

impl<C> Service<http::Uri> for Patient<C>
where
    C: Service<http::Uri>,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C::Future: Send + 'static,
    C::Response: Send,
{
    type Response = C::Response;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, address: http::Uri) -> Self::Future {
        let connected = self.0.call(address);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, connected).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(elapsed) => Err(elapsed.into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connects to nothing, and does not say so.
    #[derive(Clone)]
    struct Silent;

    impl Service<http::Uri> for Silent {
        type Response = ();
        type Error = std::convert::Infallible;
        type Future = std::future::Pending<Result<(), Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Uri) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_never_made_is_given_up() {
        let began = tokio::time::Instant::now();
        let connected = Patient(Silent).call(http::Uri::from_static("https://silent.example"));
        let error = connected.await.expect_err("nothing answered");
        assert!(error.is::<tokio::time::error::Elapsed>(), "{error}");
        assert!(began.elapsed() >= CONNECT_TIMEOUT, "it had its time");
    }
}
