//! `watch`: `apply` again and again, when files have settled.
//!
//! One loop, which waits for changes, the clock and signals, and has each look, and the run that may
//! follow from it, done by a thread of its own: a signal ends the watch at once while nothing is
//! being sent, however long a look may take.

mod work;

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Unit};
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use self::work::Work;
use super::run::{Signals, SystemClock, runtime, signals, survive_questions};
use super::sandbox::read_faults;
use super::turn::Turn;
use super::{narrate, speak};
use crate::cli::{Events, WatchSettings};
use crate::error::{Exit, Failure};
use crate::model::{Clock, Signal};
use crate::sandbox::Faults;
use crate::source::{Covered, Hints};
use crate::watch::{Came, Looked, Moment, Rhythm, Watch};

/// What is left undone is first tried again after so many times as long as changes take to settle.
const FIRST_WAIT: u32 = 5;

/// What is left undone is tried again at least so often.
const MOST_WAIT: Duration = Duration::from_mins(15);

/// Changes of so long are taken in together.
const TOGETHER: Duration = Duration::from_millis(50);

/// What was told is looked at so often where it cannot be waited for.
const UNHEARD: Duration = Duration::from_secs(1);

/// Watches until a signal comes, or until it cannot go on.
pub(super) fn watch(settings: WatchSettings) -> Result<Exit, Failure> {
    speak(settings.apply.narration);
    survive_questions();
    let faults = read_faults(settings.apply.faults.as_deref())?;
    let runtime = runtime()?;
    let signals = signals(&runtime)?;
    let first_wait = settings.quiet_for * FIRST_WAIT;
    let watch = Watch::new(Rhythm {
        quiet: settings.quiet_for,
        at_latest: settings.at_latest,
        rescan: settings.rescan,
        first_wait,
        most_wait: MOST_WAIT.max(first_wait),
    });
    let ears = match settings.events {
        Events::Auto => Hints::new().map_err(|error| no_hints(&error)).ok(),
        Events::Never => None,
    };
    let keeper = Keeper {
        settings: Arc::new(settings),
        faults: Arc::new(faults),
        began: Instant::now(),
        watch,
        signals,
        last: Exit::Done,
        ran: Exit::Done,
        is_begun: false,
        told: String::new(),
    };
    let desk = Desk {
        hints: ears,
        ..Desk::default()
    };
    runtime.block_on(keeper.keep(desk))
}

fn no_hints(error: &io::Error) {
    let hint = if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) {
        ": see fs.inotify.max_user_instances"
    } else {
        ""
    };
    narrate(&format!(
        "notice: the system does not tell of changes ({error}{hint}): only the rescan finds files"
    ));
}

/// What a look needs and the next one needs again.
#[derive(Default)]
struct Desk {
    hints: Option<Hints>,
    /// Problems of the manifest that were told last.
    told: RefCell<String>,
    /// What was told of the folders.
    covered: Covered,
    /// What the last run left undone.
    left: Left,
    /// Whether the last plan had files in doubt.
    doubts: Doubts,
}

/// Whether files are in doubt that no run does anything about.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Doubts {
    #[default]
    None,
    Held,
}

/// Files that a run did not get done, or a plan has to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Left {
    files: usize,
    /// Which files these are, and how they were.
    digest: u64,
}

/// Where a look is, as far as a signal is concerned.
enum Phase {
    /// Nothing that was begun needs an end.
    Looking,
    /// A run is told of signals here.
    Running(UnboundedSender<Signal>),
    /// The watch has ended: no run is to begin.
    Over,
}

type Stage = Arc<Mutex<Phase>>;

struct Keeper {
    settings: Arc<WatchSettings>,
    faults: Arc<Faults>,
    began: Instant,
    watch: Watch,
    signals: Signals,
    /// What the watch ends with if it ends now.
    last: Exit,
    /// How the last run ended that had something to do.
    ran: Exit,
    is_begun: bool,
    /// Why nothing could be done, as it was told last.
    told: String,
}

impl Keeper {
    /// Says why nothing can be done, unless that was said the last time.
    fn tell(&mut self, why: String) {
        if why != self.told {
            narrate(&why);
            self.told = why;
        }
    }

    fn now(&self) -> Moment {
        self.began.elapsed()
    }

    async fn keep(mut self, mut desk: Desk) -> Result<Exit, Failure> {
        loop {
            if let Some(signal) = self.wait(&mut desk).await {
                narrate(&format!("{signal}: the watch ends"));
                return Ok(self.last);
            }
            let look = self.watch.begin(self.now());
            let stage = Stage::new(Mutex::new(Phase::Looking));
            let (done, mut result) = oneshot::channel();
            let work = Work {
                settings: Arc::clone(&self.settings),
                faults: Arc::clone(&self.faults),
                stage: Arc::clone(&stage),
                look,
                is_first: !self.is_begun,
            };
            thread::Builder::new()
                .name("look".to_owned())
                .spawn(move || {
                    // Nobody waits for it where the watch has ended.
                    let _ = done.send(work.look(desk));
                })
                .map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
            let mut ended_by = None;
            let seen = loop {
                tokio::select! {
                    seen = &mut result => break seen,
                    signal = self.signals.next() => {
                        let mut phase = stage.lock().unwrap_or_else(PoisonError::into_inner);
                        ended_by = ended_by.or(Some(signal));
                        if let Phase::Running(to) = &*phase {
                            // A run that is over hears nothing, and need not.
                            let _ = to.send(signal);
                        } else {
                            *phase = Phase::Over;
                            narrate(&format!("{signal}: the watch ends"));
                            return Ok(self.last);
                        }
                    }
                }
            };
            // What a panic says is on stderr already.
            let Ok(seen) = seen else {
                return Ok(Exit::Internal);
            };
            desk = seen.desk;
            let was_tried = !matches!(seen.turn, Ok(Turn::Invalid));
            let came = self.judge(seen.turn, (desk.left, desk.doubts))?;
            let Some(came) = came.filter(|_| ended_by.is_none()) else {
                if let Some(signal) = ended_by {
                    narrate(&format!("{signal}: the watch ends"));
                }
                return Ok(self.last);
            };
            self.is_begun = true;
            let now = self.now();
            let of_age = seen.of_age.map(|at| {
                let wait = at.duration_since(SystemClock.now());
                Duration::try_from(wait).unwrap_or_default()
            });
            self.watch.ended(
                now,
                Looked {
                    came,
                    took: seen.took,
                    of_age,
                },
            );
            let wait = self.watch.retries_in(now);
            if let (true, Came::Left | Came::Barred, Some(wait)) = (was_tried, came, wait) {
                narrate(&format!("trying again in {}", friendly(wait)));
            }
        }
    }

    /// Waits until a look is due. A signal where one comes before.
    async fn wait(&mut self, desk: &mut Desk) -> Option<Signal> {
        loop {
            if desk.hints.as_mut().is_some_and(Hints::take) {
                self.watch.changed(self.now());
            }
            let left = self.watch.due().saturating_sub(self.now());
            if left.is_zero() {
                return None;
            }
            tokio::select! {
                signal = self.signals.next() => return Some(signal),
                () = tokio::time::sleep(left) => {}
                () = told(desk.hints.as_ref()) => {}
            }
        }
    }

    /// What a look means for the next one; none where there is to be none.
    fn judge(
        &mut self,
        turn: Result<Turn, Failure>,
        (left, doubt): (Left, Doubts),
    ) -> Result<Option<Came>, Failure> {
        let came = match turn {
            Ok(Turn::Idle) if left == Left::default() => {
                self.last = match doubt {
                    Doubts::Held => Exit::InDoubt,
                    Doubts::None => Exit::Done,
                };
                Came::Well
            }
            Ok(Turn::Idle) => {
                self.last = self.ran;
                Came::Untried
            }
            Ok(Turn::Locked) => Came::Barred,
            Ok(Turn::Invalid) if self.is_begun => {
                self.last = Exit::Invalid;
                self.tell("nothing is sent until that is mended".to_owned());
                return Ok(Some(Came::Left));
            }
            Ok(Turn::Invalid) => {
                self.last = Exit::Invalid;
                return Ok(None);
            }
            Ok(Turn::Ran(exit)) => {
                // All that was planned was done before the signal was.
                let is_done = matches!(exit, Exit::Interrupted(_)) && left == Left::default();
                self.ran = if is_done { Exit::Done } else { exit };
                self.last = self.ran;
                match exit {
                    Exit::Unavailable => Came::Barred,
                    Exit::Internal | Exit::LocalIo | Exit::Credentials => return Ok(None),
                    _ if left == Left::default() => Came::Well,
                    _ => Came::Left,
                }
            }
            Err(failure) => match failure.exit {
                Exit::Unavailable | Exit::Later => {
                    narrate(&failure.to_string());
                    self.last = failure.exit;
                    Came::Barred
                }
                // A var that `--set` names may be missing for as long as the manifest is written.
                Exit::Invalid | Exit::Usage if self.is_begun => {
                    self.tell(failure.to_string());
                    self.last = failure.exit;
                    return Ok(Some(Came::Left));
                }
                _ => return Err(failure),
            },
        };
        self.told.clear();
        Ok(Some(came))
    }
}

/// A time as people write it, in whole seconds where it has some.
fn friendly(time: Duration) -> String {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    let unit = if time >= SignedDuration::from_secs(1) {
        Unit::Second
    } else {
        Unit::Millisecond
    };
    let time = time.round(unit).unwrap_or(time);
    format!("{time:#}")
}

/// Returns when the system tells of a change, and a little later, as changes come in swarms.
async fn told(hints: Option<&Hints>) {
    let Some(hints) = hints else {
        return std::future::pending().await;
    };
    // tokio's own wrapper for any descriptor is unsafe to make; that of pipes waits just as well.
    let told = hints.as_fd().try_clone_to_owned();
    match told.and_then(Receiver::from_owned_fd_unchecked) {
        Ok(told) => {
            let _ = told.readable().await;
            tokio::time::sleep(TOGETHER).await;
        }
        // Without a descriptor to wait with, what was told is looked at now and then.
        Err(_) => tokio::time::sleep(UNHEARD).await,
    }
}
