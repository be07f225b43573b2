use proptest::prelude::*;

use super::*;
use crate::model::{AttemptId, DatasetId, Digest, Origin, SourcePath, Stat, Target};
use crate::verify::Algorithm;

const BEGAN: i64 = 1_000_000;
const SINCE: i64 = BEGAN + 10;
const NOW: i64 = BEGAN + 500;
const SKEW: i64 = 7200;
const SIZE: u64 = 10;
const NAME: &str = "scan 7.pdf";
const OURS: [u8; 32] = [1; 32];
const THEIRS: [u8; 32] = [2; 32];
const OUR_METADATA: Digest = Digest([3; 32]);
const THEIR_METADATA: Digest = Digest([4; 32]);
const NO_METADATA: Digest = Digest([5; 32]);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn hex(bytes: &[u8]) -> String {
    blake3::Hash::from_slice(bytes)
        .expect("32 bytes")
        .to_hex()
        .to_string()
}

fn doubt(tag: Tag) -> Doubt {
    Doubt {
        attempt: AttemptId::new("mine"),
        stream: "s".to_owned(),
        target: Target {
            origin: Origin::new("o"),
            organization_id: None,
            dataset_id: Some(DatasetId::new("d")),
        },
        path: SourcePath::new("inbox/scan 7.pdf"),
        remote_name: NAME.to_owned(),
        stat: Stat {
            size: SIZE,
            mtime_ns: 0,
            inode: 0,
        },
        digest: None,
        metadata: OUR_METADATA,
        tag,
        began: at(BEGAN),
        since: at(SINCE),
        absent_since: None,
        reason: None,
        last_look: None,
    }
}

/// The file in doubt, as a listing shows it that shows everything but metadata.
fn listed(id: &str) -> Listed {
    Listed {
        id: FileId::new(id),
        name: Some(NAME.to_owned()),
        size: Some(SIZE),
        hash: Some(hex(&OURS)),
        mark: Mark::Unshown,
        metadata: None,
        created_at: Some(at(SINCE + SKEW)),
        presence: Presence::Live,
    }
}

/// A judgement to be varied: by default of an untagged file, with a listing that proves all it can.
struct Case {
    doubt: Doubt,
    reading: Reading,
    calibration: Calibration,
    own: Option<[u8; 32]>,
    known: Vec<FileId>,
    rivals: Rivals,
}

impl Case {
    fn new(entries: &[Listed]) -> Self {
        Self {
            doubt: doubt(Tag::None),
            reading: Reading {
                entries: entries.to_vec(),
                scope: Scope::Search,
                coverage: Coverage::Complete,
                skew: Some(SignedDuration::from_secs(SKEW)),
            },
            calibration: Calibration {
                search: Search::Proven,
                shows: Shows::Samples,
                marks: Marks::Unproven,
                metadata: ShownMetadata::Untried,
                algorithm: Some(Algorithm::Sha256),
            },
            own: Some(OURS),
            known: Vec::new(),
            rivals: Rivals::None,
        }
    }

    fn tagged(entries: &[Listed]) -> Self {
        Self {
            doubt: doubt(Tag::Planted),
            ..Self::new(entries)
        }
    }

    fn uncalibrated(entries: &[Listed]) -> Self {
        let mut case = Self::new(entries);
        case.calibration.algorithm = None;
        case
    }

    fn sight(&self) -> Sight {
        let name = RemoteName::new(&self.doubt.remote_name).expect("a name");
        judge(&Evidence {
            doubt: &self.doubt,
            name: &name.stored(),
            reading: &self.reading,
            found: &[],
            now: at(NOW),
            calibration: self.calibration,
            own: self.own.as_ref().map(|own| &own[..]),
            known: &|id| self.known.contains(id),
            rivals: self.rivals,
        })
    }

    /// The judgement in a line.
    fn line(&self) -> String {
        match self.sight() {
            Sight::Stored { id, how } => format!("{id}: {how}"),
            Sight::Absent => "absent".to_owned(),
            Sight::Unclear(why) => format!("unclear: {why}"),
        }
    }
}

fn with(id: &str, change: impl FnOnce(&mut Listed)) -> Listed {
    let mut entry = listed(id);
    change(&mut entry);
    entry
}

fn named(id: &str, name: &str) -> Listed {
    with(id, |entry| entry.name = Some(name.to_owned()))
}

fn marked(id: &str, mark: Mark) -> Listed {
    with(id, |entry| entry.mark = mark)
}

#[test]
fn the_one_file_that_matches_in_everything_is_it() {
    let how = "its name, size, time and SHA-256 match";
    assert_eq!(Case::new(&[listed("a")]).line(), format!("a: {how}"));
    let mut twice = Case::new(&[listed("a"), listed("a")]);
    assert_eq!(twice.line(), format!("a: {how}"), "moved between pages");
    twice.reading.coverage = Coverage::Partial("x".to_owned());
    assert_eq!(twice.line(), format!("a: {how}"));
    let bare = with("a", |entry| entry.size = None);
    let how = "its name, time and SHA-256 match";
    assert_eq!(Case::new(&[bare]).line(), format!("a: {how}"));
    let timeless = with("a", |entry| entry.created_at = None);
    let line = Case::new(&[timeless]).line();
    assert!(
        line.starts_with("unclear"),
        "it may be an older one: {line}"
    );
}

#[test]
fn a_file_that_differs_in_anything_shown_is_another() {
    for other in [
        with("a", |entry| entry.size = Some(SIZE + 1)),
        with("a", |entry| entry.hash = Some(hex(&THEIRS))),
        with("a", |entry| {
            entry.created_at = Some(at(BEGAN + SKEW - 901));
        }),
        named("a", "other.pdf"),
    ] {
        assert_eq!(
            Case::new(std::slice::from_ref(&other)).line(),
            "absent",
            "{other:?}"
        );
    }
    let mut known = Case::new(&[listed("a")]);
    known.known = vec![FileId::new("a")];
    assert_eq!(known.line(), "absent");
}

#[test]
fn what_cannot_be_told_apart_is_unclear() {
    let unproven = "nothing proves that it is this one";
    let several = "unclear: 2 listed files may be this one, and nothing proves which";
    let no_hash = |id| with(id, |entry| entry.hash = None);
    for (case, expected) in [
        (
            Case::uncalibrated(&[listed("a")]),
            format!("unclear: a file of this name and size is there (a), and {unproven}"),
        ),
        (
            Case::uncalibrated(&[named("a", "scan 7_x.pdf")]),
            format!(
                "unclear: a file of this size that is called \"scan 7_x.pdf\" is there (a), and \
                 {unproven}"
            ),
        ),
        (
            Case::new(&[no_hash("a")]),
            format!("unclear: a file of this name and size is there (a), and {unproven}"),
        ),
        // An ETag of parts is no MD5, nor another algorithm's hash.
        (
            Case::new(&[with("a", |entry| {
                entry.hash = Some("900150983cd24fb0d6963f7d28e17f72-3".to_owned());
            })]),
            format!("unclear: a file of this name and size is there (a), and {unproven}"),
        ),
        (Case::new(&[listed("a"), listed("b")]), several.to_owned()),
        (Case::new(&[listed("a"), no_hash("b")]), several.to_owned()),
        (
            Case::new(&[named("a", "report on scan 1.pdf")]),
            format!(
                "unclear: file a has these bytes but is called \"report on scan 1.pdf\", and \
                 {unproven}"
            ),
        ),
        (
            Case::new(&[with("a", |entry| entry.name = None)]),
            format!("unclear: file a has these bytes but has no name, and {unproven}"),
        ),
        (
            Case::new(&[with("a", |entry| entry.presence = Presence::Deleted)]),
            "unclear: file a may be this one: it was stored and then deleted by someone".to_owned(),
        ),
        (
            // From the future: some clock is wrong.
            Case::new(&[with("a", |entry| {
                entry.created_at = Some(at(NOW + SKEW + 901));
            })]),
            format!("unclear: a file of this name and size is there (a), and {unproven}"),
        ),
        (
            // Another attempt's key, or one that the manifest set itself.
            Case::new(&[marked("a", Mark::Attempt("x".to_owned()))]),
            format!("unclear: a file of this name and size is there (a), and {unproven}"),
        ),
    ] {
        assert_eq!(case.line(), expected, "{:?}", case.reading.entries);
    }
    let mut gone = Case::new(&[listed("a")]);
    gone.own = None;
    assert!(gone.line().starts_with("unclear"), "the local file changed");
}

#[test]
fn without_both_clocks_time_excludes_nothing_and_proves_nothing() {
    let old = with("a", |entry| entry.created_at = Some(at(0)));
    assert_eq!(Case::new(std::slice::from_ref(&old)).line(), "absent");
    let mut no_server_time = Case::new(std::slice::from_ref(&old));
    no_server_time.reading.skew = None;
    assert!(no_server_time.line().starts_with("unclear"));
    // The clock here went backwards since the attempt.
    for (began, since) in [(NOW + 50, NOW + 60), (SINCE + 1, SINCE)] {
        let mut backwards = Case::uncalibrated(std::slice::from_ref(&old));
        backwards.doubt.began = at(began);
        backwards.doubt.since = at(since);
        assert!(backwards.line().starts_with("unclear"), "{began}");
    }
}

#[test]
fn a_size_that_the_service_cannot_hold_excludes_nothing() {
    let mut case = Case::new(&[listed("a")]);
    case.doubt.stat.size = 1 << 31;
    assert_eq!(case.line(), "a: its name, time and SHA-256 match");
    case.doubt.stat.size = (1 << 31) - 1;
    assert_eq!(case.line(), "absent");
}

#[test]
fn other_metadata_prove_nothing_unless_the_listing_changes_them() {
    let entry = with("f", |f| f.metadata = Some(THEIR_METADATA));
    let mut case = Case::new(&[entry]);
    assert_eq!(
        case.line(),
        "unclear: file f has these bytes but other metadata, and nothing proves that it is this one"
    );
    case.calibration.metadata = ShownMetadata::Otherwise;
    assert_eq!(case.line(), "f: its name, size, time and SHA-256 match");
    let ours = with("f", |f| f.metadata = Some(OUR_METADATA));
    let line = Case::new(&[ours]).line();
    assert_eq!(line, "f: its name, size, time and SHA-256 match");
}

#[test]
fn a_renamed_file_is_known_by_its_hash_only() {
    let renamed = named("a", "scan 7_Ab12.pdf");
    assert_eq!(
        Case::new(std::slice::from_ref(&renamed)).line(),
        "a: its size, time and SHA-256 match; the service renamed it: it is called \
         \"scan 7_Ab12.pdf\""
    );
    let other = with("a", |entry| {
        entry.name = Some("scan 7_Ab12.pdf".to_owned());
        entry.hash = Some(hex(&THEIRS));
    });
    assert_eq!(Case::new(&[other]).line(), "absent");
}

#[test]
fn the_same_bytes_of_an_unsettled_file_prove_nothing() {
    let renamed = named("a", "scan 7_Ab12.pdf");
    for (rivals, entry, stored) in [
        (Rivals::None, &listed("a"), true),
        (Rivals::OtherNames, &listed("a"), true),
        (Rivals::SameName, &listed("a"), false),
        (Rivals::None, &renamed, true),
        (Rivals::OtherNames, &renamed, false),
        (Rivals::SameName, &renamed, false),
    ] {
        let mut case = Case::new(std::slice::from_ref(entry));
        case.rivals = rivals;
        let found = matches!(case.sight(), Sight::Stored { .. });
        assert_eq!(found, stored, "{rivals:?} {}", case.line());
    }
}

#[test]
fn rivals_are_open_attempts_that_may_have_the_same_bytes() {
    let own = doubt(Tag::None);
    let other = |change: &dyn Fn(&mut Doubt)| {
        let mut other = Doubt {
            attempt: AttemptId::new("other"),
            ..doubt(Tag::None)
        };
        change(&mut other);
        other
    };
    let digest = |byte| Some(crate::model::Digest([byte; 32]));
    let known = Doubt {
        digest: digest(1),
        ..own.clone()
    };
    assert_eq!(
        Rivals::among(std::slice::from_ref(&own), &own),
        Rivals::None
    );
    for (change, expected) in [
        (
            &(|_: &mut Doubt| {}) as &dyn Fn(&mut Doubt),
            Rivals::SameName,
        ),
        (&|d| d.digest = digest(1), Rivals::SameName),
        (&|d| d.digest = digest(2), Rivals::None),
        (&|d| d.stat.size = 11, Rivals::None),
        (&|d| d.target.dataset_id = None, Rivals::None),
        (&|d| d.remote_name = "x.pdf".to_owned(), Rivals::OtherNames),
        (
            &|d| d.remote_name = format!("{NAME}\u{200d}"),
            Rivals::SameName,
        ),
    ] {
        let open = [own.clone(), other(change)];
        assert_eq!(Rivals::among(&open, &known), expected, "{open:?}");
    }
}

#[test]
fn a_planted_key_says_whose_a_file_is() {
    let mine = || Mark::Attempt("mine".to_owned());
    let theirs = || Mark::Attempt("theirs".to_owned());
    let by_key = "a: its metadata has this attempt's id";
    let strange = with("a", |entry| {
        entry.mark = mine();
        entry.name = Some("x".to_owned());
        entry.size = None;
        entry.hash = None;
        entry.created_at = None;
    });
    for (entries, expected) in [
        (vec![marked("a", mine())], by_key),
        (vec![strange], by_key),
        (vec![marked("a", mine()), listed("b")], by_key),
        (
            vec![marked("a", mine()), marked("b", mine())],
            "unclear: more than one listed file has this attempt's id in its metadata",
        ),
        (vec![marked("a", theirs())], "absent"),
        // One key shown says that keys are shown.
        (
            vec![marked("a", theirs()), marked("b", Mark::Absent)],
            "absent",
        ),
        (
            vec![with("a", |entry| {
                entry.mark = mine();
                entry.presence = Presence::Deleted;
            })],
            "unclear: file a may be this one: it was stored and then deleted by someone",
        ),
        // Nothing says that keys are shown: then the bytes decide.
        (
            vec![marked("a", Mark::Absent)],
            "a: its name, size, time and SHA-256 match",
        ),
        (
            vec![marked("a", theirs()), listed("b")],
            "b: its name, size, time and SHA-256 match",
        ),
    ] {
        assert_eq!(Case::tagged(&entries).line(), expected, "{entries:?}");
    }
    let mut shown = Case::tagged(&[marked("a", Mark::Absent)]);
    shown.calibration.marks = Marks::Shown;
    assert_eq!(shown.line(), "absent");
    let mut contradiction = Case::tagged(&[marked("a", mine())]);
    contradiction.known = vec![FileId::new("a")];
    assert!(contradiction.line().starts_with("unclear"));
}

#[test]
fn absence_needs_a_reading_that_would_show_the_file() {
    use Scope::{Everything, Search as Searched};
    let partial = || Coverage::Partial("it was too long".to_owned());
    for (scope, coverage, search, shows, expected) in [
        (
            Searched,
            Coverage::Complete,
            Search::Proven,
            Shows::Samples,
            true,
        ),
        (
            Searched,
            Coverage::Complete,
            Search::Unproven,
            Shows::Samples,
            false,
        ),
        (Searched, partial(), Search::Proven, Shows::Samples, false),
        (
            Everything,
            Coverage::Complete,
            Search::Unproven,
            Shows::Untried,
            true,
        ),
        (
            Everything,
            Coverage::Complete,
            Search::Unproven,
            Shows::Samples,
            true,
        ),
        (
            Everything,
            Coverage::Complete,
            Search::Unproven,
            Shows::NoSample,
            false,
        ),
        (Everything, partial(), Search::Proven, Shows::Samples, false),
    ] {
        let mut case = Case::new(&[]);
        case.reading.scope = scope;
        case.reading.coverage = coverage;
        case.calibration.search = search;
        case.calibration.shows = shows;
        assert_eq!(case.sight() == Sight::Absent, expected, "{}", case.line());
    }
}

/// Whether a service's listing shows metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListedMetadata {
    Faithfully,
    /// It lost them: an empty object everywhere.
    Emptied,
    Never,
}

/// What a service really is, and what of it the reading knows.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each drawn by chance"
)]
struct World {
    tag: Tag,
    metadata: ListedMetadata,
    marks_calibrated: bool,
    metadata_calibrated: bool,
    hashes_calibrated: bool,
    own_hash_known: bool,
    skew_known: bool,
    partial: bool,
    own: Option<Shown>,
    others: Vec<Other>,
}

/// Which of an entry's fields are shown.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each drawn by chance"
)]
struct Shown {
    name: bool,
    size: bool,
    hash: bool,
    metadata: bool,
    time: bool,
    rename: usize,
    deleted: bool,
}

/// A file that is not the one in doubt.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each drawn by chance"
)]
struct Other {
    shown: Shown,
    name: usize,
    same_size: bool,
    same_bytes: bool,
    same_metadata: bool,
    within: bool,
    known: bool,
    planted: bool,
}

impl Other {
    /// Whether nothing that this service shows tells it from the file in doubt.
    fn is_twin(&self, metadata: ListedMetadata) -> bool {
        let is_told = metadata == ListedMetadata::Faithfully && self.shown.metadata;
        self.same_bytes && !self.known && (self.same_metadata || !is_told)
    }
}

const OTHER_NAMES: [&str; 5] = [
    NAME,
    "scan 7_x.pdf",
    "scan_7.pdf",
    "scan 8.pdf",
    "other.txt",
];
/// The name itself, with an addition, cleaned as Django cleans names, and in a folder.
const OWN_NAMES: [&str; 4] = [NAME, "scan 7_Kq8.pdf", "scan_7.pdf", "up/scan 7.pdf"];

impl World {
    fn entry(
        &self,
        id: String,
        name: &str,
        shown: Shown,
        file: (u64, [u8; 32], Digest, i64, Option<&str>),
    ) -> Listed {
        let (size, bytes, metadata, created, planted) = file;
        Listed {
            id: FileId::new(id),
            name: shown.name.then(|| name.to_owned()),
            size: shown.size.then_some(size),
            hash: shown.hash.then(|| hex(&bytes)),
            mark: match (self.metadata, planted) {
                (ListedMetadata::Never, _) => Mark::Unshown,
                _ if !shown.metadata => Mark::Unshown,
                (ListedMetadata::Emptied, _) | (_, None) => Mark::Absent,
                (ListedMetadata::Faithfully, Some(id)) => Mark::Attempt(id.to_owned()),
            },
            metadata: match self.metadata {
                ListedMetadata::Faithfully => Some(metadata),
                ListedMetadata::Emptied => Some(NO_METADATA),
                ListedMetadata::Never => None,
            }
            .filter(|_| shown.metadata),
            created_at: shown.time.then(|| at(created + SKEW)),
            presence: if shown.deleted {
                Presence::Deleted
            } else {
                Presence::Live
            },
        }
    }

    fn case(&self) -> Case {
        let planted = (self.tag == Tag::Planted).then_some("mine");
        let own = self.own.map(|shown| {
            let file = (SIZE, OURS, OUR_METADATA, SINCE, planted);
            self.entry("own".to_owned(), OWN_NAMES[shown.rename % 4], shown, file)
        });
        let others = self.others.iter().enumerate().map(|(number, other)| {
            let bytes = if other.same_bytes { OURS } else { THEIRS };
            let size = if other.same_bytes || other.same_size {
                SIZE
            } else {
                SIZE + 1
            };
            let created = if other.within { SINCE } else { BEGAN - 5000 };
            let metadata = if other.same_metadata {
                OUR_METADATA
            } else {
                THEIR_METADATA
            };
            let planted = other.planted.then_some("theirs");
            let file = (size, bytes, metadata, created, planted);
            let name = OTHER_NAMES[other.name % 5];
            self.entry(format!("other-{number}"), name, other.shown, file)
        });
        let known = self
            .others
            .iter()
            .enumerate()
            .filter(|(_, other)| other.known);
        let mut case = Case::new(&others.chain(own).collect::<Vec<_>>());
        case.known = known
            .map(|(number, _)| FileId::new(format!("other-{number}")))
            .collect();
        case.doubt.tag = self.tag;
        case.own = self.own_hash_known.then_some(OURS);
        // What a calibration claims is true.
        if self.marks_calibrated && self.metadata == ListedMetadata::Faithfully {
            case.calibration.marks = Marks::Shown;
        }
        if self.metadata_calibrated && self.metadata == ListedMetadata::Emptied {
            case.calibration.metadata = ShownMetadata::Otherwise;
        }
        if !self.hashes_calibrated {
            case.calibration.algorithm = None;
        }
        if !self.skew_known {
            case.reading.skew = None;
        }
        if self.partial {
            case.reading.coverage = Coverage::Partial("x".to_owned());
        }
        case
    }
}

fn shown() -> impl Strategy<Value = Shown> {
    let likely = || prop::bool::weighted(0.8);
    let rename = (0..4_usize, prop::bool::weighted(0.1));
    (likely(), likely(), likely(), likely(), likely(), rename).prop_map(
        |(name, size, hash, metadata, time, (rename, deleted))| Shown {
            name,
            size,
            hash,
            metadata,
            time,
            rename,
            deleted,
        },
    )
}

fn other() -> impl Strategy<Value = Other> {
    let facts = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (
        shown(),
        0..5_usize,
        facts,
        prop::bool::weighted(0.3),
        any::<bool>(),
    )
        .prop_map(
            |(shown, name, (same_size, same_bytes, same_metadata, within), known, planted)| Other {
                shown,
                name,
                same_size,
                same_bytes,
                same_metadata,
                within,
                known,
                planted,
            },
        )
}

fn world() -> impl Strategy<Value = World> {
    let tag = prop_oneof![Just(Tag::Planted), Just(Tag::None)];
    let metadata = prop_oneof![
        Just(ListedMetadata::Faithfully),
        Just(ListedMetadata::Emptied),
        Just(ListedMetadata::Never),
    ];
    let flags = prop::array::uniform5(any::<bool>());
    let own = prop::option::of(shown());
    let others = prop::collection::vec(other(), 0..4);
    (tag, metadata, flags, prop::bool::weighted(0.1), own, others).prop_map(
        |(tag, metadata, flags, partial, own, others)| World {
            tag,
            metadata,
            marks_calibrated: flags[0],
            hashes_calibrated: flags[1],
            own_hash_known: flags[2],
            skew_known: flags[3],
            metadata_calibrated: flags[4],
            partial,
            own,
            others,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_foreign_file_is_adopted_and_no_listed_file_is_called_absent(world in world()) {
        let case = world.case();
        match case.sight() {
            Sight::Absent => {
                prop_assert!(world.own.is_none(), "{world:?}");
                prop_assert!(!world.partial);
            }
            Sight::Stored { id, .. } if world.own.is_some() => {
                prop_assert_eq!(id.as_str(), "own");
                prop_assert!(world.own.is_some_and(|shown| !shown.deleted));
            }
            // Without the file itself only its exact twin can pass for it: the same bytes, from
            // somewhere else, at the same time.
            Sight::Stored { id, .. } => {
                let number = id.as_str().strip_prefix("other-").expect("another file");
                let number: usize = number.parse().expect("a number");
                prop_assert!(world.others[number].is_twin(world.metadata), "{world:?}");
                prop_assert!(!world.others[number].shown.deleted);
            }
            Sight::Unclear(_) => {}
        }
    }

    #[test]
    fn what_is_shown_in_full_is_settled(world in world(), is_there: bool) {
        let full = Shown {
            name: true, size: true, hash: true, metadata: true, time: true, rename: 0, deleted: false,
        };
        let mut world = world;
        world.own = is_there.then_some(full);
        world.hashes_calibrated = true;
        world.metadata_calibrated = true;
        world.own_hash_known = true;
        world.skew_known = true;
        world.partial = false;
        for other in &mut world.others {
            other.shown = full;
            other.same_bytes = false;
        }
        let expected = if is_there { "own" } else { "absent" };
        let found = match world.case().sight() {
            Sight::Stored { id, .. } => id.as_str().to_owned(),
            Sight::Absent => "absent".to_owned(),
            Sight::Unclear(why) => why,
        };
        prop_assert_eq!(found, expected);
    }
}
