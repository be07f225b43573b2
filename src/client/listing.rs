//! A dataset's files as the service lists them: read leniently, bounded, one page at a time.

use std::fmt::Write as _;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::{Map, Value};

use super::Client;
use super::answer::{self, Answer};
use super::verdict::describe;
use crate::model::{
    DatasetId, Digest, FileId, Metadata, OrganizationId, TAG_KEY, canonical_id, shown_bounded,
};

/// Where datasets are listed, and below which each of them is.
const DATASETS_PATH: &str = "/v1/datasets/";

/// Longest page that is read, in MiB: 100 entries with their metadata.
const PAGE_MIB_MAX: usize = 8;

/// Entries asked for at a time.
const PAGE_SIZE: u32 = 100;

/// Most characters that are kept of a hash.
const HASH_CHARS_MAX: usize = 256;

/// One file as the listing shows it. What is missing, null or of another type is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: FileId,
    /// Its name, of 1,024 characters at most.
    pub name: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its hash as written there; nobody says by which algorithm.
    pub hash: Option<String>,
    /// What its metadata says of the attempt that sent it.
    pub mark: Mark,
    /// The digest of its metadata without that, where all of it is shown.
    pub metadata: Option<Digest>,
    /// When it was stored, by the clock there.
    pub created_at: Option<Timestamp>,
    /// Whether it is still there.
    pub presence: Presence,
}

/// What a listed file's metadata has under [`TAG_KEY`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// The metadata is not shown, or not in a form that can be read.
    Unshown,
    /// The metadata is shown, without the key.
    Absent,
    /// The key's value.
    Attempt(String),
}

/// Whether a listed file is still stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Live,
    /// It was deleted.
    Deleted,
}

/// Whether there is another page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// There is.
    Yes,
    /// This was the last.
    No,
    /// The page does not say.
    Unsaid,
}

/// One dataset as the listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDataset {
    /// Its id.
    pub id: DatasetId,
    /// Its name, of 1,024 characters at most.
    pub name: Option<String>,
    /// Whether it is still there.
    pub presence: Presence,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T = Listed> {
    /// Its entries.
    pub entries: Vec<T>,
    /// Entries without a readable id.
    pub unreadable: usize,
    /// Entries on all pages, where the service says so.
    pub count: Option<u64>,
    /// Whether another page follows.
    pub more: More,
    /// The service's clock when it answered.
    pub server_time: Option<Timestamp>,
}

/// Why a page of a listing was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// There is no such listing: the endpoint or the dataset is unknown, or what answers there is
    /// no listing.
    #[error("{0}")]
    Absent(String),
    /// The service does not accept the key.
    #[error("{0}")]
    Unauthenticated(String),
    /// The key may not read it.
    #[error("{0}")]
    Refused(String),
    /// It may work another time.
    #[error("{0}")]
    Unreadable(String),
}

impl Client {
    /// Reads one page of a dataset's files, of up to 100; the first is 1. With `search`, only
    /// files that the service finds by it: for all that is known, those whose names contain it.
    ///
    /// # Errors
    ///
    /// Why there is no such page. Nothing is tried again here.
    pub async fn list(
        &self,
        dataset: &DatasetId,
        search: Option<&str>,
        page: u32,
    ) -> Result<Page, ListError> {
        let mut url = self.url(&format!("{}files/", dataset_path(dataset)?));
        ask_for(&mut url, search, page);
        self.page(url, page, listed).await
    }

    /// Reads one page of the datasets that the key may see, of up to 100; the first is 1. With
    /// `search`, only those that the service finds by it; with an organization, those of it, where
    /// the service knows the parameter.
    ///
    /// # Errors
    ///
    /// Why there is no such page. Nothing is tried again here.
    pub async fn datasets(
        &self,
        search: Option<&str>,
        organization: Option<&OrganizationId>,
        page: u32,
    ) -> Result<Page<ListedDataset>, ListError> {
        let mut url = self.url(DATASETS_PATH);
        ask_of(&mut url, organization);
        ask_for(&mut url, search, page);
        self.page(url, page, listed_dataset).await
    }

    async fn page<T>(
        &self,
        url: Url,
        page: u32,
        entry: fn(&Value) -> Option<T>,
    ) -> Result<Page<T>, ListError> {
        let answered = self.get(url, PAGE_MIB_MAX).await;
        let (answer, server_time) =
            answered.map_err(|broken| ListError::Unreadable(broken.text().to_owned()))?;
        // The key may have been escaped in the answer, where it was not found.
        page_of(&answer, page, server_time, entry).map_err(|error| match error {
            ListError::Absent(why) => ListError::Absent(self.without_key(&why)),
            ListError::Unauthenticated(why) => ListError::Unauthenticated(self.without_key(&why)),
            ListError::Refused(why) => ListError::Refused(self.without_key(&why)),
            ListError::Unreadable(why) => ListError::Unreadable(self.without_key(&why)),
        })
    }
}

/// The path of a dataset, with a slash at its end.
pub(super) fn dataset_path(dataset: &DatasetId) -> Result<String, ListError> {
    let id = dataset.as_str();
    // These are no path segments, however they are encoded (URL Standard, "double-dot").
    if let "" | "." | ".." = id {
        return Err(ListError::Absent(format!(
            "\"{dataset}\" cannot be a dataset's id"
        )));
    }
    let mut path = DATASETS_PATH.to_owned();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path.push('/');
    Ok(path)
}

/// Names the organization that is asked about, as the SDKs do.
pub(super) fn ask_of(url: &mut Url, organization: Option<&OrganizationId>) {
    if let Some(organization) = organization {
        url.query_pairs_mut()
            .append_pair("organization_id", organization.as_str());
    }
}

fn ask_for(url: &mut Url, search: Option<&str>, page: u32) {
    let mut query = url.query_pairs_mut();
    if let Some(search) = search {
        query.append_pair("search", search);
    }
    query
        .append_pair("page", &page.to_string())
        .append_pair("page_size", &PAGE_SIZE.to_string());
}

/// What an answer to the request for a page means.
fn page_of<T>(
    answer: &Answer,
    page: u32,
    server_time: Option<Timestamp>,
    entry: fn(&Value) -> Option<T>,
) -> Result<Page<T>, ListError> {
    match answer.status {
        200 if answer.cut.is_some() => Err(ListError::Unreadable(describe_short(answer))),
        200 => parse(&answer.body, server_time, entry).ok_or_else(|| {
            ListError::Absent("the answer to the request for it is no listing".to_owned())
        }),
        401 => Err(ListError::Unauthenticated(describe(answer))),
        402 | 403 => Err(ListError::Refused(describe(answer))),
        // The listing shrank since the page before.
        404 if page > 1 => Err(ListError::Unreadable(describe(answer))),
        404 | 405 | 410 | 501 => Err(ListError::Absent(describe(answer))),
        300..=399 => Err(ListError::Absent(match &answer.location {
            Some(to) => format!("{}: redirected to {}", describe(answer), shown_bounded(to)),
            None => format!("{}: redirected", describe(answer)),
        })),
        201..=299 => Err(ListError::Absent(format!(
            "{}, which is no listing",
            describe(answer)
        ))),
        _ => Err(ListError::Unreadable(describe(answer))),
    }
}

/// A cut answer without the half of a listing that came.
fn describe_short(answer: &Answer) -> String {
    let cut = answer.cut.as_deref().unwrap_or_default();
    format!("HTTP {} ({cut})", answer.status)
}

/// None where the body is not a page of a listing.
fn parse<T>(
    body: &[u8],
    server_time: Option<Timestamp>,
    entry: fn(&Value) -> Option<T>,
) -> Option<Page<T>> {
    let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let results = fields.get("results")?.as_array()?;
    let entries: Vec<T> = results.iter().filter_map(entry).collect();
    Some(Page {
        unreadable: results.len() - entries.len(),
        entries,
        count: fields.get("count").and_then(Value::as_u64),
        more: match fields.get("next") {
            None => More::Unsaid,
            Some(Value::Null) => More::No,
            Some(_) => More::Yes,
        },
        server_time,
    })
}

fn listed(value: &Value) -> Option<Listed> {
    let field = |name: &str| value.get(name);
    let metadata = field("metadata").and_then(object);
    Some(Listed {
        id: FileId::new(answer::id(field("id")?)?),
        name: field("name").and_then(answer::text),
        size: field("size").and_then(Value::as_u64),
        hash: field("hash").and_then(Value::as_str).and_then(|text| {
            let text = text.trim();
            (!text.is_empty() && text.len() <= HASH_CHARS_MAX).then(|| text.to_owned())
        }),
        mark: metadata.as_ref().map_or(Mark::Unshown, mark),
        metadata: metadata.and_then(|mut fields| {
            fields.shift_remove(TAG_KEY);
            Metadata::from_fields(fields).map(|metadata| metadata.digest())
        }),
        created_at: field("created_at")
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok()),
        presence: presence(value),
    })
}

fn listed_dataset(value: &Value) -> Option<ListedDataset> {
    let id = canonical_id(&answer::id(value.get("id")?)?)?;
    Some(ListedDataset {
        id: DatasetId::new(id),
        name: value.get("name").and_then(answer::text),
        presence: presence(value),
    })
}

fn presence(value: &Value) -> Presence {
    match value.get("deleted_at") {
        None | Some(Value::Null | Value::Bool(false)) => Presence::Live,
        Some(Value::String(text)) if text.trim().is_empty() => Presence::Live,
        Some(_) => Presence::Deleted,
    }
}

/// Metadata is uploaded as a text that holds an object, so it may be shown as either.
fn object(metadata: &Value) -> Option<Map<String, Value>> {
    match metadata {
        Value::Object(fields) => Some(fields.clone()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    }
}

fn mark(fields: &Map<String, Value>) -> Mark {
    match fields.get(TAG_KEY) {
        None => Mark::Absent,
        Some(value) => answer::id(value).map_or(Mark::Unshown, Mark::Attempt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(dataset: &str, search: Option<&str>) -> Result<String, ListError> {
        let path = dataset_path(&DatasetId::new(dataset))?;
        let mut url = Url::parse("https://h/").expect("a URL");
        url.set_path(&format!("/base{path}files/"));
        ask_for(&mut url, search, 2);
        Ok(url.to_string())
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            body: body.as_bytes().to_vec(),
            ..Answer::default()
        }
    }

    fn one(entry: &str) -> Listed {
        let body = format!(r#"{{"results": [{entry}], "next": null}}"#);
        let mut page = parse(body.as_bytes(), None, listed).expect(entry);
        assert_eq!(page.unreadable, 0, "{entry}");
        page.entries.pop().expect(entry)
    }

    #[test]
    fn a_dataset_id_stays_one_segment_whatever_is_in_it() {
        assert_eq!(
            url("3f2b7a52-0000", Some("a b&c=d\"é#")).as_deref(),
            Ok(
                "https://h/base/v1/datasets/3f2b7a52-0000/files/?search=a+b%26c%3Dd%22%C3%A9%23&\
                 page=2&page_size=100"
            )
        );
        for (hostile, encoded) in [
            ("../files/upload", "..%2Ffiles%2Fupload"),
            ("a/b?c#d", "a%2Fb%3Fc%23d"),
            ("a\nb\\c\0", "a%0Ab%5Cc%00"),
            ("%2e%2e", "%252e%252e"),
            ("é", "%C3%A9"),
            ("...", "..."),
        ] {
            assert_eq!(
                url(hostile, None),
                Ok(format!(
                    "https://h/base/v1/datasets/{encoded}/files/?page=2&page_size=100"
                )),
                "{hostile:?}"
            );
        }
        for none in ["", ".", ".."] {
            assert!(matches!(url(none, None), Err(ListError::Absent(_))));
        }
    }

    #[test]
    fn every_answer_is_a_page_or_says_whether_asking_again_may_help() {
        let word =
            |status, body: &str, page| match page_of(&answer(status, body), page, None, listed) {
                Ok(_) => "page",
                Err(ListError::Absent(_)) => "absent",
                Err(ListError::Unauthenticated(_)) => "unauthenticated",
                Err(ListError::Refused(_)) => "refused",
                Err(ListError::Unreadable(_)) => "unreadable",
            };
        let page = r#"{"count": 0, "next": null, "previous": null, "results": []}"#;
        for (status, body, number, expected) in [
            (200, page, 1, "page"),
            (200, r#"{"results": [1, {}, {"id": " "}]}"#, 1, "page"),
            (200, "", 1, "absent"),
            (200, "<html><title>Log in</title>", 1, "absent"),
            (200, "[]", 1, "absent"),
            (200, r#"{"results": {"a": 1}}"#, 1, "absent"),
            (200, r#"{"detail": "moved"}"#, 1, "absent"),
            (204, "", 1, "absent"),
            (206, page, 1, "absent"),
            (302, "", 1, "absent"),
            (400, "{}", 1, "unreadable"),
            (401, "{}", 1, "unauthenticated"),
            (402, "{}", 1, "refused"),
            (403, "{}", 1, "refused"),
            (404, "{}", 1, "absent"),
            (404, r#"{"detail": "Invalid page."}"#, 2, "unreadable"),
            (405, "{}", 1, "absent"),
            (408, "{}", 1, "unreadable"),
            (410, "{}", 1, "absent"),
            (429, "{}", 1, "unreadable"),
            (500, "<h1>x", 1, "unreadable"),
            (501, "", 1, "absent"),
            (503, "", 1, "unreadable"),
        ] {
            assert_eq!(word(status, body, number), expected, "{status} {body}");
        }
        let cut = Answer {
            cut: Some("the answer stalled".to_owned()),
            ..answer(200, page)
        };
        assert!(matches!(
            page_of(&cut, 1, None, listed),
            Err(ListError::Unreadable(_))
        ));
    }

    #[test]
    fn an_entry_is_read_leniently_but_never_invented() {
        let full = one(
            r#"{"id": "f", "name": "a.txt", "size": 3, "hash": " AB ", "content_type": null,
                "metadata": {"roe_batch_key": "k", "x": [1]}, "deleted_at": null,
                "created_at": "2025-01-02T03:04:05.000006Z", "more": {}}"#,
        );
        assert_eq!(full.hash.as_deref(), Some("AB"));
        assert_eq!(full.mark, Mark::Attempt("k".to_owned()));
        assert_eq!(full.presence, Presence::Live);
        assert_eq!(
            full.created_at.map(|at| at.to_string()).as_deref(),
            Some("2025-01-02T03:04:05.000006Z")
        );
        let bare = one(r#"{"id": 7}"#);
        assert_eq!(
            bare,
            Listed {
                id: FileId::new("7"),
                name: None,
                size: None,
                hash: None,
                mark: Mark::Unshown,
                metadata: None,
                created_at: None,
                presence: Presence::Live,
            }
        );
        let odd = one(
            r#"{"id": "f", "name": 1, "size": -1, "hash": {}, "metadata": [], "created_at": 5,
                "deleted_at": 1700000000}"#,
        );
        assert_eq!(
            odd,
            Listed {
                id: FileId::new("f"),
                presence: Presence::Deleted,
                ..bare
            }
        );
        // Without a zone it is no point in time.
        let local = one(r#"{"id": "f", "created_at": "2025-01-02T03:04:05"}"#);
        assert_eq!(local.created_at, None);
    }

    #[test]
    fn a_mark_is_read_from_an_object_or_a_text_that_holds_one() {
        for (metadata, expected) in [
            ("null", Mark::Unshown),
            ("\"\"", Mark::Unshown),
            ("\"[]\"", Mark::Unshown),
            ("{}", Mark::Absent),
            (r#""{\"a\": 1}""#, Mark::Absent),
            (r#"{"roe_batch_key": "x"}"#, Mark::Attempt("x".to_owned())),
            (
                r#""{\"roe_batch_key\": \"x\"}""#,
                Mark::Attempt("x".to_owned()),
            ),
            (r#"{"roe_batch_key": null}"#, Mark::Unshown),
            (r#"{"roe_batch_key": {}}"#, Mark::Unshown),
        ] {
            let entry = one(&format!(r#"{{"id": "f", "metadata": {metadata}}}"#));
            assert_eq!(entry.mark, expected, "{metadata}");
        }
    }

    #[test]
    fn metadata_is_compared_only_where_all_of_it_is_shown_as_texts() {
        let sent = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            Some(Metadata::open(pairs).digest())
        };
        for (metadata, expected) in [
            ("null", None),
            ("[]", None),
            (r#"{"a": 1}"#, None),
            ("{}", sent(&[])),
            (r#"{"b": "2", "a": "1"}"#, sent(&[("a", "1"), ("b", "2")])),
            (r#""{\"a\": \"1\"}""#, sent(&[("a", "1")])),
            (r#"{"roe_batch_key": "x", "a": "1"}"#, sent(&[("a", "1")])),
        ] {
            let entry = one(&format!(r#"{{"id": "f", "metadata": {metadata}}}"#));
            assert_eq!(entry.metadata, expected, "{metadata}");
        }
    }

    #[test]
    fn entries_without_an_id_are_counted() {
        let page = parse(
            br#"{"count": 4, "next": "http://evil/", "results": [{"id": "a"}, {}, null, "b"]}"#,
            None,
            listed,
        )
        .expect("a page");
        assert_eq!((page.entries.len(), page.unreadable), (1, 3));
        assert_eq!((page.count, page.more), (Some(4), More::Yes));
        let unsaid = parse(br#"{"results": []}"#, None, listed).expect("a page");
        assert_eq!((unsaid.count, unsaid.more), (None, More::Unsaid));
    }

    #[test]
    fn a_dataset_is_read_leniently() {
        let of = |text: &str| listed_dataset(&serde_json::from_str(text).expect(text));
        let id = "3F2B7A52-0000-4000-8000-000000000001";
        let full = of(&format!(
            r#"{{"id": "{id}", "name": "n", "creator": {{}}}}"#
        ));
        let full = full.expect("a dataset");
        assert_eq!(full.id.as_str(), id.to_lowercase());
        assert_eq!(full.name.as_deref(), Some("n"));
        assert_eq!(full.presence, Presence::Live);
        let odd = of(r#"{"id": 7, "name": [], "deleted_at": "2025-01-01"}"#).expect("a dataset");
        assert_eq!((odd.id.as_str(), odd.name), ("7", None));
        assert_eq!(odd.presence, Presence::Deleted);
        for none in ["null", "{}", r#"{"id": null}"#, r#"{"id": "a\nb"}"#] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
