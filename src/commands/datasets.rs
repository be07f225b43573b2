//! Datasets that a manifest names: looked up in the service's listing before the plan is made.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::run::runtime;
use super::service::{self, Place};
use crate::cli::Access;
use crate::client::{Client, ListError, ListedDataset, More, Page, Presence};
use crate::diagnostic::Diagnostic;
use crate::error::{Exit, Failure};
use crate::manifest::{DatasetName, Manifest};
use crate::model::{ApiKey, DatasetId, OrganizationId, closest, count, shown_bounded};

/// Pages of 100 that are read in search of one name.
const PAGES_MAX: u32 = 50;

/// Datasets that are kept of a listing, however long a service makes its pages.
const DATASETS_MAX: usize = 10_000;

/// How often a page is asked for.
const TRIES_MAX: u32 = 3;

/// The wait after a first try; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Names that are suggested, and ids that are listed.
const SHOWN: usize = 5;

/// What a name stands for at the service.
enum Found {
    One(DatasetId),
    Several(Vec<DatasetId>),
    /// None; these are there.
    None(Vec<String>),
}

/// Whether a listing was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    Cut,
}

/// The first of a manifest's datasets that only a listing can find.
pub(super) fn first_named(manifest: &Manifest) -> Option<&DatasetName> {
    manifest.rules.iter().find_map(|rule| rule.dataset.as_ref())
}

/// Gives each rule whose dataset is named the id that the listing has for it; says what is wrong
/// with those that have none, or several.
pub(super) fn look_up(
    manifest: &mut Manifest,
    place: Place<'_>,
    key: Option<ApiKey>,
    access: &Access,
    organization: Option<&OrganizationId>,
) -> Result<Vec<Diagnostic>, Failure> {
    if first_named(manifest).is_none() {
        return Ok(Vec::new());
    }
    if place.endpoint.is_none() {
        for rule in &mut manifest.rules {
            if let Some(name) = &rule.dataset {
                rule.dataset_id = Some(in_sandbox(&name.text));
            }
        }
        return Ok(Vec::new());
    }
    let service = service::connect(place, [], key, access, 1)?;
    let runtime = runtime()?;
    let mut found: HashMap<(Option<OrganizationId>, String), Found> = HashMap::new();
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    for rule in &mut manifest.rules {
        let Some(name) = &rule.dataset else { continue };
        let of = rule.organization_id.as_ref().or(organization);
        let wanted = (of.cloned(), name.text.clone());
        if !found.contains_key(&wanted) {
            let answer = runtime.block_on(find(&service.client, &name.text, of))?;
            if let Found::One(id) = &answer {
                super::narrate(&format!(
                    "dataset \"{}\" is {id}",
                    shown_bounded(&name.text)
                ));
            }
            found.insert(wanted.clone(), answer);
        }
        let problem = match &found[&wanted] {
            Found::One(id) => {
                rule.dataset_id = Some(id.clone());
                continue;
            }
            Found::Several(ids) => several(name, ids),
            Found::None(there) => none(name, there),
        };
        // What stands in `defaults` is looked at once for each rule.
        if !diagnostics.contains(&problem) {
            diagnostics.push(problem);
        }
    }
    Ok(diagnostics)
}

/// The id that a name has in the embedded service, today and tomorrow.
fn in_sandbox(name: &str) -> DatasetId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..16]);
    let id = uuid::Builder::from_custom_bytes(bytes).into_uuid();
    DatasetId::new(id.to_string())
}

fn several(name: &DatasetName, ids: &[DatasetId]) -> Diagnostic {
    let mut shown: Vec<&str> = ids.iter().take(SHOWN).map(DatasetId::as_str).collect();
    if ids.len() > SHOWN {
        shown.push("…");
    }
    Diagnostic::error(
        format!(
            "{} are named \"{}\"",
            count(ids.len(), "dataset"),
            shown_bounded(&name.text)
        ),
        name.span.clone(),
    )
    .label("which one?")
    .help(format!(
        "write `dataset_id` with one of {}",
        shown.join(", ")
    ))
}

fn none(name: &DatasetName, there: &[String]) -> Diagnostic {
    let near = near(&name.text, there);
    let quoted = |names: &[&str]| {
        let names: Vec<String> = names
            .iter()
            .map(|name| format!("\"{}\"", shown_bounded(name)))
            .collect();
        names.join(", ")
    };
    let help = match near.as_slice() {
        [] if there.is_empty() => "the key sees no datasets".to_owned(),
        [] if there.len() <= SHOWN => {
            let all: Vec<&str> = there.iter().map(String::as_str).collect();
            format!("there are {}", quoted(&all))
        }
        [] => format!(
            "the key sees {}, and none with a name like it",
            count(there.len(), "dataset")
        ),
        near => format!("did you mean {}?", quoted(near)),
    };
    Diagnostic::error(
        format!("no dataset is named \"{}\"", shown_bounded(&name.text)),
        name.span.clone(),
    )
    .label("unknown to the service, or to this key")
    .help(help)
}

/// Names like one that is not there: in another case, longer, or mistyped.
fn near<'a>(name: &str, there: &'a [String]) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let lower: Vec<String> = there.iter().map(|other| other.to_lowercase()).collect();
    let mut near: Vec<&str> = Vec::new();
    let mistyped = closest(&wanted, lower.iter().map(String::as_str));
    let is_like = |other: &String| *other == wanted || mistyped == Some(other);
    let begins = |other: &String| other.contains(&wanted) && !is_like(other);
    for fits in [&is_like as &dyn Fn(&String) -> bool, &begins] {
        let fitting = lower.iter().zip(there).filter(|(lower, _)| fits(lower));
        for (_, other) in fitting {
            if near.len() < SHOWN && !near.contains(&other.as_str()) {
                near.push(other);
            }
        }
    }
    near
}

async fn find(
    client: &Client,
    name: &str,
    organization: Option<&OrganizationId>,
) -> Result<Found, Failure> {
    let (datasets, extent) = read(client, name, Some(name), organization).await?;
    if extent == Extent::Cut {
        return Err(failure(
            name,
            "the listing is too long to be read to its end",
        ));
    }
    let exact = matches(&datasets, name);
    if !exact.is_empty() {
        return Ok(one_or_several(exact));
    }
    // The service's search may not find what is there; and it does not find what was mistyped.
    let (datasets, extent) = read(client, name, None, organization).await?;
    if extent == Extent::Cut {
        return Err(failure(
            name,
            "the listing is too long to be read to its end",
        ));
    }
    let exact = matches(&datasets, name);
    if exact.is_empty() {
        let names = datasets.into_iter().filter_map(|dataset| dataset.name);
        return Ok(Found::None(names.collect()));
    }
    Ok(one_or_several(exact))
}

fn one_or_several(mut ids: Vec<DatasetId>) -> Found {
    match (ids.pop(), ids.is_empty()) {
        (Some(id), true) => Found::One(id),
        (last, _) => {
            ids.extend(last);
            Found::Several(ids)
        }
    }
}

fn matches(datasets: &[ListedDataset], name: &str) -> Vec<DatasetId> {
    datasets
        .iter()
        .filter(|dataset| dataset.name.as_deref().map(str::trim) == Some(name))
        .map(|dataset| dataset.id.clone())
        .collect()
}

/// Reads the datasets that there are, each once, to the listing's end if that is near enough.
async fn read(
    client: &Client,
    name: &str,
    search: Option<&str>,
    organization: Option<&OrganizationId>,
) -> Result<(Vec<ListedDataset>, Extent), Failure> {
    let mut seen: HashSet<DatasetId> = HashSet::new();
    let mut datasets = Vec::new();
    for number in 1..=PAGES_MAX {
        let page = read_page(client, name, (search, organization), number).await?;
        if datasets.len() + page.entries.len() > DATASETS_MAX {
            return Ok((datasets, Extent::Cut));
        }
        if page.unreadable > 0 {
            return Err(failure(name, "the listing has entries without an id"));
        }
        let (before, on_page) = (seen.len(), page.entries.len());
        for dataset in page.entries {
            if seen.insert(dataset.id.clone()) && dataset.presence == Presence::Live {
                datasets.push(dataset);
            }
        }
        let said = page.count.and_then(|count| usize::try_from(count).ok());
        let is_short = said.is_some_and(|count| seen.len() < count);
        let goes_on = match page.more {
            More::Yes => true,
            More::No => false,
            More::Unsaid => is_short || said.is_none() && on_page >= 100,
        };
        if goes_on && seen.len() == before {
            return Err(failure(name, "the listing's pages repeat themselves"));
        }
        if !goes_on {
            return Ok((datasets, Extent::Whole));
        }
    }
    Ok((datasets, Extent::Cut))
}

async fn read_page(
    client: &Client,
    name: &str,
    (search, organization): (Option<&str>, Option<&OrganizationId>),
    number: u32,
) -> Result<Page<ListedDataset>, Failure> {
    let mut wait = FIRST_WAIT;
    let mut tries = 1;
    loop {
        match client.datasets(search, organization, number).await {
            Ok(page) => return Ok(page),
            Err(ListError::Unreadable(_)) if tries < TRIES_MAX => {
                tokio::time::sleep(wait).await;
                wait *= 2;
                tries += 1;
            }
            Err(ListError::Unauthenticated(why)) => {
                return Err(Failure::new(
                    Exit::Credentials,
                    format!("the service refused the API key ({why})"),
                )
                .hint("check the key; it was asked for its datasets' names, while `dataset_id` works without a listing"));
            }
            Err(error) => return Err(failure(name, &error.to_string())),
        }
    }
}

fn failure(name: &str, why: &str) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!(
            "the dataset \"{}\" cannot be looked up by its name: {why}",
            shown_bounded(name)
        ),
    )
    .hint("write `dataset_id` with its id instead: that works without a listing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_same_uuid_in_every_sandbox() {
        let id = in_sandbox("Invoices");
        assert_eq!(id, in_sandbox("Invoices"));
        assert_ne!(id, in_sandbox("invoices"));
        let uuid = uuid::Uuid::parse_str(id.as_str()).expect("a UUID");
        assert_eq!(uuid.get_version_num(), 8);
        assert_eq!(uuid.to_string(), id.as_str());
    }

    #[test]
    fn names_are_near_by_case_by_beginning_or_by_a_slip() {
        let there = ["Invoices 2025", "invoices", "Receipts", "Contracts"];
        let there = there.map(ToOwned::to_owned);
        assert_eq!(near("Invoices", &there), ["invoices", "Invoices 2025"]);
        assert_eq!(near("Recepts", &there), ["Receipts"]);
        assert_eq!(near("Letters", &there), [""; 0]);
    }
}
