//! Pages of a listing put together, and whether they are all of it.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use crate::client::{Listed, More, Page};
use crate::model::{FileId, count};

/// What one reading of a listing showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// All entries; one that moved while the pages were read may be there twice.
    pub entries: Vec<Listed>,
    /// What was asked for.
    pub scope: Scope,
    /// Whether that is all there is.
    pub coverage: Coverage,
    /// How far the service's clock is ahead of the one here, where it told its time.
    pub skew: Option<SignedDuration>,
}

/// What a reading asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every file of the dataset.
    Everything,
    /// Those that a search finds.
    Search,
}

/// Whether a reading has everything that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// It has.
    Complete,
    /// It may lack files: why.
    Partial(String),
}

/// A reading on its way.
#[derive(Debug)]
pub(super) struct Pages {
    entries: Vec<Listed>,
    ids: HashSet<FileId>,
    unreadable: usize,
    /// The number of files, as the first page gives it.
    total: Option<u64>,
    /// Pages so far.
    taken: u32,
    last: More,
    gap: Option<String>,
    skew: Option<SignedDuration>,
}

/// Whether to ask for another page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Ask,
    End,
}

impl Pages {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            ids: HashSet::new(),
            unreadable: 0,
            total: None,
            taken: 0,
            last: More::Yes,
            gap: None,
            skew: None,
        }
    }

    /// Takes the next page, which came at this time.
    pub(super) fn add(&mut self, page: Page, at: Timestamp) -> Next {
        if self.taken == 0 {
            self.total = page.count;
        }
        self.taken += 1;
        self.last = page.more;
        self.unreadable += page.unreadable;
        if self.skew.is_none() {
            self.skew = page.server_time.map(|there| there.duration_since(at));
        }
        if self.total != page.count {
            self.lacks("files came or went while the listing was read");
        }
        let before = self.ids.len();
        self.ids
            .extend(page.entries.iter().map(|entry| entry.id.clone()));
        self.entries.extend(page.entries);
        if page.more != More::Yes {
            return Next::End;
        }
        if self.ids.len() == before {
            self.lacks("the listing's pages repeat themselves");
            return Next::End;
        }
        Next::Ask
    }

    /// Notes why the reading may lack files; the first reason counts.
    pub(super) fn lacks(&mut self, why: impl Into<String>) {
        self.gap.get_or_insert_with(|| why.into());
    }

    pub(super) fn finish(mut self, scope: Scope) -> Reading {
        if self.unreadable > 0 {
            let entries = count(self.unreadable, "entry").replace("entrys", "entries");
            self.lacks(format!("{entries} of the listing had no readable id"));
        }
        let shown = self.ids.len() as u64;
        match self.total {
            Some(total) if total != shown => self.lacks(format!(
                "the listing counts {total} files and shows {shown}"
            )),
            Some(_) => {}
            None if self.taken == 1 && self.last == More::No => {}
            None => self.lacks("the listing does not say how many files it has"),
        }
        Reading {
            entries: self.entries,
            scope,
            coverage: self.gap.map_or(Coverage::Complete, Coverage::Partial),
            skew: self.skew,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Mark, Presence};

    fn page(ids: &[&str], count: Option<u64>, more: More) -> Page {
        let entries = ids.iter().map(|id| Listed {
            id: FileId::new(*id),
            name: None,
            size: None,
            hash: None,
            mark: Mark::Unshown,
            metadata: None,
            created_at: None,
            presence: Presence::Live,
        });
        Page {
            entries: entries.collect(),
            unreadable: 0,
            count,
            more,
            server_time: None,
        }
    }

    fn coverage(pages: Vec<Page>) -> Result<(), String> {
        let mut all = Pages::new();
        for page in pages {
            if all.add(page, Timestamp::UNIX_EPOCH) == Next::End {
                break;
            }
        }
        match all.finish(Scope::Everything).coverage {
            Coverage::Complete => Ok(()),
            Coverage::Partial(why) => Err(why),
        }
    }

    #[test]
    fn only_a_reading_that_adds_up_is_complete() {
        use More::{No, Unsaid, Yes};
        let complete = [
            vec![page(&[], Some(0), No)],
            vec![page(&["a"], None, No)],
            vec![page(&["a"], Some(1), Unsaid)],
            vec![page(&["a"], Some(2), Yes), page(&["b"], Some(2), No)],
        ];
        for pages in complete {
            assert_eq!(coverage(pages.clone()), Ok(()), "{pages:?}");
        }
        let partial = [
            (vec![page(&["a"], None, Unsaid)], "does not say how many"),
            (
                vec![page(&["a"], None, Yes), page(&["b"], None, No)],
                "does not say how many",
            ),
            (
                vec![page(&["a"], Some(2), No)],
                "counts 2 files and shows 1",
            ),
            (
                vec![page(&["a"], Some(0), No)],
                "counts 0 files and shows 1",
            ),
            (
                vec![page(&["a"], Some(2), Yes), page(&["b"], Some(3), No)],
                "came or went",
            ),
            (
                vec![page(&["a"], Some(2), Yes), page(&["b"], None, No)],
                "came or went",
            ),
            (
                vec![page(&["a"], Some(9), Yes), page(&["a"], Some(9), Yes)],
                "repeat themselves",
            ),
            (vec![page(&["a"], Some(9), Yes)], "counts 9 files"),
            (
                vec![Page {
                    unreadable: 1,
                    ..page(&["a"], Some(2), No)
                }],
                "1 entry of the listing had no readable id",
            ),
        ];
        for (pages, why) in partial {
            let found = coverage(pages.clone()).expect_err(why);
            assert!(found.contains(why), "{found} {pages:?}");
        }
    }

    #[test]
    fn the_skew_is_the_services_clock_less_ours() {
        let mut pages = Pages::new();
        let at = |second| Timestamp::from_second(second).expect("a time");
        let timed = Page {
            server_time: Some(at(1000)),
            ..page(&[], None, More::No)
        };
        pages.add(timed, at(900));
        let reading = pages.finish(Scope::Search);
        assert_eq!(reading.skew, Some(SignedDuration::from_secs(100)));
    }
}
