//! Threads that read small files whole, ahead of the wire.
//!
//! A file that is not in memory makes its reader wait, so there are several; and a thread that is
//! woken for each file costs more than reading it, so files go to a thread and come back several
//! at a time.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{ReadError, Roots};
use crate::model::{Digest, RelativePath, RootId, Stat};

/// How many read at once. On a quick disk 2 to 32 were alike within the noise (`benches/PROFILE.md`);
/// one that answers late wants more than two, and a thread that has nothing to do costs nothing.
const THREADS: usize = 8;

/// Files that one thread is asked for at once, where there are so many.
const BATCH: usize = 8;

/// How long a file takes that is in memory, at the most: less than what waking a second thread and
/// meeting it at the queue is worth.
const QUICK: Duration = Duration::from_micros(100);

/// A file to be read whole.
pub struct Wanted {
    /// Its root.
    pub root: RootId,
    /// Its path below the root.
    pub relative: RelativePath,
    /// The file as planned.
    pub stat: Stat,
    /// Bytes that come before the file's, in a buffer that has room for all.
    pub buffer: Vec<u8>,
}

impl fmt::Debug for Wanted {
    /// Not the buffer: there may be metadata in it that nobody is to see.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wanted({:?}, {})", self.root, self.relative)
    }
}

/// The buffer with the file's bytes at its end, and their digest.
pub type Read = Result<(Vec<u8>, Digest), ReadError>;

type Request = (Wanted, oneshot::Sender<Read>);

/// The threads. They end when this is dropped, after the file that they are reading.
pub struct Readers {
    asked: Mutex<Vec<Request>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// A batch was added, or no more come.
    news: Condvar,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Vec<Request>>,
    /// Batches that are being read.
    being_read: usize,
    pace: Pace,
    is_closed: bool,
}

/// How the last batch was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Pace {
    /// Its files were in memory: what is asked for goes to few threads.
    Quick,
    /// They were not: the more threads wait for the disk together, the better.
    #[default]
    Slow,
}

impl Pace {
    /// The pace of a batch of so many files.
    fn of(files: usize, took: Duration) -> Self {
        if took < QUICK * u32::try_from(files).unwrap_or(u32::MAX) {
            Self::Quick
        } else {
            Self::Slow
        }
    }

    /// How many files a thread is asked for at once, of so many.
    fn batch(self, files: usize) -> usize {
        match self {
            Self::Quick => BATCH,
            Self::Slow => files.div_ceil(THREADS).clamp(1, BATCH),
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // It is whole whatever a panicking holder was about to do.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.queue().is_closed = true;
        self.shared.news.notify_all();
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readers")
    }
}

impl Readers {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// The operating system has no thread to give.
    pub fn start(roots: &Roots) -> io::Result<Self> {
        let roots = roots.clone();
        Self::reading_by(move |wanted| read(&roots, wanted))
    }

    fn reading_by(read: impl Fn(Wanted) -> Read + Clone + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        // Where a thread cannot be had, this ends those that were.
        let readers = Self {
            asked: Mutex::default(),
            shared: Arc::clone(&shared),
        };
        for _ in 0..THREADS {
            let (read, shared) = (read.clone(), Arc::clone(&shared));
            thread::Builder::new()
                .name("reader".to_owned())
                .spawn(move || serve_on(&read, &shared))?;
        }
        Ok(readers)
    }

    /// Asks for a file. It is read once [`Readers::send`] was called.
    pub fn ask(&self, wanted: Wanted) -> oneshot::Receiver<Read> {
        let (answer, read) = oneshot::channel();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push((wanted, answer));
        read
    }

    /// Hands what was asked for to the threads: at once where one of them is free, and otherwise once
    /// there is enough for a batch. To be called again whenever an answer came.
    pub fn send(&self) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_empty() {
            return;
        }
        let mut queue = self.shared.queue();
        let is_free = queue.being_read + queue.batches.len() < THREADS;
        if !is_free && asked.len() < BATCH {
            return;
        }
        let together = queue.pace.batch(asked.len());
        let before = queue.batches.len();
        while !asked.is_empty() {
            let first = together.min(asked.len());
            let rest = asked.split_off(first);
            let batch = std::mem::replace(&mut *asked, rest);
            queue.batches.push_back(batch);
        }
        let added = queue.batches.len() - before;
        // Who is woken needs the queue at once.
        drop(queue);
        for _ in 0..added {
            self.shared.news.notify_one();
        }
    }
}

/// A thread that reads, even if that ends in a panic.
struct Busy<'a>(&'a Shared);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.queue().being_read -= 1;
    }
}

/// A panic costs the files of its batch, whose answers never come, and not the thread: without any
/// thread, nobody would hear of the files that are asked for later.
fn serve_on(read: &impl Fn(Wanted) -> Read, shared: &Shared) {
    while panic::catch_unwind(AssertUnwindSafe(|| serve(read, shared))).is_err() {}
}

fn serve(read: &impl Fn(Wanted) -> Read, shared: &Shared) {
    let mut queue = shared.queue();
    while !queue.is_closed {
        let Some(batch) = queue.batches.pop_front() else {
            let news = shared.news.wait(queue);
            queue = news.unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        queue.being_read += 1;
        drop(queue);
        let mut busy = Some(Busy(shared));
        let (files, begun) = (batch.len(), Instant::now());
        let mut left = files;
        for (wanted, answer) in batch {
            let read = read(wanted);
            left -= 1;
            if left == 0 {
                // Before anybody hears of it: who does may ask for more, and has to find this thread
                // free.
                drop(busy.take());
            }
            // Nobody waits any more where the run was aborted meanwhile.
            let _ = answer.send(read);
        }
        let pace = Pace::of(files, begun.elapsed());
        queue = shared.queue();
        queue.pace = pace;
    }
}

fn read(roots: &Roots, wanted: Wanted) -> Read {
    let Wanted {
        root,
        relative,
        stat,
        mut buffer,
    } = wanted;
    let mut file = roots.open(root, &relative)?;
    let digest = file.read_whole(stat.size, &mut buffer)?;
    file.check_bytes(&stat)?;
    Ok((buffer, digest))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::source::Survey;
    use crate::source::tests::everything_in;

    #[test]
    fn what_is_asked_for_is_read_once_it_is_sent_and_each_for_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        for number in 0..40 {
            fs::write(folder.path().join(format!("{number:02}")), [number; 5]).expect("a file");
        }
        let survey = everything_in(folder.path());
        fs::remove_file(folder.path().join("07")).expect("removed");
        let readers = Readers::start(&survey.roots).expect("threads");
        let found = &survey.candidates.roots[0];
        let asked: Vec<_> = (0..found.len())
            .map(|at| {
                readers.ask(Wanted {
                    root: RootId(0),
                    relative: found.relative(at),
                    stat: found.stat(at).expect("a file"),
                    buffer: b"head".to_vec(),
                })
            })
            .collect();
        readers.send();
        for (number, read) in asked.into_iter().enumerate() {
            let read = read.blocking_recv().expect("an answer");
            if number == 7 {
                assert!(matches!(read, Err(ReadError::Io(_))), "{read:?}");
                continue;
            }
            let (buffer, digest) = read.expect("read");
            let bytes = [u8::try_from(number).expect("small"); 5];
            assert_eq!(buffer, [b"head".as_slice(), &bytes].concat());
            assert_eq!(digest, Digest(*blake3::hash(&bytes).as_bytes()));
        }
    }

    /// A file of that survey, under a root.
    fn wanted(survey: &Survey, root: RootId) -> Wanted {
        let found = &survey.candidates.roots[0];
        Wanted {
            root,
            relative: found.relative(0),
            stat: found.stat(0).expect("a file"),
            buffer: Vec::new(),
        }
    }

    fn one_file() -> (tempfile::TempDir, Survey) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("file"), "bytes").expect("a file");
        let survey = everything_in(folder.path());
        (folder, survey)
    }

    #[test]
    fn files_that_are_in_memory_go_to_few_threads_and_others_to_many() {
        let (_folder, survey) = one_file();
        for (pace, files, expected) in [
            (Pace::Slow, 1, vec![1]),
            (Pace::Slow, 3, vec![1; 3]),
            (Pace::Slow, 16, vec![2; THREADS]),
            (Pace::Slow, 80, vec![BATCH; 10]),
            (Pace::Quick, 1, vec![1]),
            (Pace::Quick, 3, vec![3]),
            (Pace::Quick, 16, vec![BATCH; 2]),
            (Pace::Quick, 17, vec![BATCH, BATCH, 1]),
        ] {
            // Nobody takes a batch out again.
            let readers = Readers {
                asked: Mutex::default(),
                shared: Arc::default(),
            };
            readers.shared.queue().pace = pace;
            for _ in 0..files {
                drop(readers.ask(wanted(&survey, RootId(0))));
            }
            readers.send();
            let queue = readers.shared.queue();
            let batches: Vec<usize> = queue.batches.iter().map(Vec::len).collect();
            assert_eq!(batches, expected, "{files} files, {pace:?}");
        }
    }

    #[test]
    fn a_batch_is_quick_by_the_time_that_each_of_its_files_took() {
        assert_eq!(Pace::default(), Pace::Slow, "nothing was read yet");
        let nearly = Duration::from_nanos(1);
        for files in [1, 8] {
            let time = QUICK * u32::try_from(files).expect("small");
            assert_eq!(Pace::of(files, time.saturating_sub(nearly)), Pace::Quick);
            assert_eq!(Pace::of(files, time), Pace::Slow);
        }
    }

    #[test]
    fn a_panic_leaves_its_file_unread_and_the_threads_read_on() {
        let (_folder, survey) = one_file();
        let roots = survey.roots.clone();
        let readers = Readers::reading_by(move |wanted| {
            assert_eq!(wanted.root, RootId(0), "this panic is part of a test");
            read(&roots, wanted)
        });
        let readers = readers.expect("threads");
        // Once more than there are threads.
        for _ in 0..=THREADS {
            let lost = readers.ask(wanted(&survey, RootId(1)));
            readers.send();
            lost.blocking_recv().expect_err("no answer");
            let whole = readers.ask(wanted(&survey, RootId(0)));
            readers.send();
            let (bytes, _) = whole.blocking_recv().expect("an answer").expect("read");
            assert_eq!(bytes, b"bytes");
        }
    }
}
