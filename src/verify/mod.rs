//! Settles doubt: reads the dataset's listing and says what is certain.
//!
//! An upload that was sent whole and got no clear answer may be stored. The listing tells, where
//! there is one: a file that carries the attempt's id, or the one file whose name, size, time and
//! hash match, is it; a file that a listing known to be telling does not show in two readings, a
//! settle time apart, is not stored. Everything else stays in doubt.

mod calibrate;
mod hash;
mod judge;
mod name;
mod reading;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::client::{Client, ListError, Listed, Page};
use crate::model::{
    AttemptId, Clock, DatasetId, Digest, Doubt, FileId, RemoteName, SourcePath, StoredName, Target,
};

pub use self::calibrate::{Calibration, Marks, Sample, Search, ShownMetadata, Shows};
pub use self::hash::{Algorithm, Hashes};
pub use self::judge::{Evidence, Rivals, Sight, judge};
pub use self::reading::{Coverage, Reading, Scope};

use self::calibrate::recognise;
use self::name::Term;
use self::reading::{Next, Pages};

/// Pages read of what a search finds.
const SEARCH_PAGES_MAX: u32 = 20;

/// Pages read of a whole listing, which is read once for all files in doubt.
const EVERYTHING_PAGES_MAX: u32 = 500;

/// Times that a whole listing is read before one with gaps must do.
const EVERYTHING_TRIES_MAX: u32 = 3;

/// Pages read to find a sample.
const SAMPLE_PAGES_MAX: u32 = 5;

/// Samples looked for in a target.
const SAMPLES_MAX: usize = 3;

/// Tries for one page.
const TRIES_MAX: u32 = 3;

/// Whether a file of this name can prove that a search finds names by what they contain.
#[must_use]
pub fn tells(remote_name: &str) -> bool {
    let name = RemoteName::new(remote_name).map(|name| name.stored());
    let term = name.ok().and_then(|name| Term::of(&name));
    term.is_some_and(|term| term.probe().is_some())
}

/// Reads files that lie here.
pub trait LocalFiles: Send + Sync + fmt::Debug {
    /// Hashes a file under these algorithms; none where it cannot be read. Blocks, and is called
    /// where that does no harm. Which bytes were hashed is judged by the BLAKE3 digest, not here.
    fn hashes(&self, path: &SourcePath, algorithms: &[Algorithm]) -> Option<Hashes>;
}

/// Everything that verifying needs.
pub struct Parts<'a> {
    /// To read listings with.
    pub client: &'a Client,
    /// The time.
    pub clock: &'a dyn Clock,
    /// How far two readings that show no file must lie apart before it counts as not stored.
    pub settle: Duration,
    /// The wait before a page is asked for again; twice that before a third time.
    pub backoff: Duration,
    /// To hash local files with.
    pub files: Arc<dyn LocalFiles>,
    /// A few files known to be stored in a target, smallest first. Names of six letters and more
    /// tell most.
    pub samples: &'a dyn Fn(&Target) -> Vec<Sample>,
    /// Whether a target's file is known to be that of an attempt which is not in doubt, be it of
    /// another file or an earlier one of the same.
    pub known: &'a dyn Fn(&Target, &FileId) -> bool,
    /// Every attempt to a target whose gate is open and whose end is not known: all doubts, and
    /// what is on its way.
    pub open: &'a dyn Fn(&Target) -> Vec<Doubt>,
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parts({:?}, settle {:?})", self.client, self.settle)
    }
}

/// Looks for files in doubt. Remembers what it learnt of each target's listing.
#[derive(Debug)]
pub struct Verifier<'a> {
    parts: Parts<'a>,
    /// Targets without a listing, and why.
    without: RefCell<HashMap<Target, String>>,
    /// Targets whose listing could not be read in this pass, and why.
    failing: RefCell<HashMap<Target, String>>,
    calibrations: RefCell<HashMap<Target, Calibration>>,
    /// Whole listings read in this pass, and how often that was tried.
    everything: RefCell<HashMap<Target, (Rc<Read>, u32)>>,
    /// The hashes of files in doubt.
    own: RefCell<HashMap<(AttemptId, Algorithm), Vec<u8>>>,
    /// Files found to be those of attempts, which no other attempt may claim.
    adopted: RefCell<HashMap<(Target, FileId), AttemptId>>,
}

/// A reading, and when it was made.
#[derive(Debug)]
struct Read {
    reading: Reading,
    span: Span,
}

/// From the first request to the last answer.
#[derive(Debug, Clone, Copy)]
struct Span {
    begun: Timestamp,
    ended: Timestamp,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It is stored.
    Stored {
        /// Its id.
        id: FileId,
        /// What proves it.
        how: String,
    },
    /// It is not stored: it was absent in two readings, a settle time apart.
    NotStored {
        /// What proves it.
        how: String,
    },
    /// It is absent in this reading: look again.
    AbsentSince {
        /// The first reading that showed it absent.
        since: Timestamp,
        /// When another look can settle it.
        again: Timestamp,
    },
    /// Nothing is certain: why. An absence noted earlier counts no more.
    Held(String),
    /// The service does not accept the key: what it said. No listing can be read.
    KeyRefused(String),
}

impl<'a> Verifier<'a> {
    /// A verifier that knows nothing of any listing yet.
    #[must_use]
    pub fn new(parts: Parts<'a>) -> Self {
        Self {
            parts,
            without: RefCell::default(),
            failing: RefCell::default(),
            calibrations: RefCell::default(),
            everything: RefCell::default(),
            own: RefCell::default(),
            adopted: RefCell::default(),
        }
    }

    /// Begins another round of looks: whole listings, and those that could not be read, are read
    /// again.
    pub fn begin_pass(&self) {
        self.failing.borrow_mut().clear();
        self.everything.borrow_mut().clear();
    }

    /// Reads the listing and says what is certain by then. A whole listing serves all files that
    /// were in doubt before it was read.
    pub async fn look(&self, doubt: &Doubt) -> Look {
        let target = &doubt.target;
        let Some(dataset) = &target.dataset_id else {
            return Look::Held(
                "only the files of a dataset that the manifest names can be listed; settle it by hand \
                 with `resolve`"
                    .to_owned(),
            );
        };
        if let Some(why) = self.without.borrow().get(target) {
            return Look::Held(why.clone());
        }
        // One broken listing is not waited for once for each file.
        if let Some(why) = self.failing.borrow().get(target) {
            return Look::Held(why.clone());
        }
        let Ok(name) = RemoteName::new(&doubt.remote_name).map(|name| name.stored()) else {
            return Look::Held(
                "the name it was sent under is none that the service would store".to_owned(),
            );
        };
        match self.sight(doubt, &name, dataset).await {
            Ok((Sight::Stored { id, how }, _)) => {
                self.adopted
                    .borrow_mut()
                    .insert((target.clone(), id.clone()), doubt.attempt.clone());
                Look::Stored { id, how }
            }
            Ok((Sight::Absent, span)) => absent(doubt, self.parts.settle, span),
            Ok((Sight::Unclear(why), _)) => Look::Held(why),
            Err(ListError::Absent(why)) => {
                let why = format!("the service has no file listing for {target} ({why})");
                self.without
                    .borrow_mut()
                    .insert(target.clone(), why.clone());
                Look::Held(why)
            }
            Err(ListError::Unauthenticated(why)) => Look::KeyRefused(why),
            Err(ListError::Refused(why)) => Look::Held(format!(
                "the API key may not list the files of {target} ({why})"
            )),
            Err(ListError::Unreadable(why)) => {
                let why = format!("the file listing cannot be read now ({why})");
                self.failing
                    .borrow_mut()
                    .insert(target.clone(), why.clone());
                Look::Held(why)
            }
        }
    }

    async fn sight(
        &self,
        doubt: &Doubt,
        name: &StoredName,
        dataset: &DatasetId,
    ) -> Result<(Sight, Span), ListError> {
        let mut calibration = self.calibration(&doubt.target, dataset).await?;
        let mut found = Vec::new();
        let known = self.everything_known(doubt);
        let is_known = known.is_some_and(|read| read.reading.coverage == Coverage::Complete);
        if let Some(term) = Term::of(name)
            && !(is_known && calibration.search == Search::Unproven)
        {
            let search = Some(term.as_str());
            let read = self.read(dataset, search, SEARCH_PAGES_MAX).await?;
            let sight = self.judged(doubt, name, calibration, &read, &[]).await;
            let settled = matches!(sight, Sight::Stored { .. });
            if settled || calibration.search == Search::Proven {
                return Ok((sight, read.span));
            }
            found = read.reading.entries;
        }
        let everything = self.everything(doubt, dataset).await?;
        self.learn_from(&doubt.target, &mut calibration, &everything.reading)
            .await;
        let sight = self.judged(doubt, name, calibration, &everything, &found);
        Ok((sight.await, everything.span))
    }

    /// The whole listing, where this pass has read it since the file came into doubt.
    fn everything_known(&self, doubt: &Doubt) -> Option<Rc<Read>> {
        let everything = self.everything.borrow();
        let (read, tries) = everything.get(&doubt.target)?;
        let is_whole = read.reading.coverage == Coverage::Complete;
        let is_final = is_whole || *tries >= EVERYTHING_TRIES_MAX;
        (is_final && doubt.since < read.span.begun).then(|| Rc::clone(read))
    }

    /// The whole listing, as it was read since the file came into doubt. Files that come and go
    /// while it is read are no reason to hold all that are in doubt: then it is read again.
    async fn everything(&self, doubt: &Doubt, dataset: &DatasetId) -> Result<Rc<Read>, ListError> {
        if let Some(read) = self.everything_known(doubt) {
            return Ok(read);
        }
        let read = Rc::new(self.read(dataset, None, EVERYTHING_PAGES_MAX).await?);
        let mut everything = self.everything.borrow_mut();
        let tries = everything
            .get(&doubt.target)
            .map_or(1, |(_, tries)| tries + 1);
        everything.insert(doubt.target.clone(), (Rc::clone(&read), tries));
        Ok(read)
    }

    /// Judges a reading; hashes the file in doubt only where that can make a difference.
    async fn judged(
        &self,
        doubt: &Doubt,
        name: &StoredName,
        calibration: Calibration,
        read: &Read,
        found: &[Listed],
    ) -> Sight {
        let open = (self.parts.open)(&doubt.target);
        let known = |id: &FileId| self.is_anothers(doubt, id);
        let mut evidence = Evidence {
            doubt,
            name,
            reading: &read.reading,
            found,
            now: read.span.begun,
            calibration,
            own: None,
            known: &known,
            rivals: Rivals::among(&open, doubt),
        };
        let sight = judge(&evidence);
        let Sight::Unclear(_) = sight else {
            return sight;
        };
        let own = match calibration.algorithm {
            Some(algorithm) => self.own_hash(doubt, algorithm).await,
            None => None,
        };
        if own.is_none() {
            return sight;
        }
        evidence.own = own.as_deref();
        judge(&evidence)
    }

    fn is_anothers(&self, doubt: &Doubt, id: &FileId) -> bool {
        let file = (doubt.target.clone(), id.clone());
        let of_another = self
            .adopted
            .borrow()
            .get(&file)
            .is_some_and(|attempt| *attempt != doubt.attempt);
        of_another || (self.parts.known)(&doubt.target, id)
    }

    /// The hash of the bytes sent; none where they are not here any more.
    async fn own_hash(&self, doubt: &Doubt, algorithm: Algorithm) -> Option<Vec<u8>> {
        let digest = doubt.digest?;
        if algorithm == Algorithm::Blake3 {
            return Some(digest.0.to_vec());
        }
        let key = (doubt.attempt.clone(), algorithm);
        if let Some(hash) = self.own.borrow().get(&key) {
            return Some(hash.clone());
        }
        let hashes = self.hashes(&doubt.path, digest, &[algorithm]).await?;
        let hash = hashes.of(algorithm)?.to_vec();
        self.own.borrow_mut().insert(key, hash.clone());
        Some(hash)
    }

    /// Hashes of a local file, if it still has these bytes.
    async fn hashes(
        &self,
        path: &SourcePath,
        digest: Digest,
        algorithms: &[Algorithm],
    ) -> Option<Hashes> {
        let files = Arc::clone(&self.parts.files);
        let (path, algorithms) = (path.clone(), algorithms.to_vec());
        let hashes = tokio::task::spawn_blocking(move || files.hashes(&path, &algorithms));
        let hashes = hashes.await.ok().flatten()?;
        (hashes.digest() == digest).then_some(hashes)
    }

    fn samples(&self, target: &Target) -> Vec<Sample> {
        let mut samples = (self.parts.samples)(target);
        samples.truncate(SAMPLES_MAX);
        samples
    }

    /// What the listing shows, learnt from samples that its search finds; once for each target.
    async fn calibration(
        &self,
        target: &Target,
        dataset: &DatasetId,
    ) -> Result<Calibration, ListError> {
        if let Some(calibration) = self.calibrations.borrow().get(target) {
            return Ok(*calibration);
        }
        let samples = self.samples(target);
        let mut calibration = Calibration::default();
        for sample in &samples {
            let name = RemoteName::new(&sample.remote_name).map(|name| name.stored());
            let Some(term) = name.ok().and_then(|name| Term::of(&name)) else {
                continue;
            };
            let Some(probe) = term.probe() else {
                continue;
            };
            let read = self.read(dataset, Some(probe), SAMPLE_PAGES_MAX).await?;
            if self.learn(&mut calibration, sample, &read.reading).await {
                calibration.search = Search::Proven;
            }
            if calibration.search == Search::Proven && calibration.algorithm.is_some() {
                break;
            }
        }
        // Samples may come as the run goes on.
        if !samples.is_empty() {
            self.remember(target, calibration);
        }
        Ok(calibration)
    }

    /// Learns what a reading of everything tells of samples that no search found.
    async fn learn_from(&self, target: &Target, calibration: &mut Calibration, reading: &Reading) {
        let samples = self.samples(target);
        let mut shown = false;
        for sample in &samples {
            shown |= self.learn(calibration, sample, reading).await;
        }
        if !shown && !samples.is_empty() {
            calibration.shows = Shows::NoSample;
        }
        if shown {
            self.remember(target, *calibration);
        }
    }

    /// Learns from a sample, if a reading shows it.
    async fn learn(
        &self,
        calibration: &mut Calibration,
        sample: &Sample,
        reading: &Reading,
    ) -> bool {
        let entry = reading.entries.iter().find(|entry| entry.id == sample.id);
        let Some(entry) = entry else {
            return false;
        };
        calibration.learn(sample, entry);
        if calibration.algorithm.is_none()
            && let Some(hash) = &entry.hash
        {
            let hashes = self.hashes(&sample.path, sample.digest, &Algorithm::ALL);
            calibration.algorithm = hashes.await.and_then(|hashes| recognise(hash, &hashes));
        }
        true
    }

    fn remember(&self, target: &Target, calibration: Calibration) {
        self.calibrations
            .borrow_mut()
            .insert(target.clone(), calibration);
    }

    /// Reads a listing to its end or its bound. Only the first page must be there.
    async fn read(
        &self,
        dataset: &DatasetId,
        search: Option<&str>,
        pages_max: u32,
    ) -> Result<Read, ListError> {
        let begun = self.parts.clock.now();
        let mut pages = Pages::new();
        let mut number = 1;
        loop {
            match self.page(dataset, search, number).await {
                Ok(page) => {
                    if pages.add(page, self.parts.clock.now()) == Next::End {
                        break;
                    }
                }
                Err(ListError::Unreadable(why)) if number > 1 => {
                    pages.lacks(format!("page {number} cannot be read now ({why})"));
                    break;
                }
                Err(error) => return Err(error),
            }
            if number == pages_max {
                pages.lacks(format!("only {pages_max} pages of the listing were read"));
                break;
            }
            number += 1;
        }
        Ok(Read {
            reading: pages.finish(match search {
                None => Scope::Everything,
                Some(_) => Scope::Search,
            }),
            span: Span {
                begun,
                ended: self.parts.clock.now(),
            },
        })
    }

    async fn page(
        &self,
        dataset: &DatasetId,
        search: Option<&str>,
        number: u32,
    ) -> Result<Page, ListError> {
        let mut tries = 1;
        loop {
            let page = self.parts.client.list(dataset, search, number).await;
            match page {
                Err(ListError::Unreadable(_)) if tries < TRIES_MAX => {
                    tokio::time::sleep(self.parts.backoff * tries).await;
                    tries += 1;
                }
                page => return page,
            }
        }
    }
}

/// What a reading means that showed the file absent.
fn absent(doubt: &Doubt, settle: Duration, Span { begun, ended }: Span) -> Look {
    // What a clock that went backwards left behind counts for nothing.
    let first = doubt
        .absent_since
        .filter(|first| doubt.since <= *first && *first <= begun);
    let settle = SignedDuration::try_from(settle).unwrap_or(SignedDuration::MAX);
    if let Some(first) = first
        && begun.duration_since(first) >= settle
    {
        return Look::NotStored {
            how: format!(
                "the file listing did not show it at {} nor at {}",
                clipped(first),
                clipped(begun)
            ),
        };
    }
    let since = first.unwrap_or(ended);
    Look::AbsentSince {
        since,
        again: since.checked_add(settle).unwrap_or(Timestamp::MAX),
    }
}

/// A time to the second.
fn clipped(at: Timestamp) -> String {
    format!("{at:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttemptId, Origin, Stat, Tag};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn doubt(since: i64, absent_since: Option<i64>) -> Doubt {
        Doubt {
            attempt: AttemptId::new("a"),
            stream: "s".to_owned(),
            target: Target {
                origin: Origin::new("o"),
                organization_id: None,
                dataset_id: None,
            },
            path: SourcePath::new("p"),
            remote_name: "n".to_owned(),
            stat: Stat {
                size: 1,
                mtime_ns: 0,
                inode: 0,
            },
            digest: None,
            metadata: Digest([0; 32]),
            tag: Tag::None,
            began: at(since),
            since: at(since),
            absent_since: absent_since.map(at),
            reason: None,
            last_look: None,
        }
    }

    #[test]
    fn only_two_readings_a_settle_time_apart_settle_it() {
        let look = |since, first, begun, ended| {
            let settle = Duration::from_mins(2);
            let span = Span {
                begun: at(begun),
                ended: at(ended),
            };
            match absent(&doubt(since, first), settle, span) {
                Look::NotStored { .. } => "not stored".to_owned(),
                Look::AbsentSince { since, again } => {
                    format!("{} {}", since.as_second(), again.as_second())
                }
                other => format!("{other:?}"),
            }
        };
        for (since, first, begun, ended, expected) in [
            // The first reading counts from its end, the second from its beginning.
            (1000, None, 1010, 1015, "1015 1135"),
            (1000, Some(1015), 1134, 1140, "1015 1135"),
            (1000, Some(1015), 1135, 1140, "not stored"),
            (1000, Some(1015), 9999, 9999, "not stored"),
            // An absence from before the gate opened, or from the future, is none.
            (1000, Some(999), 2000, 2001, "2001 2121"),
            (1000, Some(3000), 2000, 2001, "2001 2121"),
        ] {
            assert_eq!(look(since, first, begun, ended), expected);
        }
    }
}
