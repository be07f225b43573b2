//! The library's parts composed as `apply` composes them, over any ledger and any server: the
//! engine without its command line.

#![allow(
    dead_code,
    reason = "each test and bench uses its own part of these helpers"
)]

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::num::NonZeroU32;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use roe_batch::client::{self, Client, Endpoint};
use roe_batch::diagnostic::{Severity, Source};
use roe_batch::error::Exit;
use roe_batch::event::Event;
use roe_batch::execute::{self, Chance, Doubts, Parts, Past, RowEnd, StopLight, execute};
use roe_batch::ledger::{
    Entry, Ledger, LedgerError, PlannedRow, Relation, RunEnd, RunKind, RunRecord, RunStart, State,
    StoredSample, Take, Transition, Writer,
};
use roe_batch::manifest::{self, Given, Manifest};
use roe_batch::model::{
    ApiKey, AttemptId, Clock, Concurrency, Doubt, Environment, FileId, InDoubt, JobEnd, Known,
    KnownFile, KnownState, Links, Origin, Outcome, Owner, RunId, Schedule, SourcePath, StopCause,
    StoredVersion, Target,
};
use roe_batch::pace::{Backoff, BreakerSettings, PaceSettings};
use roe_batch::plan::{Basis, Gone, Inputs, Plan, Selection, Sketch};
use roe_batch::report::{planned_rows, unattempted};
use roe_batch::source::{Readers, Survey, Want, gone, survey};
use roe_batch::verify::{Algorithm, Hashes, LocalFiles, Sample};
use uuid::Uuid;

/// A manifest whose roots were walked, and a client for its service.
pub struct Engine {
    manifest: Manifest,
    home: PathBuf,
    survey: Survey,
    origin: Origin,
    client: Client,
    concurrency: NonZeroU32,
}

/// What a run leaves.
pub struct Ran {
    /// The ledger, still open.
    pub ledger: Box<dyn Ledger>,
    /// How each row of the plan ended.
    pub ends: Vec<JobEnd>,
    /// Rows that the run kept more of than that the ledger has them.
    pub told: usize,
    /// Why it ended early, if it did.
    pub stopped: Vec<StopCause>,
}

impl Ran {
    /// Rows with this outcome.
    pub fn files(&self, outcome: Outcome) -> usize {
        let ends = self.ends.iter();
        ends.filter(|end| end.outcome == outcome).count()
    }
}

impl Engine {
    /// Reads a manifest's text, walks its roots and makes a client. `home` is the folder that
    /// relative roots and source paths start from.
    pub fn new(manifest: &str, home: &Path, base_url: &str, key: &str, concurrency: u32) -> Self {
        let none = Environment::default();
        Self::within(&none, manifest, home, base_url, key, concurrency)
    }

    /// The same, with environment variables that the manifest may name.
    pub fn within(
        environment: &Environment,
        manifest: &str,
        home: &Path,
        base_url: &str,
        key: &str,
        concurrency: u32,
    ) -> Self {
        let home = fs::canonicalize(home).expect("a folder");
        let source = Source {
            name: "manifest.yaml".to_owned(),
            text: manifest.to_owned(),
        };
        let reading = manifest::read(
            &source,
            &home.join("manifest.yaml"),
            Given::environment(environment),
        );
        let mut found = reading.diagnostics.iter();
        assert!(
            found.all(|d| d.severity != Severity::Error),
            "{}",
            source.render(&reading.diagnostics)
        );
        let wants: Vec<Want> = reading
            .manifest
            .rules
            .iter()
            .map(|rule| Want {
                root: rule.root.clone(),
                include: rule.include.clone(),
                exclude: rule.exclude.clone(),
                max_depth: None,
                links: Links::Never,
                listed: None,
            })
            .collect();
        let survey = survey(&wants, &home, &[], &Arc::default());
        assert!(survey.unusable_roots.is_empty(), "{survey:?}");
        let endpoint = Endpoint::parse(base_url).expect("an address");
        Self {
            manifest: reading.manifest,
            home,
            survey,
            origin: endpoint.origin(),
            client: Client::new(&client::Settings {
                endpoint,
                key: ApiKey::new(key).expect("a key"),
                stall: Duration::from_mins(2),
                connections: usize::try_from(concurrency).expect("a small number"),
                transport: client::Transport::default(),
            })
            .expect("TLS"),
            concurrency: NonZeroU32::new(concurrency).expect("not zero"),
        }
    }

    /// One run, from reading the ledger to the run's end in it. What a plan finds out beside
    /// uploads (touched, moved and resent files) is not written.
    pub fn run(&self, mut ledger: Box<dyn Ledger>, events: &dyn Fn(&Event)) -> Ran {
        let run = RunId::new(Uuid::now_v7().to_string());
        let started = Timestamp::now();
        let mut selection = Selection::default();
        let plan = self.plan(&*ledger, &mut selection, (&run, started));
        let start = RunStart {
            run: run.clone(),
            stream: plan.manifest.clone(),
            kind: RunKind::Apply,
            at: started,
            vanished: plan.vanished,
        };
        ledger
            .begin_run(&start, &mut planned_rows(&plan))
            .expect("begun");
        let stop = StopLight::default();
        let writer = Writer::start(ledger).expect("a thread");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let readers = Readers::start(&self.survey.roots).expect("threads");
        let ends = runtime.block_on(execute(Parts {
            plan: &plan,
            roots: &self.survey.roots,
            readers: &readers,
            client: &self.client,
            ledger: writer.handle(),
            run: &run,
            clock: &SystemClock,
            chance: &SystemChance,
            stop: &stop,
            events,
            doubts: Doubts {
                policy: InDoubt::Hold,
                earlier: &[],
                settle: Duration::from_secs(1),
                files: &(Arc::new(Nothing) as Arc<dyn LocalFiles>),
                past: &Nothing,
            },
            settings: execute::Settings {
                pace: PaceSettings {
                    concurrency: Concurrency::Fixed(self.concurrency),
                    rate: Schedule::always(None),
                    bandwidth: Schedule::always(None),
                    breaker: BreakerSettings::default(),
                },
                max_attempts: NonZeroU32::new(5).expect("not zero"),
                backoff: Backoff {
                    first: Duration::from_millis(500),
                    most: Duration::from_secs(30),
                },
                retry_for: Duration::from_mins(15),
                failure_budget: None,
                tag: self.manifest.run.tag,
            },
        }));
        runtime.shutdown_background();
        let told = ends.told();
        let planned = plan.files().map(|file| unattempted(&file));
        let ends = planned
            .enumerate()
            .map(|(row, planned)| match ends.get(row) {
                RowEnd::AsPlanned => planned,
                RowEnd::Written(written) => JobEnd::without_attempt(written.outcome(), None),
                RowEnd::Told(end) => end.clone(),
            });
        let mut ran = Ran {
            ledger: writer.finish().expect("the ledger's thread"),
            ends: ends.collect(),
            told,
            stopped: stop.causes(),
        };
        let outcomes = Outcome::ALL.map(|outcome| (outcome, ran.files(outcome)));
        let end = RunEnd {
            run,
            at: Timestamp::now(),
            exit_code: Exit::of_run(&ran.stopped, 0, |outcome| ran.files(outcome) > 0).code(),
            stopped: ran.stopped.iter().map(ToString::to_string).collect(),
            outcomes: outcomes.to_vec(),
        };
        ran.ledger.end_run(&end).expect("ended");
        ran
    }

    /// Plans from what a ledger knows, as [`Self::run`] does.
    pub fn plan<'a>(
        &'a self,
        ledger: &dyn Ledger,
        selection: &'a mut Selection,
        run: (&'a RunId, Timestamp),
    ) -> Plan<'a> {
        let basis = Basis {
            manifest: &self.manifest,
            candidates: &self.survey.candidates,
            origin: &self.origin,
            organization: None,
            run,
        };
        *selection = Selection::new(&basis);
        selection.finish(&basis);
        let inputs = Inputs {
            basis,
            selection,
            doubts: &[],
            in_doubt: self.manifest.run.in_doubt.unwrap_or_default(),
        };
        let known = ledger.known(&basis.targets(), &self.manifest.name);
        let known = known.expect("read");
        let Ok(sketch) = Sketch::new(&inputs, &known);
        let gone = Gone::new(gone(sketch.absent(), &self.home));
        let to_read = sketch.undecided(&gone);
        let digests = self.survey.roots.digests(&self.survey.candidates, &to_read);
        let Ok(plan) = sketch.finish(&gone, &digests, &known);
        plan
    }
}

/// Doubt is held here: nobody looks for anything.
#[derive(Debug)]
struct Nothing;

impl Past for Nothing {
    fn prepare(&self, _: &Target) -> Result<(), String> {
        Err("nobody looks".to_owned())
    }

    fn has(&self, _: &Target, _: &FileId) -> bool {
        true
    }

    fn unnamed(&self, _: &Target) -> Vec<Doubt> {
        Vec::new()
    }

    fn samples(&self, _: &Target) -> Vec<Sample> {
        Vec::new()
    }
}

impl LocalFiles for Nothing {
    fn hashes(&self, _: &SourcePath, _: &[Algorithm]) -> Option<Hashes> {
        None
    }
}

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

struct SystemChance;

impl Chance for SystemChance {
    fn attempt_id(&self) -> AttemptId {
        AttemptId::new(Uuid::now_v7().to_string())
    }

    fn fraction(&self) -> f64 {
        fastrand::f64()
    }

    fn boundary(&self) -> u128 {
        Uuid::new_v4().as_u128()
    }
}

/// A ledger that is durable for as long as the process: the latest step of each file, checked as
/// every ledger checks it. It keeps no history and takes nothing but steps.
#[derive(Default)]
pub struct MemoryLedger {
    files: HashMap<(Arc<Target>, SourcePath), (Transition, Option<StoredVersion>)>,
    watch: Option<Box<Watch>>,
}

/// Is shown each step before it is written, and may hold it up.
type Watch = dyn FnMut(&Transition) + Send;

impl fmt::Debug for MemoryLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryLedger")
    }
}

impl MemoryLedger {
    /// One whose steps are watched.
    pub fn watched(watch: impl FnMut(&Transition) + Send + 'static) -> Self {
        Self {
            watch: Some(Box::new(watch)),
            ..Self::default()
        }
    }

    fn step(&mut self, step: &Transition) -> Result<(), LedgerError> {
        if let Some(watch) = &mut self.watch {
            watch(step);
        }
        let key = (Arc::clone(&step.target), step.path.clone());
        let before = self.files.get(&key).map(|(last, _)| {
            let relation = if last.attempt == step.attempt {
                Relation::SameAttempt
            } else {
                Relation::OtherAttempt
            };
            (last.state, relation)
        });
        if !step.state.may_follow(before) {
            return Err(LedgerError::Illegal {
                path: step.path.clone(),
                from: before.map_or("none", |(state, _)| state.word()).to_owned(),
                to: step.state.word(),
            });
        }
        let stored = if step.state == State::Stored {
            Some(StoredVersion {
                stat: step.stat,
                digest: step.digest,
                metadata: step.metadata,
                file_id: step.file_id.clone(),
                remote_name: step.remote_name.clone(),
                read_at: step.read_at,
            })
        } else {
            self.files.remove(&key).and_then(|(_, stored)| stored)
        };
        self.files.insert(key, (step.clone(), stored));
        Ok(())
    }
}

fn not_kept(what: &str) -> LedgerError {
    LedgerError::Storage {
        path: PathBuf::from("memory"),
        cause: format!("it keeps no {what}"),
    }
}

impl Ledger for MemoryLedger {
    fn begin_run(
        &mut self,
        _: &RunStart,
        _: &mut dyn Iterator<Item = PlannedRow<'_>>,
    ) -> Result<(), LedgerError> {
        Ok(())
    }

    fn end_run(&mut self, _: &RunEnd) -> Result<(), LedgerError> {
        Ok(())
    }

    /// Not all or none: what precedes a refused entry stays.
    fn write(&mut self, group: &[Entry]) -> Result<(), LedgerError> {
        group.iter().try_for_each(|entry| match entry {
            Entry::Step(step) => self.step(step),
            _ => Err(not_kept("entries but steps")),
        })
    }

    fn doubts(&self) -> Result<Vec<Doubt>, LedgerError> {
        let doubtful = self.files.values().filter(|(t, _)| t.state.is_doubtful());
        let mut doubts: Vec<Doubt> = doubtful
            .map(|(step, _)| Doubt {
                attempt: step.attempt.clone(),
                stream: String::new(),
                target: Target::clone(&step.target),
                path: step.path.clone(),
                remote_name: step.remote_name.clone(),
                stat: step.stat,
                digest: step.digest,
                metadata: step.metadata,
                tag: step.tag,
                began: step.read_at,
                since: step.at,
                absent_since: None,
                reason: step.reason.clone(),
                last_look: None,
            })
            .collect();
        doubts.sort_by(|a, b| (&a.target, &a.path).cmp(&(&b.target, &b.path)));
        Ok(doubts)
    }

    fn each_id(
        &self,
        _: &Target,
        _: Timestamp,
        _: &mut dyn FnMut(&FileId),
    ) -> Result<(), LedgerError> {
        Err(not_kept("ids"))
    }

    fn unnamed(&self, _: &Target, _: Timestamp) -> Result<Vec<Doubt>, LedgerError> {
        Err(not_kept("history"))
    }

    fn stored_samples(&self, _: &Target) -> Result<Vec<StoredSample>, LedgerError> {
        Err(not_kept("samples"))
    }

    /// All runs count as the asking stream's.
    fn known_from(
        &self,
        target: &Target,
        _stream: &str,
        from: Bound<&SourcePath>,
        limit: usize,
    ) -> Result<Vec<(SourcePath, KnownFile)>, LedgerError> {
        let mut known = Known::default();
        for ((other, path), (step, stored)) in &self.files {
            if **other != *target {
                continue;
            }
            let state = match step.state {
                State::Stored => KnownState::Stored,
                state if state.is_doubtful() => {
                    KnownState::InDoubt(step.attempt.clone(), step.reason.clone())
                }
                _ => KnownState::NotStored,
            };
            let file = KnownFile {
                state,
                stored: stored.clone(),
                owner: Owner::ThisStream,
            };
            known.insert(target, path.clone(), file);
        }
        let known = known.from(target, from).take(limit);
        Ok(known
            .map(|(path, file)| (path.clone(), file.clone()))
            .collect())
    }

    fn elsewhere(
        &self,
        _: &[Arc<Target>],
        _: &str,
        _: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<(Target, usize)>, LedgerError> {
        Ok(Vec::new())
    }

    fn runs(&self, _: &str) -> Result<Vec<RunRecord>, LedgerError> {
        Err(not_kept("runs"))
    }

    fn each_row(&self, _: &RunId, _: Take<'_>) -> Result<(), LedgerError> {
        Err(not_kept("plans"))
    }

    fn each_file(&self, _: Take<'_>) -> Result<(), LedgerError> {
        Err(not_kept("plans"))
    }
}
