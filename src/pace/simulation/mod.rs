//! A service and its clients on a virtual clock: what pacing comes to when everything that it
//! reacts to reacts to it. The clients ask [`Pace`] as the executor does; nothing sleeps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::number::real_size;
use super::*;

mod tests;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What the service allows.
#[derive(Debug, Clone)]
enum Allowance {
    /// Everything.
    Any,
    /// Tokens per second, and how many it saves.
    Tokens { rate: f64, burst: f64 },
    /// So many in any span of so many seconds, as Django REST Framework throttles.
    Sliding { count: usize, span: f64 },
    /// So many at once.
    AtOnce(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outage {
    /// No connection comes about.
    Unreachable,
    /// Everything is answered 503 before it is stored, also what is cheap.
    Answers5xx,
    /// The connection is lost in the middle of the body.
    Drops,
    /// As [`Outage::Answers5xx`], but what is cheap works.
    UploadsOnly,
}

/// How it slows down.
#[derive(Debug, Clone, Copy)]
enum Slowness {
    None,
    /// It works on so many at the same time: more than that wait their turn.
    Queue(usize),
    /// It takes twice as long while it has more than so many.
    Double(usize),
}

#[derive(Debug, Clone)]
struct Service {
    allowance: Allowance,
    retry_after: Option<Duration>,
    /// From when the allowance is another one.
    change: Option<(Duration, Allowance)>,
    /// Time to the answer in seconds, and the share of it that is left to chance.
    latency: f64,
    jitter: f64,
    slowness: Slowness,
    /// How widely times to the answer are spread (a log-normal distribution's sigma).
    spread: f64,
    outage: Option<(Duration, Duration, Outage)>,
    /// One in so many uploads breaks off for no reason.
    flaw: Option<u64>,
    tokens: f64,
    tokens_at: Duration,
    accepted: VecDeque<Duration>,
    in_flight: usize,
}

impl Service {
    fn new(allowance: Allowance, latency: f64) -> Self {
        let tokens = match allowance {
            Allowance::Tokens { burst, .. } => burst,
            _ => 0.0,
        };
        Self {
            allowance,
            retry_after: None,
            change: None,
            latency,
            jitter: 0.3,
            slowness: Slowness::None,
            spread: 0.0,
            outage: None,
            flaw: None,
            tokens,
            tokens_at: Duration::ZERO,
            accepted: VecDeque::new(),
            in_flight: 0,
        }
    }

    fn outage(&self, now: Duration) -> Option<Outage> {
        let (from, until, kind) = self.outage?;
        (from <= now && now < until).then_some(kind)
    }

    /// Takes a request, or refuses it and says how long to wait.
    fn take(&mut self, now: Duration) -> Result<(), Option<Duration>> {
        if let Some((at, _)) = self.change
            && at <= now
            && let Some((_, allowance)) = self.change.take()
        {
            self.allowance = allowance;
        }
        let is_allowed = match self.allowance {
            Allowance::Any => true,
            Allowance::Tokens { rate, burst } => {
                let passed = now.saturating_sub(self.tokens_at).as_secs_f64();
                self.tokens = (self.tokens + passed * rate).min(burst);
                self.tokens_at = now;
                let is_allowed = self.tokens >= 1.0;
                if is_allowed {
                    self.tokens -= 1.0;
                }
                is_allowed
            }
            Allowance::Sliding { count, span } => {
                let span = Duration::from_secs_f64(span);
                while self.accepted.front().is_some_and(|at| *at + span <= now) {
                    self.accepted.pop_front();
                }
                let is_allowed = self.accepted.len() < count;
                if is_allowed {
                    self.accepted.push_back(now);
                } else if let Some(first) = self.accepted.front() {
                    let wait = (*first + span).saturating_sub(now);
                    let asked = s(wait.as_secs() + 1);
                    return Err(self.retry_after.map(|_| asked));
                }
                is_allowed
            }
            Allowance::AtOnce(most) => self.in_flight < most,
        };
        if is_allowed {
            Ok(())
        } else {
            Err(self.retry_after)
        }
    }

    /// Seconds from the arrival to the answer.
    fn work(&self, chance: &mut fastrand::Rng) -> f64 {
        let queue = match self.slowness {
            Slowness::Queue(servers) => (real_size(self.in_flight) / real_size(servers)).max(1.0),
            // The way there and back does not take longer.
            Slowness::Double(past) if self.in_flight > past => 2.4,
            Slowness::None | Slowness::Double(_) => 1.0,
        };
        // Irwin and Hall's way to a normal distribution.
        let normal = (0..12).map(|_| chance.f64()).sum::<f64>() - 6.0;
        let spread = (normal * self.spread).exp();
        self.latency * queue * spread * (1.0 + self.jitter * (chance.f64() - 0.5))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Who is first at the door asks again.
    Ask,
    /// A request reaches the service.
    Arrive { job: usize, began: Duration },
    /// An attempt ends.
    End {
        job: usize,
        began: Duration,
        how: How,
    },
    /// A job has waited long enough for its next attempt.
    Again { job: usize },
    /// The probe ends.
    Probed(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    Stored,
    Refused(Option<Duration>),
    Failed,
}

/// Who is first at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Free,
    Sleeping,
    AwaitingEnd,
    Probing,
}

struct Simulation {
    pace: Pace,
    service: Service,
    chance: fastrand::Rng,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    number: u64,
    door: Door,
    queue: VecDeque<usize>,
    files: usize,
    in_hand_most: usize,
    in_hand: usize,
    next: usize,
    in_flight: usize,
    attempts: BTreeMap<usize, u32>,
    seen: Seen,
}

/// What was observed.
#[derive(Debug, Default)]
struct Seen {
    begun: Vec<Duration>,
    accepted: Vec<Duration>,
    refused: Vec<Duration>,
    failed_attempts: Vec<Duration>,
    probes: Vec<Duration>,
    stored: BTreeMap<usize, u32>,
    failed: Vec<usize>,
    windows: Vec<(Duration, usize)>,
    gave_up: Option<Duration>,
}

const MAX_ATTEMPTS: u32 = 5;
/// The executor's waits between attempts.
const BACKOFF: Backoff = Backoff {
    first: ms(500),
    most: s(30),
};

fn slots(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("some")
}

fn settings(concurrency: Concurrency) -> PaceSettings {
    PaceSettings {
        concurrency,
        rate: Schedule::always(None),
        bandwidth: Schedule::always(None),
        breaker: BreakerSettings::default(),
    }
}

impl Simulation {
    fn new(settings: PaceSettings, service: Service, files: usize, seed: u64) -> Self {
        let most = usize::try_from(settings.concurrency.max().get()).expect("it fits");
        Self {
            pace: Pace::new(settings, Time::midnight()),
            service,
            chance: fastrand::Rng::with_seed(seed),
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            number: 0,
            door: Door::Free,
            queue: VecDeque::new(),
            files,
            in_hand_most: most + most / 4,
            in_hand: 0,
            next: 0,
            in_flight: 0,
            attempts: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    fn run(mut self, until: Duration) -> Seen {
        self.go(until);
        self.seen
    }

    fn go(&mut self, until: Duration) -> &BTreeMap<usize, u32> {
        self.draw();
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > until || self.seen.gave_up.is_some() {
                break;
            }
            self.now = at;
            self.happen(event);
        }
        &self.attempts
    }

    /// Runs to the end of all files; also says the most attempts that one of them had.
    fn run_all(mut self, until: Duration) -> (Seen, u32) {
        let attempts = self.go(until).values().copied().max();
        (self.seen, attempts.unwrap_or(0))
    }

    fn plan(&mut self, wait: Duration, event: Event) {
        self.number += 1;
        let at = self.now + wait;
        self.events.push(Reverse((at, self.number, event)));
    }

    /// Takes jobs in hand.
    fn draw(&mut self) {
        while self.in_hand < self.in_hand_most && self.next < self.files {
            self.queue.push_back(self.next);
            self.next += 1;
            self.in_hand += 1;
        }
        if self.door == Door::Free {
            self.ask();
        }
    }

    fn ask(&mut self) {
        self.door = Door::Free;
        while let Some(job) = self.queue.front().copied() {
            match self.pace.may_begin(self.now, self.in_flight) {
                Begin::Now => {
                    self.queue.pop_front();
                    self.begin(job);
                }
                Begin::At(at) => {
                    assert!(at > self.now, "a wait that is none");
                    let late = self.chance.u64(0..2000);
                    let wait = at.saturating_sub(self.now) + Duration::from_micros(late);
                    self.plan(wait, Event::Ask);
                    self.door = Door::Sleeping;
                    return;
                }
                Begin::AfterAnEnd => {
                    assert!(self.in_flight > 0, "nothing is under way that could end");
                    self.door = Door::AwaitingEnd;
                    return;
                }
                Begin::Probe => {
                    self.seen.probes.push(self.now);
                    let is_up = matches!(
                        self.service.outage(self.now),
                        None | Some(Outage::UploadsOnly)
                    );
                    let wait = Duration::from_secs_f64(self.service.latency);
                    self.plan(wait, Event::Probed(is_up));
                    self.door = Door::Probing;
                    return;
                }
                Begin::GiveUp => {
                    self.seen.gave_up = Some(self.now);
                    return;
                }
            }
        }
    }

    fn begin(&mut self, job: usize) {
        let attempts = self.attempts.entry(job).or_default();
        *attempts += 1;
        self.in_flight += 1;
        self.seen.begun.push(self.now);
        self.seen.windows.push((self.now, self.pace.window()));
        let began = self.now;
        if self.service.outage(began) == Some(Outage::Unreachable) {
            self.plan(
                ms(5),
                Event::End {
                    job,
                    began,
                    how: How::Failed,
                },
            );
            return;
        }
        let way = self.service.latency * (0.2 + 0.2 * self.chance.f64());
        self.plan(Duration::from_secs_f64(way), Event::Arrive { job, began });
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ask => self.ask(),
            Event::Again { job } => {
                self.queue.push_back(job);
                self.draw();
            }
            Event::Probed(is_up) => {
                let health = if is_up { Health::Good } else { Health::Failing };
                let chance = self.chance.f64();
                self.pace.probe_result(self.now, health, chance);
                self.ask();
            }
            Event::Arrive { job, began } => self.arrive(job, began),
            Event::End { job, began, how } => self.end(job, began, how),
        }
    }

    fn arrive(&mut self, job: usize, began: Duration) {
        let fails = self.service.outage(self.now).is_some()
            || (self.service.flaw).is_some_and(|one_in| self.chance.u64(0..one_in) == 0);
        let back = Duration::from_secs_f64(self.service.latency * 0.3);
        if fails {
            self.plan(
                back,
                Event::End {
                    job,
                    began,
                    how: How::Failed,
                },
            );
            return;
        }
        match self.service.take(self.now) {
            Ok(()) => {
                self.service.in_flight += 1;
                let work = self.service.work(&mut self.chance);
                self.seen.accepted.push(self.now);
                let how = How::Stored;
                self.plan(
                    Duration::from_secs_f64(work * 0.7),
                    Event::End { job, began, how },
                );
            }
            Err(asked) => {
                self.seen.refused.push(self.now);
                let how = How::Refused(asked);
                self.plan(back, Event::End { job, began, how });
            }
        }
    }

    fn end(&mut self, job: usize, began: Duration, how: How) {
        self.in_flight -= 1;
        let took = self.now.saturating_sub(began);
        let signal = match how {
            How::Stored => {
                self.service.in_flight -= 1;
                Signal::good(1000, took)
            }
            How::Refused(retry_after) => Signal::Refused { retry_after },
            How::Failed => Signal::Failing,
        };
        let chance = self.chance.f64();
        self.pace.ended(self.now, began, signal, chance);
        let attempts = self.attempts[&job];
        let own = |attempt, chance| BACKOFF.wait(attempt, chance);
        let chance = self.chance.f64();
        let wait = match how {
            How::Stored => {
                *self.seen.stored.entry(job).or_default() += 1;
                None
            }
            How::Refused(Some(asked)) => Some(asked + own(1, chance)),
            How::Refused(None) => Some(own(attempts, chance)),
            How::Failed => {
                self.seen.failed_attempts.push(self.now);
                Some(own(attempts, chance))
            }
        };
        match wait {
            Some(wait) if attempts < MAX_ATTEMPTS => self.plan(wait, Event::Again { job }),
            Some(_) => {
                self.seen.failed.push(job);
                self.in_hand -= 1;
            }
            None => self.in_hand -= 1,
        }
        if self.door == Door::AwaitingEnd {
            self.ask();
        }
        self.draw();
    }
}

impl Seen {
    fn count(times: &[Duration], from: Duration, until: Duration) -> usize {
        times
            .iter()
            .filter(|at| (from..until).contains::<Duration>(at))
            .count()
    }

    /// The share of an allowed rate that was used.
    fn used(&self, from: Duration, until: Duration, rate: f64) -> f64 {
        let accepted = Self::count(&self.accepted, from, until);
        real_size(accepted) / (until.saturating_sub(from).as_secs_f64() * rate)
    }

    /// The share of all requests that were refused.
    fn refused_share(&self) -> f64 {
        real_size(self.refused.len()) / real_size(self.begun.len())
    }

    fn window_average(&self, from: Duration, until: Duration) -> f64 {
        let sizes = self
            .windows
            .iter()
            .filter(|(at, _)| (from..until).contains::<Duration>(at));
        let (sum, count) = sizes.fold((0.0, 0.0), |(sum, count), (_, size)| {
            (sum + real_size(*size), count + 1.0)
        });
        sum / count
    }
}
