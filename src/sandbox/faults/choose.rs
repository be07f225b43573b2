//! Which fault happens to what. No chance in it: the same seed and the same requests give the same faults.

use std::collections::HashMap;

use super::{Chance, Fault, Faults, On, Rule, Stage};

/// What asks whether something happens to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) stage: Stage,
    pub(super) is_upload: bool,
    /// The file's name where it is known.
    pub(super) file: Option<&'a str>,
    /// Seconds since the server's start.
    pub(super) clock: f64,
}

/// A plan and what it has seen so far.
#[derive(Debug)]
pub(super) struct Chooser {
    seed: u64,
    rules: Vec<(Rule, Seen)>,
}

#[derive(Debug, Default)]
struct Seen {
    all: u64,
    by_name: HashMap<String, u64>,
    hits: u64,
    bucket: Option<Bucket>,
}

/// A token bucket that holds a second's worth, and at least one.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled_at: f64,
}

impl Chooser {
    pub(super) fn new(faults: Faults) -> Self {
        Self {
            seed: faults.seed,
            rules: faults
                .rules
                .into_iter()
                .map(|rule| (rule, Seen::default()))
                .collect(),
        }
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|(rule, _)| rule)
    }

    /// The first fault of the plan that happens here, with its place in the plan.
    pub(super) fn choose(&mut self, asking: Asking<'_>) -> Option<(usize, Fault)> {
        let seed = self.seed;
        self.rules
            .iter_mut()
            .enumerate()
            .find_map(|(at, (rule, seen))| {
                (is_meant(rule, asking) && happens(seed, at, rule, seen, asking))
                    .then(|| (at, rule.fault.clone()))
            })
    }
}

fn is_meant(rule: &Rule, asking: Asking<'_>) -> bool {
    let stage = rule.kind.stage;
    let is_time = stage == asking.stage || (stage, asking.stage) == (Stage::Receipt, Stage::Body);
    let by_kind =
        asking.stage == Stage::Connection || asking.is_upload || rule.on == On::AnyRequest;
    let by_name = match (&rule.file, asking.file) {
        (Some(glob), Some(name)) => glob.is_match(name),
        (Some(_), None) => false,
        (None, _) => true,
    };
    is_time && by_kind && by_name
}

fn happens(key: u64, at: usize, rule: &Rule, seen: &mut Seen, asking: Asking<'_>) -> bool {
    if let Fault::RateLimit { per_second, .. } = rule.fault {
        return !take_token(&mut seen.bucket, per_second, asking.clock);
    }
    let hit = match rule.chance {
        Chance::Always => true,
        Chance::First(count) => seen.hits < count,
        Chance::Share(share) => {
            let times = match asking.file {
                Some(name) => seen.by_name.entry(name.to_owned()).or_default(),
                None => &mut seen.all,
            };
            *times += 1;
            draw(key, at, asking.file, *times) < share
        }
    };
    seen.hits += u64::from(hit);
    hit
}

/// A number from 0 up to 1 that depends on nothing else.
fn draw(seed: u64, at: usize, file: Option<&str>, times: u64) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(at as u64).to_le_bytes());
    hasher.update(&times.to_le_bytes());
    hasher.update(&[u8::from(file.is_some())]);
    hasher.update(file.unwrap_or_default().as_bytes());
    let mut bytes = [0; 4];
    hasher.finalize_xof().fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

fn take_token(bucket: &mut Option<Bucket>, per_second: f64, clock: f64) -> bool {
    let most = per_second.max(1.0);
    let before = bucket.unwrap_or(Bucket {
        tokens: most,
        filled_at: clock,
    });
    let tokens = (before.tokens + (clock - before.filled_at) * per_second).min(most);
    let taken = tokens >= 1.0;
    *bucket = Some(Bucket {
        tokens: if taken { tokens - 1.0 } else { tokens },
        filled_at: clock,
    });
    taken
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn chooser(yaml: &str) -> Chooser {
        Chooser::new(Faults::parse(yaml).unwrap())
    }

    fn upload(file: &str) -> Asking<'_> {
        Asking {
            stage: Stage::Body,
            is_upload: true,
            file: Some(file),
            clock: 0.0,
        }
    }

    fn hits<'a>(
        chooser: &mut Chooser,
        files: impl Iterator<Item = &'a str>,
    ) -> Vec<(String, bool)> {
        let mut all: Vec<_> = files
            .map(|file| (file.to_owned(), chooser.choose(upload(file)).is_some()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn the_order_of_arrival_changes_nothing() {
        let plan = "seed: 5\nfaults:\n- {fault: missing_id, probability: 0.5}";
        let names: Vec<String> = (0..200)
            .map(|number| format!("{}.txt", number % 70))
            .collect();
        let forward = hits(&mut chooser(plan), names.iter().map(String::as_str));
        let backward = hits(&mut chooser(plan), names.iter().rev().map(String::as_str));
        assert_eq!(forward, backward);
        let count = forward.iter().filter(|(_, hit)| *hit).count();
        assert!((70..130).contains(&count), "{count} of 200");
    }

    #[test]
    fn another_seed_gives_other_faults() {
        let of = |seed: u64| {
            let plan = format!("seed: {seed}\nfaults:\n- {{fault: missing_id, probability: 0.5}}");
            let names: Vec<String> = (0..50).map(|number| number.to_string()).collect();
            hits(&mut chooser(&plan), names.iter().map(String::as_str))
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn a_count_is_used_up_by_what_matches_only() {
        let mut chooser = chooser("faults:\n- {fault: missing_id, count: 2, file: '**.pdf'}");
        let found = ["a.txt", "a.pdf", "b.txt", "b.pdf", "c.pdf"]
            .map(|file| chooser.choose(upload(file)).is_some());
        assert_eq!(found, [false, true, false, true, false]);
    }

    #[test]
    fn the_first_of_several_faults_wins_and_the_next_has_its_turn_when_that_is_used_up() {
        let mut chooser =
            chooser("faults:\n- {fault: missing_id, count: 1}\n- {fault: null_id, count: 1}");
        let found = ["a", "b", "c"].map(|file| chooser.choose(upload(file)).map(|(at, _)| at));
        assert_eq!(found, [Some(0), Some(1), None]);
    }

    #[test]
    fn requests_that_upload_nothing_are_hit_only_when_the_plan_says_any() {
        let look = Asking {
            stage: Stage::Body,
            is_upload: false,
            file: None,
            clock: 0.0,
        };
        let mut only_uploads = chooser("faults:\n- {fault: empty_answer}");
        assert!(only_uploads.choose(look).is_none());
        let mut any = chooser("faults:\n- {fault: empty_answer, on: any}");
        assert!(any.choose(look).is_some());
    }

    #[test]
    fn a_bucket_lets_a_burst_through_and_then_its_rate() {
        let mut chooser = chooser("faults:\n- {fault: rate_limit, rate: 2/s}");
        let mut at = |clock: f64| {
            let asking = Asking {
                stage: Stage::Head,
                is_upload: true,
                file: None,
                clock,
            };
            chooser.choose(asking).is_some()
        };
        let found = [0.0, 0.0, 0.0, 0.4, 0.5, 0.6, 9.0, 9.0, 9.0].map(&mut at);
        assert_eq!(
            found,
            [false, false, true, true, false, true, false, false, true]
        );
    }
}
