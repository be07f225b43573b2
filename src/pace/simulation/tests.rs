use super::*;

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
    let outcome = Simulation::new(settings(concurrency), service, usize::MAX, seed).run(half * 2);
    assert!(
        outcome.failed.is_empty(),
        "{what}: {} failed",
        outcome.failed.len()
    );
    assert!(outcome.stored.values().all(|times| *times == 1), "{what}");
    // A minute's worth is taken at the start, and counts for that minute.
    let start = if is_sliding { s(0) } else { s(5) };
    let used = Use {
        first: outcome.used(start, half, rate),
        second: outcome.used(half + s(5), half * 2, then),
        refused: outcome.refused_share(),
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

fn lines(runs: &[Use]) -> String {
    let lines: Vec<&str> = runs.iter().map(|used| used.what.as_str()).collect();
    lines.join("\n")
}

const HALF: Duration = s(120);

const ADAPTIVE: Concurrency = Concurrency::Adaptive(NonZeroU32::new(64).expect("some"));
const FIXED: Concurrency = Concurrency::Fixed(NonZeroU32::new(64).expect("some"));

#[test]
fn a_rate_that_the_service_allows_and_halves_is_found_and_used() {
    let mut runs = Vec::new();
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
                    runs.push(use_of(concurrency, service, rates, HALF, seed));
                }
            }
        }
    }
    assert!(runs.iter().all(Use::is_good), "{}", lines(&runs));
}

#[test]
fn a_limit_that_saves_little_or_much_is_used_all_the_same() {
    let mut runs = Vec::new();
    let mut is_good = true;
    // Where it saves next to nothing, chance makes requests come too early for it.
    for (burst, least) in [(2.0, 0.6), (10.0, 0.9), (300.0, 0.9)] {
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
                runs.push(used);
            }
        }
    }
    assert!(is_good, "{}", lines(&runs));
}

#[test]
fn a_throttle_by_the_minute_is_used() {
    let mut runs = Vec::new();
    for retry_after in [Some(s(1)), None] {
        for seed in 1..=3 {
            let sliding = |count| Allowance::Sliding { count, span: 60.0 };
            let service = Service {
                retry_after,
                change: Some((HALF * 4, sliding(300))),
                ..Service::new(sliding(600), 0.2)
            };
            runs.push(use_of(ADAPTIVE, service, (10.0, 5.0), HALF * 4, seed));
        }
    }
    let is_good = |used: &Use| used.is_at_least(0.75, 0.03);
    assert!(runs.iter().all(is_good), "{}", lines(&runs));
}

#[test]
fn a_limit_to_what_is_worked_on_at_once_is_used() {
    let mut runs = Vec::new();
    for retry_after in [Some(s(1)), None] {
        for seed in 1..=3 {
            let service = Service {
                retry_after,
                ..Service::new(Allowance::AtOnce(16), 0.2)
            };
            // What the service works on is there for a part of the time to the answer only.
            let most = 16.0 / (0.2 * 0.7);
            runs.push(use_of(ADAPTIVE, service, (most, most), HALF, seed));
        }
    }
    let is_good = |used: &Use| used.is_at_least(0.6, 0.02);
    assert!(runs.iter().all(is_good), "{}", lines(&runs));
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
    let mut out = Vec::new();
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
                out.push(format!(
                    "{latency} s, {slowness:?}, {spread}: {window:.1}, {all}/s"
                ));
                is_good &= near.contains(&window);
            }
        }
    }
    assert!(is_good, "{out:#?}");
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
    let mut out = Vec::new();
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
                    out.push(format!(
                        "{outage:?}, {concurrency:?}: {uploads} uploads and {probes} probes, \
                         {most} attempts at most, {failed} failed, the last began at {last:?}"
                    ));
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
    assert!(is_good, "{out:#?}");
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
    let mut out = Vec::new();
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
                out.push(format!(
                    "{concurrency:?}, one in {one_in}: {last:?}, {} failed, {probes} probes",
                    seen.failed.len()
                ));
                is_good &= seen.failed.is_empty() && seen.gave_up.is_none() && probes <= 3;
                is_good &= concurrency == ADAPTIVE || last < s(100);
            }
        }
    }
    assert!(is_good, "{out:#?}");
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
