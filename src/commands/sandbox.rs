//! `sandbox`: the embedded server, until a signal.

use std::path::Path;

use super::run::{runtime, signals};
use crate::cli::SandboxSettings;
use crate::error::{Exit, Failure};
use crate::sandbox::{
    DEFAULT_DATASET_ID, EmptyFiles, Faults, Sandbox, SandboxConfig, SandboxDataset,
};

/// The key that the embedded server takes. It opens nothing else, so it may be known.
pub(super) const SANDBOX_KEY: &str = "sandbox-key";

/// Serves until SIGINT, SIGTERM or SIGHUP.
pub(super) fn sandbox(settings: &SandboxSettings) -> Result<Exit, Failure> {
    let server = Sandbox::start(SandboxConfig {
        listen: settings.listen,
        data: settings.data.clone(),
        api_key: SANDBOX_KEY.to_owned(),
        datasets: settings
            .datasets
            .iter()
            .map(|(id, name)| SandboxDataset {
                id: id.as_str().to_owned(),
                name: name.clone(),
            })
            .collect(),
        empty_files: if settings.refuse_empty_files {
            EmptyFiles::Refuse
        } else {
            EmptyFiles::Accept
        },
        faults: read_faults(settings.faults.as_deref())?,
    })
    .map_err(|error| {
        Failure::new(
            Exit::LocalIo,
            format!("the sandbox cannot listen on {}: {error}", settings.listen),
        )
        .hint("choose another address with --listen, or a folder it can write to with --data")
    })?;
    let address = server.address();
    if !address.ip().is_loopback() {
        super::narrate("warning: others on the network can reach this sandbox; its key is public");
    }
    let more: Vec<String> = settings
        .datasets
        .iter()
        .map(|(id, _)| format!(", {id}"))
        .collect();
    super::say(&format!(
        "sandbox on http://{address}, files in {}\n\
         datasets: {DEFAULT_DATASET_ID} (default){}\n\
         use it with:\n  export ROE_BASE_URL=http://{address} ROE_API_KEY={SANDBOX_KEY}\n",
        crate::model::shown(&settings.data.to_string_lossy()),
        more.concat(),
    ))?;
    let signal = {
        let runtime = runtime()?;
        let mut signals = signals(&runtime)?;
        runtime.block_on(signals.next())
    };
    let (stats, faults) = (server.stats(), server.faults());
    server.stop();
    super::narrate(&format!(
        "{signal}: stopped after {} requests, {} files stored",
        stats.requests, stats.stored
    ));
    for fault in faults {
        super::narrate(&format!("  {} × {}", fault.times, fault.fault));
    }
    Ok(Exit::Done)
}

/// Reads a fault plan, where one is given.
pub(super) fn read_faults(path: Option<&Path>) -> Result<Faults, Failure> {
    let Some(path) = path else {
        return Ok(Faults::default());
    };
    let shown = crate::model::shown(&path.to_string_lossy()).to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("the fault plan {shown} cannot be read: {error}");
        Failure::new(Exit::Invalid, message)
    })?;
    Faults::parse(&text).map_err(|error| Failure::new(Exit::Invalid, format!("{shown}, {error}")))
}
