//! The routes of the API beside uploading, and the answers they all share.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;

use serde_json::{Value, json};
use uuid::Uuid;

use super::faults::{Injector, Visit};
use super::http::{Answer, Body, Head, Payload, path_decode};
use super::store::{Store, StoredFile};
use super::upload::upload;
use super::{Counters, EmptyFiles, SandboxDataset};

/// The dataset of a file that names none.
pub const DEFAULT_DATASET_ID: &str = "00000000-0000-4000-8000-000000000000";

const USER_ID: &str = "00000000-0000-4000-8000-0000000000a1";
const ORGANIZATION_ID: &str = "00000000-0000-4000-8000-0000000000b1";
const CREATED_AT: &str = "2025-01-01T00:00:00.000000Z";
const PAGE_SIZE: usize = 50;
const PAGE_SIZE_MAX: usize = 1000;
const REQUEST_ID_CHARS_MAX: usize = 128;

/// What answers requests.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) store: Store,
    pub(super) counters: std::sync::Arc<Counters>,
    pub(super) empty_files: EmptyFiles,
    pub(super) faults: std::sync::Arc<Injector>,
    key: String,
    configured: BTreeMap<String, String>,
}

/// Where a path leads.
enum Route {
    Upload,
    CurrentUser,
    Datasets,
    Dataset(String),
    Files(String),
    Download(String),
}

impl Route {
    /// The route of a path with its trailing slash.
    fn of(path: &str) -> Option<Self> {
        let inner = path.strip_prefix("/v1/")?.strip_suffix('/')?;
        let parts: Vec<&str> = inner.split('/').collect();
        // Like Django's `<uuid:…>`: only the canonical form is a path.
        let id = |text: &str| {
            let id = Uuid::parse_str(text).ok()?.to_string();
            (id == text).then_some(id)
        };
        match parts.as_slice() {
            ["users", "current_user"] => Some(Self::CurrentUser),
            ["datasets"] => Some(Self::Datasets),
            ["datasets", "files", "upload"] => Some(Self::Upload),
            ["datasets", "files", file, "download"] => id(file).map(Self::Download),
            ["datasets", dataset] => id(dataset).map(Self::Dataset),
            ["datasets", dataset, "files"] => id(dataset).map(Self::Files),
            _ => None,
        }
    }
}

impl Api {
    pub(super) fn new(
        store: Store,
        counters: std::sync::Arc<Counters>,
        empty_files: EmptyFiles,
        faults: std::sync::Arc<Injector>,
        key: String,
        datasets: Vec<SandboxDataset>,
    ) -> Self {
        let mut configured: BTreeMap<String, String> =
            datasets.into_iter().map(|d| (d.id, d.name)).collect();
        configured
            .entry(DEFAULT_DATASET_ID.to_owned())
            .or_insert_with(|| "Default dataset".to_owned());
        Self {
            store,
            counters,
            empty_files,
            faults,
            key,
            configured,
        }
    }

    /// Answers a request, reading of its body only what the answer needs.
    pub(super) async fn answer(
        &self,
        head: &Head,
        body: &mut Body<'_>,
        request_id: &str,
        visit: &mut Visit<'_>,
    ) -> Answer {
        let path = path_decode(&head.path);
        let Some(route) = Route::of(&path) else {
            return no_route(head, &path);
        };
        if let Err(detail_text) = self.authenticate(head) {
            return detail(401, detail_text).with("WWW-Authenticate", "Bearer");
        }
        let is_upload = matches!(route, Route::Upload);
        let (allow, allowed) = if is_upload {
            ("POST, OPTIONS", head.method == "POST")
        } else {
            (
                "GET, HEAD, OPTIONS",
                matches!(head.method.as_str(), "GET" | "HEAD"),
            )
        };
        if !is_upload && let Err(instead) = visit.whole_body(body).await {
            return instead;
        }
        let answer = match route {
            _ if !allowed => {
                let text = format!("Method \"{}\" not allowed.", head.method);
                detail(405, &text)
            }
            Route::Upload => upload(self, head, body, request_id, visit).await,
            Route::CurrentUser => json(200, &user()),
            Route::Datasets => self.datasets(head),
            Route::Dataset(id) => match self.dataset(&id) {
                Some(dataset) => json(200, &dataset),
                None => detail(404, "No Dataset matches the given query."),
            },
            Route::Files(id) => self.files(head, &id),
            Route::Download(id) => self.download(&id),
        };
        if is_upload && (400..500).contains(&answer.status) {
            self.counters.refused();
        }
        answer.with("Allow", allow).with("Vary", "Accept")
    }

    fn authenticate(&self, head: &Head) -> Result<(), &'static str> {
        const MISSING: &str = "Authentication credentials were not provided.";
        let mut words = head
            .header("authorization")
            .unwrap_or_default()
            .split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(scheme), key, more) if scheme.eq_ignore_ascii_case("bearer") => {
                match (key, more) {
                    (None, _) => Err("Invalid token header. No credentials provided."),
                    (_, Some(_)) => {
                        Err("Invalid token header. Token string should not contain spaces.")
                    }
                    (Some(key), None) if key == self.key => Ok(()),
                    _ => Err("Invalid token."),
                }
            }
            _ => Err(MISSING),
        }
    }

    /// A dataset, when it is configured or has files.
    pub(super) fn dataset(&self, id: &str) -> Option<Value> {
        let name = if let Some(name) = self.configured.get(id) {
            name.clone()
        } else {
            let used = |files: &[StoredFile]| files.iter().any(|file| file.dataset_id == id);
            self.store.with_files(used).then(|| unnamed(id))?
        };
        Some(dataset(id, &name))
    }

    fn datasets(&self, head: &Head) -> Answer {
        let mut names = self.configured.clone();
        self.store.with_files(|files| {
            for file in files {
                if !names.contains_key(&file.dataset_id) {
                    names.insert(file.dataset_id.clone(), unnamed(&file.dataset_id));
                }
            }
        });
        let wanted = head.query("search").unwrap_or_default().to_lowercase();
        let found: Vec<_> = names
            .iter()
            .filter(|(_, name)| name.to_lowercase().contains(&wanted))
            .collect();
        paginate(head, &found, |(id, name)| dataset(id, name))
    }

    fn files(&self, head: &Head, dataset_id: &str) -> Answer {
        if self.dataset(dataset_id).is_none() {
            return detail(404, "No Dataset matches the given query.");
        }
        let wanted = head.query("search").unwrap_or_default().to_lowercase();
        self.store.with_files(|files| {
            let found: Vec<_> = files
                .iter()
                .filter(|file| file.dataset_id == dataset_id)
                .filter(|file| file.name.to_lowercase().contains(&wanted))
                .collect();
            paginate(head, &found, |file| {
                json!({
                    "id": file.id,
                    "name": file.name,
                    "size": file.size,
                    "hash": file.sha256,
                    "content_type": file.content_type,
                    "metadata": file.metadata,
                    "created_at": time(file.created_at),
                    "deleted_at": null,
                })
            })
        })
    }

    fn download(&self, id: &str) -> Answer {
        let find = |files: &[StoredFile]| files.iter().find(|file| file.id == id).cloned();
        let Some(stored) = self.store.with_files(find) else {
            return detail(404, "No DatasetFile matches the given query.");
        };
        let Ok(file) = File::open(&stored.path) else {
            return server_error();
        };
        let printable = stored
            .content_type
            .bytes()
            .all(|b| (b' '..=b'~').contains(&b));
        let content_type = match stored.content_type.as_str() {
            sent if !sent.is_empty() && printable => sent,
            _ => "application/octet-stream",
        };
        let payload = Payload::File {
            file,
            length: stored.size,
        };
        Answer {
            payload,
            ..Answer::new(200, content_type, Vec::new())
        }
        .with("Content-Disposition", attachment(&stored.name))
    }
}

/// Whether a request is an upload, as far as its head tells.
pub(super) fn is_upload(head: &Head) -> bool {
    let route = Route::of(&path_decode(&head.path));
    head.method == "POST" && matches!(route, Some(Route::Upload))
}

/// What Django answers for a path it does not know, or knows only with a slash at its end.
fn no_route(head: &Head, path: &str) -> Answer {
    if path.ends_with('/') || Route::of(&format!("{path}/")).is_none() {
        return page(
            404,
            "Not Found",
            "The requested resource was not found on this server.",
        );
    }
    let query = match head.query.as_str() {
        "" => String::new(),
        query => format!("?{query}"),
    };
    Answer::new(301, "text/html; charset=utf-8", Vec::new())
        .with("Location", format!("{}/{query}", head.path))
}

/// The request's own id as far as it can stand in a header and a log, else a new one.
pub(super) fn request_id(head: Option<&Head>) -> String {
    let sent = head.and_then(|head| head.header("x-request-id"));
    let clean: String = sent
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_graphic)
        .take(REQUEST_ID_CHARS_MAX)
        .collect();
    if clean.is_empty() {
        Uuid::now_v7().to_string()
    } else {
        clean
    }
}

/// An answer in JSON.
pub(super) fn json(status: u16, value: &Value) -> Answer {
    Answer::new(status, "application/json", value.to_string().into_bytes())
}

/// An answer that says one thing, as the framework's own errors do.
pub(super) fn detail(status: u16, text: &str) -> Answer {
    json(status, &json!({ "detail": text }))
}

/// What Django answers to a request it finds suspicious.
pub(super) fn bad_request() -> Answer {
    page(400, "Bad Request (400)", "")
}

/// What Django answers when the application fails.
pub(super) fn server_error() -> Answer {
    page(500, "Server Error (500)", "")
}

/// The page of an error that never reached the API's own error handling.
pub(super) fn page(status: u16, title: &str, text: &str) -> Answer {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><title>{title}</title></head>\n\
         <body><h1>{title}</h1><p>{text}</p></body>\n</html>\n"
    );
    Answer::new(status, "text/html; charset=utf-8", html.into_bytes())
}

/// The answer to an upload.
pub(super) fn uploaded(file: &StoredFile, dataset: &Value) -> Value {
    json!({
        "id": file.id,
        "dataset": dataset,
        "name": file.name,
        "size": file.size,
        "creator": user(),
        "created_at": time(file.created_at),
    })
}

fn dataset(id: &str, name: &str) -> Value {
    json!({ "id": id, "name": name, "creator": user(), "created_at": CREATED_AT })
}

fn unnamed(id: &str) -> String {
    format!("Dataset {id}")
}

fn user() -> Value {
    json!({
        "id": USER_ID,
        "email": "sandbox@localhost",
        "first_name": "Sandbox",
        "last_name": "User",
        "organization_id": ORGANIZATION_ID,
    })
}

fn time(timestamp: jiff::Timestamp) -> String {
    format!("{timestamp:.6}")
}

/// One page of a list, as `PageNumberPagination` shows it.
fn paginate<T>(head: &Head, items: &[T], show: impl Fn(&T) -> Value) -> Answer {
    let size = head
        .query("page_size")
        .and_then(|text| text.parse().ok())
        .filter(|size| *size > 0)
        .map_or(PAGE_SIZE, |size: usize| size.min(PAGE_SIZE_MAX));
    let last = items.len().div_ceil(size).max(1);
    let asked = head.query("page").unwrap_or_else(|| "1".to_owned());
    let page = match asked.as_str() {
        "last" => last,
        number => number.parse().unwrap_or(0),
    };
    if !(1..=last).contains(&page) {
        return detail(404, "Invalid page.");
    }
    let start = (page - 1) * size;
    let results: Vec<Value> = items.iter().skip(start).take(size).map(show).collect();
    let link = |page: usize| page_link(head, page);
    json(
        200,
        &json!({
            "count": items.len(),
            "next": (page < last).then(|| link(page + 1)),
            "previous": (page > 1).then(|| link(page - 1)),
            "results": results,
        }),
    )
}

/// The address of another page of the same list.
fn page_link(head: &Head, page: usize) -> String {
    let host = head.header("host").unwrap_or("localhost");
    let mut link = format!("http://{host}{}", head.path);
    let others = head
        .query
        .split('&')
        .filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("page"))
        .map(str::to_owned);
    // The first page goes by the bare address.
    let number = (page > 1).then(|| format!("page={page}"));
    for (at, pair) in number.into_iter().chain(others).enumerate() {
        link.push(if at == 0 { '?' } else { '&' });
        link.push_str(&pair);
    }
    link
}

/// A `Content-Disposition` that carries any name safely.
fn attachment(name: &str) -> String {
    let quotable = |byte: u8| (b' '..=b'~').contains(&byte);
    if name.bytes().all(quotable) {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("attachment; filename=\"{quoted}\"");
    }
    let mut encoded = String::with_capacity(name.len() * 3);
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    format!("attachment; filename*=utf-8''{encoded}")
}
