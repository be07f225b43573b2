//! One attempt: encode, send, read the answer, judge it. The only room that knows HTTP.

mod answer;
mod body;
mod direct;
mod listing;
mod multipart;
mod post;
mod preflight;
mod transport;
mod verdict;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::Url;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue,
    LOCATION, RETRY_AFTER,
};

use crate::model::{ApiKey, AttemptId, Delivery, Origin};

pub use self::answer::{Answer, Break, Ending, Receipt};
pub use self::body::{Body, Feeder, HungUp, Progress};
use self::direct::Direct;
pub use self::listing::{ListError, Listed, ListedDataset, Mark, More, Page, Presence};
pub use self::multipart::{Envelope, Form};
pub use self::post::{Plain, Receiver, headers};
pub use self::preflight::{Examined, Preflight};
pub use self::transport::{Proxy, Roots, Transport};
pub use self::verdict::{Pause, Reach, Retry, RetryLimit, Stop, Verdict, verdict};

/// The upload endpoint. Its trailing slash matters: without it Django redirects.
const UPLOAD_PATH: &str = "/v1/datasets/files/upload/";

/// The header that names the attempt, for the service's own logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest answer to an upload that is read, in MiB.
const ANSWER_MIB_MAX: usize = 1;

/// Where the API is: `https`, or `http` on this machine only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    upload: Url,
    local: Local,
}

/// Whether an endpoint is on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Local {
    Loopback,
    Elsewhere,
}

impl Local {
    fn of(host: &str) -> Self {
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if address.is_loopback() => Self::Loopback,
            Err(_) if host.eq_ignore_ascii_case("localhost") => Self::Loopback,
            _ => Self::Elsewhere,
        }
    }
}

impl Endpoint {
    /// Takes a base URL, such as `https://api.roe-ai.com`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the URL: not one, neither https nor loopback, with credentials, a
    /// query or a fragment.
    pub fn parse(base: &str) -> Result<Self, String> {
        let url = Url::parse(base.trim()).map_err(|error| error.to_string())?;
        let host = url.host_str().ok_or("it has no host")?;
        let local = Local::of(host);
        match (url.scheme(), local) {
            ("https", _) | ("http", Local::Loopback) => {}
            ("http", Local::Elsewhere) => {
                return Err("the key would travel unencrypted; use https".to_owned());
            }
            _ => return Err("it is not an https address".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it has credentials in it; use ROE_API_KEY".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it has a query or a fragment".to_owned());
        }
        let path = format!("{}{UPLOAD_PATH}", url.path().trim_end_matches('/'));
        let mut upload = url;
        upload.set_path(&path);
        Ok(Self { upload, local })
    }

    /// Scheme, host and port, and the path where the base URL has one: what the ledger binds
    /// files to.
    #[must_use]
    pub fn origin(&self) -> Origin {
        let base = self.upload.as_str();
        Origin::new(base.strip_suffix(UPLOAD_PATH).unwrap_or(base))
    }
}

/// What a client needs to know.
#[derive(Debug)]
pub struct Settings {
    /// Where the API is.
    pub endpoint: Endpoint,
    /// The key.
    pub key: ApiKey,
    /// How long nothing may move before an attempt is given up.
    pub stall: Duration,
    /// Connections kept for reuse.
    pub connections: usize,
    /// What lies in between.
    pub transport: Transport,
}

/// Headers that a request has in the end, so that its map need not grow.
const HEADERS: usize = 8;

/// Sends attempts. Cheap to clone; connections are shared.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    direct: Option<Direct>,
    upload: Url,
    key: ApiKey,
    authorization: HeaderValue,
    stall: Duration,
    round_trip: RoundTrip,
    proxy: Option<Proxy>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.upload)
    }
}

impl Client {
    /// Makes a client that follows no redirect and repeats nothing by itself.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let (http, direct) = transport::build(
            &settings.endpoint,
            &settings.transport,
            settings.connections,
        )?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", settings.key.expose()))
            .map_err(|_| "the API key does not fit a header".to_owned())?;
        authorization.set_sensitive(true);
        Ok(Self {
            http,
            direct,
            upload: settings.endpoint.upload.clone(),
            key: settings.key.clone(),
            authorization,
            stall: settings.stall,
            round_trip: RoundTrip::default(),
            proxy: settings.transport.proxy.clone(),
        })
    }

    /// The shortest time from a request to its answer's head that a preflight has seen.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.shortest()
    }

    /// Makes one attempt. The body's progress tells how much was delivered when it ended.
    pub async fn send(
        &self,
        envelope_type: &str,
        attempt: &AttemptId,
        body: Body,
        progress: &Progress,
    ) -> (Delivery, Ending) {
        let mut headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(AUTHORIZATION, self.authorization.clone());
        for (name, value) in [
            (CONTENT_TYPE, envelope_type),
            (REQUEST_ID, attempt.as_str()),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        let request = async {
            if let Some(direct) = &self.direct {
                let response = direct.post(headers, body).await;
                return response
                    .map(|response| response.map(Incoming::Direct))
                    .map_err(|error| self.broken(&error, error.is_connect()));
            }
            let request = self.http.post(self.upload.clone()).headers(headers);
            let body = reqwest::Body::wrap(body);
            // Seldom taken, and large: every request would be moved about with room for it.
            let sending = Box::pin(request.body(body).send());
            self.answered(sending.await)
        };
        let response = tokio::select! {
            biased;
            response = request => response,
            () = stalled(progress, self.stall) => {
                return (progress.cut_off(), Ending::Broken(self.stall_text()));
            }
        };
        // What the server had seen when it answered; what is withheld by now never leaves, also
        // while the answer is being read.
        let delivery = progress.cut_off();
        match response {
            Ok(response) => {
                let answer = self.read(response, progress, ANSWER_MIB_MAX).await;
                (delivery, Ending::Answered(answer))
            }
            Err(broken) => (delivery, Ending::Broken(broken)),
        }
    }

    /// Reads what there is at an address, up to so many MiB; with it comes the service's clock.
    /// Nothing is tried again.
    async fn get(&self, url: Url, mib_max: usize) -> Result<(Answer, Option<Timestamp>), Break> {
        let progress = Progress::default();
        let request = self
            .http
            .get(url)
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, "application/json")
            .header(CACHE_CONTROL, "no-cache")
            .send();
        let response = tokio::select! {
            response = request => response,
            () = stalled(&progress, self.stall) => return Err(self.stall_text()),
        };
        let response = self.answered(response)?;
        let server_time = response
            .headers()
            .get(DATE)
            .and_then(|value| http_date(value.to_str().ok()?));
        let answer = self.read(response, &progress, mib_max).await;
        Ok((answer, server_time))
    }

    /// The address of a path of the API, with a query where one is given.
    fn url(&self, path: &str) -> Url {
        let mut url = self.upload.clone();
        let base = url.path();
        let base = base.strip_suffix(UPLOAD_PATH).unwrap_or(base);
        let path = format!("{base}{path}");
        url.set_path(&path);
        url
    }

    /// What reqwest says, as it is read.
    fn answered(
        &self,
        response: reqwest::Result<reqwest::Response>,
    ) -> Result<http::Response<Incoming>, Break> {
        match response {
            Ok(response) => Ok(http::Response::from(response).map(Incoming::Other)),
            Err(error) => Err(self.broken(&error, error.is_connect())),
        }
    }

    async fn read(
        &self,
        mut response: http::Response<Incoming>,
        progress: &Progress,
        mib_max: usize,
    ) -> Answer {
        let header = |name| {
            let value = response.headers().get(name)?;
            Some(self.without_key(&String::from_utf8_lossy(value.as_bytes())))
        };
        let mut answer = Answer {
            status: response.status().as_u16(),
            retry_after: header(RETRY_AFTER),
            location: header(LOCATION),
            body: Vec::new(),
            cut: None,
        };
        let patience = tokio::time::sleep(self.stall.saturating_mul(4));
        tokio::pin!(patience);
        loop {
            let chunk = tokio::select! {
                // What is there already needs no watch.
                biased;
                chunk = response.body_mut().chunk() => chunk,
                () = &mut patience => {
                    answer.cut = Some("the answer takes too long".to_owned());
                    break;
                }
                () = stalled(progress, self.stall) => {
                    answer.cut = Some("the answer stalled".to_owned());
                    break;
                }
            };
            match chunk {
                Ok(Some(chunk)) if answer.body.len() + chunk.len() <= mib_max * 1024 * 1024 => {
                    progress.tick();
                    answer.body.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => {
                    answer.cut = Some(format!("the answer is longer than {mib_max} MiB"));
                    break;
                }
                Ok(None) => break,
                Err(why) => {
                    answer.cut = Some(format!("the answer broke off: {why}"));
                    break;
                }
            }
        }
        // Checked first, which is the quicker way for what nearly always is text.
        let text = match str::from_utf8(&answer.body) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(&answer.body),
        };
        if text.contains(self.key.expose()) {
            answer.body = self.without_key(&text).into_bytes();
        }
        answer
    }

    /// A server may repeat the key in what it says, and what it says is shown.
    fn without_key(&self, text: &str) -> String {
        text.replace(self.key.expose(), "[the API key]")
    }

    /// Why no answer came; where a proxy was named, it may be the proxy that cannot be reached.
    fn broken(&self, error: &(dyn Error + 'static), is_connect: bool) -> Break {
        match (classify(error, is_connect), &self.proxy) {
            (Break::Connect(text), Some(proxy)) => {
                Break::Connect(format!("{text}, by the proxy {proxy}"))
            }
            (other, _) => other,
        }
    }

    fn stall_text(&self) -> Break {
        Break::Stall(format!("nothing moved for {} s", self.stall.as_secs_f64()))
    }
}

/// The body of an answer, on its way.
enum Incoming {
    Direct(hyper::body::Incoming),
    Other(reqwest::Body),
}

impl Incoming {
    /// The next bytes; none at the end. Or why there are no more, in words.
    async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let frame = match self {
                Self::Direct(body) => next_frame(body).await,
                Self::Other(body) => next_frame(body).await,
            };
            match frame {
                None => return Ok(None),
                Some(Err(why)) => return Err(why),
                // What is no data is of no interest.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

async fn next_frame<B>(body: &mut B) -> Option<Result<Frame<Bytes>, String>>
where
    B: http_body::Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
    Some(frame.map_err(|error| cause(&error)))
}

/// The shortest time of an exchange, in nanoseconds; clones share it.
#[derive(Debug, Clone)]
struct RoundTrip(Arc<AtomicU64>);

impl Default for RoundTrip {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl RoundTrip {
    fn saw(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1);
        self.0.fetch_min(nanos, Ordering::Relaxed);
    }

    fn shortest(&self) -> Option<Duration> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
    }
}

/// HTTP's date (RFC 9110 section 5.6.7): IMF-fixdate is RFC 2822's with the zone spelled GMT.
fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// Returns once the progress has not moved for the limit; looks eight times in between.
async fn stalled(progress: &Progress, limit: Duration) {
    let mut before = progress.ticks();
    let mut still = 0;
    while still < 8 {
        tokio::time::sleep(limit / 8).await;
        let now = progress.ticks();
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
}

fn classify(error: &(dyn Error + 'static), is_connect: bool) -> Break {
    let text = cause(error);
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return Break::Tls(format!("TLS refused: {text}"));
        }
        if error.downcast_ref().is_some_and(is_foreign) {
            return Break::Foreign(format!("what answers does not speak HTTP/2: {text}"));
        }
        if error.downcast_ref().is_some_and(is_refusal) {
            return Break::Refused(format!("the service did not take the request up: {text}"));
        }
        // An I/O error passes its inner error over when it is asked for its source.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref());
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    if is_connect {
        Break::Connect(format!("cannot connect: {text}"))
    } else {
        Break::Lost(format!("the connection was lost: {text}"))
    }
}

/// Whether an HTTP/2 error says that the request was not processed at all: `REFUSED_STREAM`, or a
/// graceful end of the connection before the request (RFC 9113 section 8.7). Another `GOAWAY` says
/// so too, but comes from a server in trouble, whose word is not taken for a file's fate.
fn is_refusal(error: &h2::Error) -> bool {
    // That is what h2 gives the streams behind the last one that a `GOAWAY` names, and no others.
    let is_farewell = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (is_farewell || is_refused)
}

/// Whether what came over a connection was no HTTP/2.
fn is_foreign(error: &h2::Error) -> bool {
    let reason = error.reason();
    let is_broken = [h2::Reason::FRAME_SIZE_ERROR, h2::Reason::PROTOCOL_ERROR];
    error.is_library() && error.is_go_away() && reason.is_some_and(|r| is_broken.contains(&r))
}

/// The innermost cause, which is the one that says something, without the URL (which the user
/// knows, and which a proxy may have filled with credentials).
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = None;
    let mut next = error.source();
    while let Some(error) = next {
        innermost = Some(error.to_string());
        next = error.source();
    }
    crate::model::shown_bounded(innermost.as_deref().unwrap_or("the request failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_this_machine_is_an_endpoint() {
        for good in [
            "https://api.roe-ai.com",
            "https://api.roe-ai.com/",
            "http://127.0.0.1:8787",
            "http://localhost:1",
            "http://[::1]:1",
        ] {
            assert!(Endpoint::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "api.roe-ai.com",
            "http://api.roe-ai.com",
            "http://127.0.0.1.example.com",
            "ftp://127.0.0.1",
            "https://user:pw@api.roe-ai.com",
            "https://api.roe-ai.com?x=1",
            "https://api.roe-ai.com/#x",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_origin_is_one_however_the_base_is_written() {
        let origin = |base: &str| Endpoint::parse(base).expect(base).origin();
        assert_eq!(
            origin("https://API.roe-ai.com:443/").as_str(),
            "https://api.roe-ai.com"
        );
        assert_eq!(
            origin("http://127.0.0.1:8787").as_str(),
            "http://127.0.0.1:8787"
        );
        assert_eq!(origin("https://h/roe/").as_str(), "https://h/roe");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_bites_only_when_nothing_moves() {
        let progress = Progress::default();
        let limit = Duration::from_secs(80);
        let begun = tokio::time::Instant::now();
        let mover = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                progress.tick();
            }
        };
        tokio::join!(mover, stalled(&progress, limit));
        let waited = begun.elapsed().as_secs();
        assert!((1080..=1090).contains(&waited), "{waited}");
    }

    #[test]
    fn the_services_clock_is_read() {
        let at = http_date("Sun, 06 Nov 1994 08:49:37 GMT").map(|at| at.to_string());
        assert_eq!(at.as_deref(), Some("1994-11-06T08:49:37Z"));
        assert_eq!(http_date("yesterday"), None);
    }
}
