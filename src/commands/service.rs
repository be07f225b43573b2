//! The service a command talks to: its key, its client, or the embedded sandbox in its place.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::draft::Draft;
use super::sandbox::SANDBOX_KEY;
use crate::cli::KeySource;
use crate::client::{self, Client, Endpoint};
use crate::error::{Exit, Failure};
use crate::model::{ApiKey, shown};
use crate::sandbox::{EmptyFiles, Sandbox, SandboxConfig, SandboxDataset};

/// Longest key file that is read, in bytes.
const KEY_FILE_MAX: u64 = 16 * 1024;

/// A client, and the server it talks to where that is the embedded one.
#[derive(Debug)]
pub(super) struct Service {
    pub client: Client,
    _sandbox: Option<Sandbox>,
}

/// The key for a draft's service; the sandbox needs none.
pub(super) fn key(draft: &Draft<'_>, source: &KeySource) -> Result<Option<ApiKey>, Failure> {
    match &draft.endpoint {
        Some(_) => api_key(source).map(Some),
        None => Ok(None),
    }
}

/// Makes a client for a draft's service, and starts the sandbox where that is meant.
pub(super) fn connect(
    draft: &Draft<'_>,
    key: Option<ApiKey>,
    stall: Duration,
    connections: usize,
) -> Result<Service, Failure> {
    let internal = |why: &str| Failure::new(Exit::Internal, why.to_owned());
    let (endpoint, key, sandbox) = if let (Some(endpoint), Some(key)) = (&draft.endpoint, key) {
        (endpoint.clone(), key, None)
    } else {
        let sandbox = start_sandbox(draft)?;
        let base = format!("http://{}", sandbox.address());
        let key = ApiKey::new(SANDBOX_KEY).map_err(internal)?;
        let endpoint = Endpoint::parse(&base).map_err(|why| internal(&why))?;
        (endpoint, key, Some(sandbox))
    };
    let client = Client::new(&client::Settings {
        endpoint,
        key,
        stall,
        connections,
    })
    .map_err(|why| Failure::new(Exit::Unavailable, format!("cannot set up TLS: {why}")))?;
    Ok(Service {
        client,
        _sandbox: sandbox,
    })
}

fn start_sandbox(draft: &Draft<'_>) -> Result<Sandbox, Failure> {
    let rules = draft.manifest.rules.iter();
    let datasets = rules
        .filter_map(|rule| rule.dataset_id.as_ref())
        .map(|id| SandboxDataset {
            id: id.as_str().to_owned(),
            name: draft.manifest.name.clone(),
        })
        .collect();
    Sandbox::start(SandboxConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data: draft.state.sandbox(),
        api_key: SANDBOX_KEY.to_owned(),
        datasets,
        empty_files: EmptyFiles::Accept,
    })
    .map_err(|error| {
        Failure::new(Exit::LocalIo, format!("the sandbox cannot start: {error}"))
            .hint("dataset ids are UUIDs")
    })
}

fn api_key(source: &KeySource) -> Result<ApiKey, Failure> {
    let refuse = |what: &str, why: &str| {
        Failure::new(
            Exit::Credentials,
            format!("the API key {what} cannot be used: {why}"),
        )
    };
    match source {
        KeySource::Missing => Err(Failure::new(Exit::Credentials, "there is no API key").hint(
            "set ROE_API_KEY, name a file with --api-key-file, or try things out with --sandbox",
        )),
        KeySource::Variable(text) => {
            ApiKey::new(text.expose_secret()).map_err(|why| refuse("in ROE_API_KEY", why))
        }
        KeySource::Stdin => {
            let text = read_key(io::stdin()).map_err(|e| refuse("on stdin", &e.to_string()))?;
            ApiKey::new(&text).map_err(|why| refuse("on stdin", why))
        }
        KeySource::File(path) => {
            let name = format!("in {}", shown(&path.to_string_lossy()));
            let file = File::open(path).map_err(|e| refuse(&name, &e.to_string()))?;
            let found = file.metadata().map_err(|e| refuse(&name, &e.to_string()))?;
            if found.permissions().mode() & 0o004 != 0 {
                return Err(refuse(&name, "everybody can read the file")
                    .hint(format!("chmod 600 {}", shown(&path.to_string_lossy()))));
            }
            let text = read_key(file).map_err(|e| refuse(&name, &e.to_string()))?;
            ApiKey::new(&text).map_err(|why| refuse(&name, why))
        }
    }
}

fn read_key(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(KEY_FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}
