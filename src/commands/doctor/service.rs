//! The key, the way to the service, and what the service says of both and of the time.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::{Finding, Meant, path};
use crate::cli::{Access, DoctorSettings, KeySource, Network};
use crate::client::{Client, Endpoint, Examined, Preflight};
use crate::commands::run::runtime;
use crate::commands::service::{self, Place};
use crate::error::{Exit, Failure};
use crate::ledger::StateFolder;
use crate::model::{ApiKey, Target, shown_bounded};

/// Longest time that nothing may move here: somebody waits.
const STALL_MAX: Duration = Duration::from_secs(20);

/// How far two clocks may be apart.
const APART_MAX: SignedDuration = SignedDuration::from_mins(5);

pub(super) fn look(settings: &DoctorSettings, meant: Option<&Meant>, findings: &mut Vec<Finding>) {
    let endpoint = match service::endpoint(&settings.service) {
        Ok(endpoint) => endpoint,
        Err(failure) => {
            findings.push(Finding::failure("service", failure));
            return;
        }
    };
    let key = match service::key(endpoint.as_ref(), &settings.access.key) {
        Ok(key) => key,
        Err(failure) => {
            findings.push(Finding::failure("key", failure));
            if settings.network == Network::Asked {
                let why = "not asked: it answers nobody without a key";
                findings.push(Finding::skipped("service", why));
            }
            return;
        }
    };
    findings.push(key_of(&settings.access.key, key.is_some()));
    if settings.network == Network::LeftOut {
        findings.push(Finding::skipped("service", "not asked (--offline)"));
        return;
    }
    if let Err(failure) = ask(settings, endpoint.as_ref(), key, meant, findings) {
        findings.push(Finding::failure("service", failure));
    }
}

fn key_of(source: &KeySource, is_needed: bool) -> Finding {
    match source {
        _ if !is_needed => Finding::fine("key", "the sandbox needs none"),
        KeySource::Variable(_) => Finding::fine("key", "in ROE_API_KEY"),
        KeySource::Stdin => Finding::fine("key", "on standard input"),
        // It was refused before.
        KeySource::Missing => Finding::problem("key", Exit::Credentials, "there is none"),
        KeySource::File(file) => {
            let name = path(file);
            let mode = fs::metadata(file).map_or(0, |found| found.permissions().mode());
            if mode & 0o060 == 0 {
                return Finding::fine("key", format!("in {name}"));
            }
            Finding::warning("key", format!("in {name}, which its group can read"))
                .help(format!("chmod 600 {name}"))
        }
    }
}

fn ask(
    settings: &DoctorSettings,
    endpoint: Option<&Endpoint>,
    key: Option<ApiKey>,
    meant: Option<&Meant>,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let local = |error: std::io::Error| {
        let message = format!("no temporary folder: {error}");
        Failure::new(Exit::LocalIo, message)
    };
    // The sandbox's files: they are gone at the end.
    let folder = tempfile::tempdir().map_err(local)?;
    let state = StateFolder::at(&folder.path().join("state"))
        .map_err(|error| Failure::new(Exit::LocalIo, error.to_string()))?;
    let place = Place {
        endpoint,
        state: &state,
        faults: None,
    };
    let access = Access {
        stall: settings.access.stall.min(STALL_MAX),
        ..settings.access.clone()
    };
    let targets = targets(settings, endpoint, meant);
    let datasets = targets
        .iter()
        .filter_map(|target| target.dataset_id.as_ref());
    let datasets = datasets.map(|id| (id, "doctor"));
    let connected = service::connect(place, datasets, key, &access, 1)?;
    let runtime = runtime()?;
    let begun = Instant::now();
    let examined = runtime.block_on(connected.client.examine());
    let now = Timestamp::now();
    let name = endpoint.map_or_else(|| "the sandbox".to_owned(), |e| e.origin().to_string());
    findings.push(answered(&name, &examined, begun.elapsed()));
    findings.extend(examined.clock.map(|theirs| clock(now, theirs)));
    if examined.preflight == Preflight::Ready {
        for target in targets {
            findings.extend(dataset(&runtime, &connected.client, &target));
        }
    }
    Ok(())
}

/// Datasets of the manifest that have an id.
fn targets(
    settings: &DoctorSettings,
    endpoint: Option<&Endpoint>,
    meant: Option<&Meant>,
) -> BTreeSet<Target> {
    let rules = meant.into_iter().flat_map(|meant| &meant.manifest.rules);
    rules
        .filter(|rule| rule.dataset_id.is_some())
        .map(|rule| Target {
            origin: service::origin(endpoint),
            organization_id: rule
                .organization_id
                .clone()
                .or_else(|| settings.check.look.organization.clone()),
            dataset_id: rule.dataset_id.clone(),
        })
        .collect()
}

fn answered(name: &str, examined: &Examined, took: Duration) -> Finding {
    const IS_ROE: &str = "is the address that of Roe's API? See --base-url and ROE_BASE_URL";
    let what = "service";
    let problem = |exit, found: String| Finding::problem(what, exit, found);
    match &examined.preflight {
        Preflight::Ready => {
            let took = took.as_millis();
            Finding::fine(what, format!("{name} takes the key, in {took} ms"))
        }
        Preflight::Refused(why) => problem(
            Exit::Credentials,
            format!("{name} does not take the key: {why}"),
        )
        .help("look whether it is whole, of this service, and not withdrawn"),
        Preflight::Unsaid(why) if matches!(examined.status, Some(200..=399)) => problem(
            Exit::Unavailable,
            format!("{name} answers, and not as Roe's API: {why}"),
        )
        .help(IS_ROE),
        Preflight::Unsaid(why) | Preflight::UnknownDataset(why) => Finding::warning(
            what,
            format!("{name} does not say whether it takes the key: {why}"),
        )
        .help(IS_ROE),
        Preflight::Busy(_) => Finding::warning(what, format!("{name} asks for patience"))
            .help("try again in a while; `rate` and `concurrency` ask less of it"),
        Preflight::Failing(why) => problem(Exit::Unavailable, format!("{name} fails: {why}"))
            .help("try again in a while, and ask whoever runs it"),
        Preflight::Unreached(why) => problem(
            Exit::Unavailable,
            format!("{name} cannot be reached: {why}"),
        )
        .help("look at the address, at DNS, and whether a firewall or a proxy lies in between"),
        Preflight::Misconfigured(why) => {
            problem(Exit::Unavailable, format!("{name} cannot be used: {why}")).help(
                "a proxy that opens connections needs --ca-file; a certificate of another time, a \
             clock that is right",
            )
        }
    }
}

/// How far this machine's clock is from the service's.
fn clock(ours: Timestamp, theirs: Timestamp) -> Finding {
    let apart = ours.duration_since(theirs);
    let seconds = apart.as_secs().unsigned_abs();
    if apart.abs() <= APART_MAX {
        return Finding::fine(
            "clock",
            format!("within {} s of the service's", seconds + 1),
        );
    }
    let way = if apart.is_positive() {
        "ahead of"
    } else {
        "behind"
    };
    let minutes = seconds / 60;
    Finding::problem(
        "clock",
        Exit::Unavailable,
        format!("{minutes} min {way} the service's"),
    )
    .help("set it, as with NTP: certificates and files in doubt are judged by it")
}

fn dataset(runtime: &tokio::runtime::Runtime, client: &Client, target: &Target) -> Option<Finding> {
    let id = shown_bounded(target.dataset_id.as_ref()?.as_str());
    let finding = match runtime.block_on(client.preflight(target)) {
        Preflight::Ready => Finding::fine("dataset", format!("{id} is there")),
        Preflight::UnknownDataset(why) => Finding::problem(
            "dataset",
            Exit::SomeFailed,
            format!("{id} is none of the service's: {why}"),
        )
        .help("look at `dataset_id` and `organization_id` in the manifest"),
        Preflight::Unsaid(why) => {
            Finding::warning("dataset", format!("{id} may not be there: {why}"))
        }
        // The service was asked a moment before.
        _ => Finding::warning("dataset", format!("{id} was not found out about")),
    };
    Some(finding)
}
