//! How a run is carried out: what the command line, the environment, the manifest and the config
//! files say of it, in this order, and what holds where none of them says anything.

use std::num::NonZeroU32;
use std::time::Duration;

use super::run::within_file_limit;
use crate::cli::ApplySettings;
use crate::client::Endpoint;
use crate::execute;
use crate::manifest::RunSettings;
use crate::model::{Concurrency, Schedule};
use crate::pace::{Backoff, BreakerSettings, PaceSettings};

/// Files on their way at once.
const CONCURRENCY: Concurrency = Concurrency::Fixed(NonZeroU32::new(8).expect("eight is not zero"));

/// Attempts for one file.
const MAX_ATTEMPTS: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");

/// The longest wait after a first attempt.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait after any attempt.
const MOST_WAIT: Duration = Duration::from_secs(30);

/// How long after a file's first attempt another one may begin.
const RETRY_FOR: Duration = Duration::from_mins(15);

/// Open files and sockets of one upload: its connection, its file, and a file that is read ahead.
const DESCRIPTORS: NonZeroU32 = NonZeroU32::new(3).expect("three is not zero");

/// As many, where the embedded service in this process has its own half of each upload.
const DESCRIPTORS_WITH_SANDBOX: NonZeroU32 = NonZeroU32::new(6).expect("six is not zero");

/// How many files are wanted on their way at once, and how many descriptors each of them takes.
pub(super) fn wanted_files(wanted: Option<Concurrency>) -> (NonZeroU32, NonZeroU32) {
    (wanted.unwrap_or(CONCURRENCY).max(), DESCRIPTORS)
}

/// How uploads to an endpoint, or to the embedded service, are carried out; and a notice where that
/// is not as it was asked for.
pub(super) fn how(
    settings: &ApplySettings,
    manifest: &RunSettings,
    endpoint: Option<&Endpoint>,
) -> (execute::Settings, Option<String>) {
    let wanted = settings.concurrency.with(manifest.concurrency);
    let wanted = wanted.unwrap_or(CONCURRENCY);
    let for_each = endpoint.map_or(DESCRIPTORS_WITH_SANDBOX, |_| DESCRIPTORS);
    let (concurrency, notice) = within_file_limit(wanted.max(), for_each);
    let max_attempts = settings.max_attempts.with(manifest.max_attempts);
    let retry_for = settings.retry_for.with(manifest.retry_for);
    let retry_for = retry_for.unwrap_or(RETRY_FOR);
    let rate = settings.rate.clone().with(manifest.rate.clone());
    let bandwidth = settings.bandwidth.clone();
    let bandwidth = bandwidth.with(manifest.bandwidth.clone());
    let how = execute::Settings {
        pace: PaceSettings {
            concurrency: wanted.with_max(concurrency),
            rate: rate.unwrap_or(Schedule::always(None)),
            bandwidth: bandwidth.unwrap_or(Schedule::always(None)),
            breaker: BreakerSettings {
                give_up: retry_for,
                ..BreakerSettings::default()
            },
        },
        max_attempts: max_attempts.unwrap_or(MAX_ATTEMPTS),
        backoff: Backoff {
            first: settings.retry_waits.first.unwrap_or(FIRST_WAIT),
            most: settings.retry_waits.most.unwrap_or(MOST_WAIT),
        },
        retry_for,
        failure_budget: settings.failure_budget.with(manifest.failure_budget),
        tag: manifest.tag,
    };
    (how, notice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Command, Otherwise};
    use crate::commands::lookup::SETTLE;
    use crate::config::Config;

    #[test]
    fn what_is_shown_as_the_default_is_the_default() {
        let args = ["roe-batch", "config"].map(Into::into);
        let parsed = cli::parse_with(args, || Ok(Config::default()));
        let Ok(Command::Config(settings)) = parsed else {
            panic!("{parsed:?}");
        };
        let default = |name: &str| {
            let told = settings.told.iter().find(|told| told.name == name);
            match told.map(|told| told.default) {
                Some(Otherwise::Value(text)) => text,
                other => panic!("{name}: {other:?}"),
            }
        };
        assert_eq!(Concurrency::parse(default("concurrency")), Ok(CONCURRENCY));
        assert_eq!(default("max_attempts"), MAX_ATTEMPTS.to_string());
        for (name, constant) in [
            ("retry_initial_ms", FIRST_WAIT),
            ("retry_max_ms", MOST_WAIT),
        ] {
            assert_eq!(default(name), constant.as_millis().to_string());
        }
        for (name, constant) in [("retry_for", RETRY_FOR), ("settle", SETTLE)] {
            let minutes = constant.as_secs() / 60;
            assert_eq!(default(name), format!("{minutes}m"));
        }
    }
}
