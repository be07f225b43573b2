//! A service and its clients on a virtual clock: what pacing comes to when everything that it
//! reacts to reacts to it. The clients ask [`Pace`] as the executor does; nothing sleeps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::number::real_size;
use super::*;

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
            Slowness::None => 1.0,
            Slowness::Queue(servers) => (real_size(self.in_flight) / real_size(servers)).max(1.0),
            // The way there and back does not take longer.
            Slowness::Double(past) if self.in_flight > past => 2.4,
            Slowness::Double(_) => 1.0,
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
                    let wait = (at - self.now) + Duration::from_micros(late);
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
        let took = self.now - began;
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
        times.iter().filter(|at| (from..until).contains(at)).count()
    }

    /// The share of an allowed rate that was used.
    fn used(&self, from: Duration, until: Duration, rate: f64) -> f64 {
        let accepted = Self::count(&self.accepted, from, until);
        real_size(accepted) / ((until - from).as_secs_f64() * rate)
    }

    /// The share of all requests that were refused.
    fn refused_share(&self) -> f64 {
        real_size(self.refused.len()) / real_size(self.begun.len())
    }

    fn window_average(&self, from: Duration, until: Duration) -> f64 {
        let sizes = self
            .windows
            .iter()
            .filter(|(at, _)| (from..until).contains(at));
        let (sum, count) = sizes.fold((0.0, 0.0), |(sum, count), (_, size)| {
            (sum + real_size(*size), count + 1.0)
        });
        sum / count
    }
}

/// How a service with a limit was used: each half of the run, and what was refused overall.
struct Use {
    first: f64,
    second: f64,
    refused: f64,
    what: String,
}

impl Use {
    fn is_good(&self) -> bool {
        self.is_at_least(0.9, 0.02)
    }

    fn is_at_least(&self, used: f64, refused: f64) -> bool {
        self.first >= used && self.second >= used && self.refused < refused
    }
}

/// Runs against a service that allows `rate` and, after `half`, `then`. Start-up and the time right
/// after the change do not count for the use, but for the refusals.
fn use_of(
    concurrency: Concurrency,
    service: Service,
    (rate, then): (f64, f64),
    half: Duration,
    seed: u64,
) -> Use {
    let what = format!(
        "{concurrency:?} at {rate}/s then {then}/s, {} s, {:?}, {:?}, seed {seed}",
        service.latency, service.retry_after, service.allowance
    );
    let is_sliding = matches!(service.allowance, Allowance::Sliding { .. });
    let seen = Simulation::new(settings(concurrency), service, usize::MAX, seed).run(half * 2);
    assert!(
        seen.failed.is_empty(),
        "{what}: {} failed",
        seen.failed.len()
    );
    assert!(seen.stored.values().all(|times| *times == 1), "{what}");
    // A minute's worth is taken at the start, and counts for that minute.
    let start = if is_sliding { s(0) } else { s(5) };
    let used = Use {
        first: seen.used(start, half, rate),
        second: seen.used(half + s(5), half * 2, then),
        refused: seen.refused_share(),
        what: String::new(),
    };
    Use {
        what: format!(
            "{what}: {:.3} and {:.3} used, {:.4} refused",
            used.first, used.second, used.refused
        ),
        ..used
    }
}

fn lines(uses: &[Use]) -> String {
    let lines: Vec<&str> = uses.iter().map(|used| used.what.as_str()).collect();
    lines.join("\n")
}

const HALF: Duration = s(120);

const ADAPTIVE: Concurrency = Concurrency::Adaptive(NonZeroU32::new(64).expect("some"));
const FIXED: Concurrency = Concurrency::Fixed(NonZeroU32::new(64).expect("some"));

#[test]
fn a_rate_that_the_service_allows_and_halves_is_found_and_used() {
    let mut uses = Vec::new();
    let tokens = |rate| Allowance::Tokens { rate, burst: rate };
    for concurrency in [ADAPTIVE, FIXED] {
        for (rate, latency) in [
            (20.0, 0.1),
            (20.0, 0.5),
            (50.0, 0.05),
            (50.0, 0.3),
            (100.0, 0.2),
            (200.0, 0.1),
        ] {
            for retry_after in [Some(s(1)), None] {
                for seed in 1..=3 {
                    let service = Service {
                        retry_after,
                        change: Some((HALF, tokens(rate / 2.0))),
                        ..Service::new(tokens(rate), latency)
                    };
                    let rates = (rate, rate / 2.0);
                    uses.push(use_of(concurrency, service, rates, HALF, seed));
                }
            }
        }
    }
    assert!(uses.iter().all(Use::is_good), "{}", lines(&uses));
}

#[test]
fn a_limit_that_saves_little_or_much_is_used_all_the_same() {
    let mut uses = Vec::new();
    let mut is_good = true;
    // Where it saves next to nothing, chance makes requests come too early for it.
    for (burst, least) in [(2.0, 0.5), (10.0, 0.75), (300.0, 0.9)] {
        for retry_after in [Some(s(1)), None] {
            for seed in 1..=3 {
                let tokens = |rate| Allowance::Tokens { rate, burst };
                let service = Service {
                    retry_after,
                    change: Some((HALF * 2, tokens(20.0))),
                    ..Service::new(tokens(40.0), 0.2)
                };
                let used = use_of(ADAPTIVE, service, (40.0, 20.0), HALF * 2, seed);
                is_good &= used.is_at_least(least, 0.02);
                uses.push(used);
            }
        }
    }
    assert!(is_good, "{}", lines(&uses));
}

#[test]
fn a_throttle_by_the_minute_is_used() {
    let mut uses = Vec::new();
    for retry_after in [Some(s(1)), None] {
        for seed in 1..=3 {
            let sliding = |count| Allowance::Sliding { count, span: 60.0 };
            let service = Service {
                retry_after,
                change: Some((HALF * 4, sliding(300))),
                ..Service::new(sliding(600), 0.2)
            };
            uses.push(use_of(ADAPTIVE, service, (10.0, 5.0), HALF * 4, seed));
        }
    }
    let is_good = |used: &Use| used.is_at_least(0.75, 0.03);
    assert!(uses.iter().all(is_good), "{}", lines(&uses));
}

#[test]
fn a_limit_to_what_is_worked_on_at_once_is_used() {
    let mut uses = Vec::new();
    for retry_after in [Some(s(1)), None] {
        for seed in 1..=3 {
            let service = Service {
                retry_after,
                ..Service::new(Allowance::AtOnce(16), 0.2)
            };
            // What the service works on is there for a part of the time to the answer only.
            let most = 16.0 / (0.2 * 0.7);
            uses.push(use_of(ADAPTIVE, service, (most, most), HALF, seed));
        }
    }
    let is_good = |used: &Use| used.is_at_least(0.45, 0.02);
    assert!(uses.iter().all(is_good), "{}", lines(&uses));
}

#[test]
fn a_limit_that_is_lifted_is_noticed_within_minutes() {
    for seed in 1..=3 {
        let tokens = |rate| Allowance::Tokens { rate, burst: rate };
        let service = Service {
            retry_after: Some(s(1)),
            change: Some((HALF, tokens(80.0))),
            ..Service::new(tokens(20.0), 0.2)
        };
        let seen = Simulation::new(settings(ADAPTIVE), service, usize::MAX, seed).run(s(480));
        let used = seen.used(s(300), s(480), 80.0);
        assert!(used >= 0.9, "seed {seed}: {used:.3} used");
        assert!(seen.refused_share() < 0.02, "seed {seed}");
    }
}

#[test]
fn the_window_settles_near_where_the_service_slows_down() {
    let mut out = String::new();
    let mut is_good = true;
    for latency in [0.1, 0.3, 1.0] {
        for (slowness, near) in [
            (Slowness::Double(16), 12.0..=26.0),
            // Besides what it works on, some are on their way to it and back.
            (Slowness::Queue(16), 20.0..=45.0),
            (Slowness::None, 60.0..=64.0),
        ] {
            for spread in [0.0, 0.3, 0.6] {
                let service = Service {
                    slowness,
                    spread,
                    ..Service::new(Allowance::Any, latency)
                };
                let seen = Simulation::new(settings(ADAPTIVE), service, usize::MAX, 1).run(s(300));
                let window = seen.window_average(s(60), s(300));
                let all = Seen::count(&seen.accepted, s(60), s(300)) / 240;
                out += &format!("{latency} s, {slowness:?}, {spread}: {window:.1}, {all}/s\n");
                is_good &= near.contains(&window);
            }
        }
    }
    assert!(is_good, "{out}");
}

const OUTAGE: (Duration, Duration) = (s(2), s(2 + 600));

/// Sends 2,000 files in 20 seconds, between which lies an outage of ten minutes.
fn through_an_outage(concurrency: Concurrency, outage: Outage, seed: u64) -> (Seen, u32) {
    let size = f64::from(concurrency.max().get());
    let service = Service {
        outage: Some((OUTAGE.0, OUTAGE.1, outage)),
        ..Service::new(Allowance::Any, size / 100.0)
    };
    Simulation::new(settings(concurrency), service, 2000, seed).run_all(s(3600))
}

#[test]
fn an_outage_of_ten_minutes_costs_a_few_requests_and_no_file() {
    let mut out = String::new();
    let mut is_good = true;
    for outage in [
        Outage::Unreachable,
        Outage::Answers5xx,
        Outage::Drops,
        Outage::UploadsOnly,
    ] {
        for size in [1, 4, 16, 64] {
            for concurrency in [Concurrency::Fixed, Concurrency::Adaptive] {
                for seed in 1..=3 {
                    let concurrency = concurrency(slots(size));
                    let (seen, most) = through_an_outage(concurrency, outage, seed);
                    let uploads = Seen::count(&seen.begun, OUTAGE.0, OUTAGE.1);
                    let probes = seen.probes.len();
                    let last = seen.begun.last().copied().unwrap_or_default();
                    let failed = seen.failed.len();
                    out += &format!(
                        "{outage:?}, {concurrency:?}: {uploads} uploads and {probes} probes, \
                         {most} attempts at most, {failed} failed, the last began at {last:?}\n"
                    );
                    is_good &= seen.stored.values().all(|times| *times == 1);
                    is_good &= seen.stored.len() + failed == 2000 && most <= MAX_ATTEMPTS;
                    is_good &= seen.gave_up.is_none() && probes <= 22;
                    // An outage that only uploads see takes trials, and those are attempts of the
                    // few files that are in hand.
                    let (trials, spent) = match (outage, size) {
                        (Outage::UploadsOnly, 1 | 4) => (20, 5),
                        (Outage::UploadsOnly, _) => (20, 0),
                        _ => (0, 0),
                    };
                    let size = usize::try_from(size).expect("it fits");
                    is_good &= uploads <= size * 2 + 4 + trials && failed <= spent;
                    is_good &= last < OUTAGE.1 + s(60 + 60);
                }
            }
        }
    }
    assert!(is_good, "{out}");
}

#[test]
fn an_outage_that_does_not_end_is_given_up() {
    for outage in [Outage::Unreachable, Outage::Answers5xx, Outage::UploadsOnly] {
        for seed in 1..=3 {
            let service = Service {
                outage: Some((s(10), s(10_000), outage)),
                ..Service::new(Allowance::Any, 0.2)
            };
            let seen = Simulation::new(settings(ADAPTIVE), service, 20_000, seed).run(s(3600));
            let gave_up = seen.gave_up.expect("it gives up").as_secs();
            assert!((910..=912).contains(&gave_up), "{outage:?}: {gave_up} s");
            assert!(seen.failed.is_empty(), "{outage:?}");
        }
    }
}

#[test]
fn some_lost_connections_are_no_outage() {
    let mut out = String::new();
    let mut is_good = true;
    for concurrency in [ADAPTIVE, FIXED] {
        for one_in in [10, 100] {
            for seed in 1..=3 {
                let service = Service {
                    flaw: Some(one_in),
                    ..Service::new(Allowance::Any, 0.2)
                };
                let seen =
                    Simulation::new(settings(concurrency), service, 20_000, seed).run(s(3600));
                let last = seen.begun.last().copied().unwrap_or_default();
                let probes = seen.probes.len();
                out += &format!(
                    "{concurrency:?}, one in {one_in}: {last:?}, {} failed, {probes} probes\n",
                    seen.failed.len()
                );
                is_good &= seen.failed.is_empty() && seen.gave_up.is_none() && probes <= 3;
                is_good &= concurrency == ADAPTIVE || last < s(100);
            }
        }
    }
    assert!(is_good, "{out}");
}

#[test]
fn a_configured_rate_is_kept_to_the_request() {
    let rate = Rate::parse("50/s").expect("a rate");
    for concurrency in [FIXED, ADAPTIVE] {
        let settings = PaceSettings {
            rate: Schedule::always(rate),
            ..settings(concurrency)
        };
        let service = Service::new(Allowance::Any, 0.3);
        let seen = Simulation::new(settings, service, usize::MAX, 7).run(s(120));
        let most = seen
            .begun
            .iter()
            .map(|from| Seen::count(&seen.begun, *from, *from + s(1)))
            .max();
        assert_eq!(most, Some(51));
        let all = Seen::count(&seen.begun, s(20), s(120));
        assert!((4999..=5001).contains(&all), "{all}");
    }
}
