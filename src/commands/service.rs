//! The service a command talks to: its key, its client, or the embedded sandbox in its place.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;

use secrecy::ExposeSecret;

use super::sandbox::SANDBOX_KEY;
use crate::cli::{self, Access, KeySource};
use crate::client::{self, Client, Endpoint, Proxy, Roots, Transport};
use crate::error::{Exit, Failure};
use crate::ledger::StateFolder;
use crate::model::{ApiKey, DatasetId, Origin, shown};
use crate::sandbox::{EmptyFiles, Faults, Sandbox, SandboxConfig, SandboxDataset};

/// Longest file of certificate authorities that is read, in bytes; a platform's whole bundle has a
/// quarter of that.
const CA_FILE_MAX: u64 = 1024 * 1024;

/// Longest key file that is read, in bytes.
const KEY_FILE_MAX: u64 = 16 * 1024;

/// A client, and the server it talks to where that is the embedded one.
#[derive(Debug)]
pub(super) struct Service {
    pub client: Client,
    _sandbox: Option<Sandbox>,
}

/// Which service, and what the embedded one needs to stand in for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// None for the embedded one.
    pub endpoint: Option<&'a Endpoint>,
    pub state: &'a StateFolder,
    /// What goes wrong in the embedded one.
    pub faults: Option<&'a Faults>,
}

/// Where the API is meant to be; none for the embedded one.
pub(super) fn endpoint(service: &cli::Service) -> Result<Option<Endpoint>, Failure> {
    let cli::Service::At(base) = service else {
        return Ok(None);
    };
    let endpoint = Endpoint::parse(base).map_err(|why| {
        Failure::new(
            Exit::Usage,
            format!(
                "the API's address{} cannot be used: {why}",
                shown_address(base)
            ),
        )
        .hint("set it by --base-url or ROE_BASE_URL, as in https://api.roe-ai.com")
    })?;
    Ok(Some(endpoint))
}

/// An address as far as it can be shown: what stands before an `@` may be a password.
fn shown_address(base: &str) -> String {
    if base.contains('@') {
        return String::new();
    }
    format!(" \"{}\"", shown(base))
}

/// What the ledger binds files to.
pub(super) fn origin(endpoint: Option<&Endpoint>) -> Origin {
    endpoint.map_or_else(|| Origin::new("sandbox"), Endpoint::origin)
}

/// The key for a service; the embedded one needs none.
pub(super) fn key(
    endpoint: Option<&Endpoint>,
    source: &KeySource,
) -> Result<Option<ApiKey>, Failure> {
    endpoint.map(|_| api_key(source)).transpose()
}

/// Makes a client, and starts the embedded service where that is meant.
pub(super) fn connect<'a>(
    place: Place<'_>,
    datasets: impl IntoIterator<Item = (&'a DatasetId, &'a str)>,
    key: Option<ApiKey>,
    access: &Access,
    connections: usize,
) -> Result<Service, Failure> {
    let internal = |why: &str| Failure::new(Exit::Internal, why.to_owned());
    let (endpoint, key, transport, sandbox) =
        if let (Some(endpoint), Some(key)) = (place.endpoint, key) {
            let transport = transport(&access.transport)?;
            (endpoint.clone(), key, transport, None)
        } else {
            let sandbox = start_sandbox(place, datasets)?;
            let base = format!("http://{}", sandbox.address());
            let key = ApiKey::new(SANDBOX_KEY).map_err(internal)?;
            let endpoint = Endpoint::parse(&base).map_err(|why| internal(&why))?;
            (endpoint, key, Transport::default(), Some(sandbox))
        };
    transport.check(&endpoint).map_err(|why| {
        Failure::new(Exit::Usage, format!("the proxy cannot be used here: {why}"))
    })?;
    let client = Client::new(&client::Settings {
        endpoint,
        key,
        stall: access.stall,
        connections,
        transport,
    })
    .map_err(|why| Failure::new(Exit::Unavailable, format!("cannot set up TLS: {why}")))?;
    Ok(Service {
        client,
        _sandbox: sandbox,
    })
}

/// Reads what the command line says of the way to the service.
pub(super) fn transport(said: &cli::Transport) -> Result<Transport, Failure> {
    let proxy = said.proxy.as_ref().map(|address| {
        // The address may have a password in it: it is not repeated.
        Proxy::parse(address.expose_secret()).map_err(|why| {
            Failure::new(
                Exit::Usage,
                format!("the proxy's address cannot be used: {why}"),
            )
            .hint("set it by --proxy or ROE_PROXY, as in http://proxy.example.com:3128")
        })
    });
    let roots = said.ca_file.as_ref().map(|path| {
        let fail = |why: String| {
            let name = shown(&path.to_string_lossy()).into_owned();
            Failure::new(
                Exit::Usage,
                format!("the certificate authorities in {name} cannot be used: {why}"),
            )
            .hint("set a PEM file by --ca-file or ROE_BATCH_CA_FILE")
        };
        let mut pem = Vec::new();
        File::open(path)
            .and_then(|file| file.take(CA_FILE_MAX + 1).read_to_end(&mut pem))
            .map_err(|error| fail(error.to_string()))?;
        if pem.len() as u64 > CA_FILE_MAX {
            return Err(fail("the file is larger than 1 MiB".to_owned()));
        }
        Roots::from_pem(&pem).map_err(fail)
    });
    Ok(Transport {
        proxy: proxy.transpose()?,
        roots: roots.transpose()?.unwrap_or_default(),
        version: said.version,
    })
}

fn start_sandbox<'a>(
    place: Place<'_>,
    datasets: impl IntoIterator<Item = (&'a DatasetId, &'a str)>,
) -> Result<Sandbox, Failure> {
    let datasets = datasets
        .into_iter()
        .map(|(id, name)| SandboxDataset {
            id: id.as_str().to_owned(),
            name: name.to_owned(),
        })
        .collect();
    Sandbox::start(SandboxConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data: place.state.sandbox(),
        api_key: SANDBOX_KEY.to_owned(),
        datasets,
        empty_files: EmptyFiles::Accept,
        faults: place.faults.cloned().unwrap_or_default(),
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
            if open_to_all(found.permissions().mode()) {
                return Err(refuse(&name, "everybody can read the file")
                    .hint(format!("chmod 600 {}", shown(&path.to_string_lossy()))));
            }
            let text = read_key(file).map_err(|e| refuse(&name, &e.to_string()))?;
            ApiKey::new(&text).map_err(|why| refuse(&name, why))
        }
    }
}

/// Whether everybody can read a file with this mode.
pub(super) fn open_to_all(mode: u32) -> bool {
    mode & 0o004 != 0
}

fn read_key(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(KEY_FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}
