//! What is said of a run at one moment: a line, or lines with bars that fit a terminal.

use std::fmt::Write;
use std::time::Duration;

use super::tally::{Held, Large, Phase, View};
use crate::model::{HumanBytes, count, number};

/// A terminal narrower than this gets lines of this width all the same.
const COLUMNS_MIN: usize = 20;

/// No bar is longer: far away, its ends are hard to see together.
const BAR_MAX: usize = 60;
const BAR_MIN: usize = 8;

/// What stands beside the bar of the whole run, at its widest.
const BESIDE_BAR: usize = "100%  1023.9 MiB of 1023.9 MiB  1023.9 MiB/s  23 h 59 min left".len();

/// As [`BESIDE_BAR`], of a file.
const BESIDE_FILE: usize = "100%  1023.9 MiB of 1023.9 MiB".len();

/// One line with all of it, for logs.
pub(super) fn status(view: &View) -> String {
    if view.phase == Phase::Planning {
        return "progress: planning, nothing is sent yet".to_owned();
    }
    let mut text = format!(
        "progress: {}%, {}, {}",
        percent(view),
        files(view),
        amounts(view.sent, view.bytes)
    );
    if let Some(speed) = speed(view) {
        let _ = write!(text, ", {speed}");
    }
    if let Some(left) = view.left {
        let _ = write!(text, ", {} left", time(left));
    }
    for remark in remarks(view) {
        let _ = write!(text, "; {remark}");
    }
    for file in &view.sending {
        let (path, done) = (&file.path, share(file.sent, file.size));
        let _ = write!(text, "; {path} {done}% of {}", HumanBytes(file.size));
    }
    text
}

/// Lines for a terminal of so many columns and rows; none of them is wider than it, or as wide.
pub(super) fn bars(view: &View, columns: usize, rows: usize) -> Vec<String> {
    let width = columns.max(COLUMNS_MIN) - 1;
    let mut lines = vec![total(view, width), counts(view)];
    let names: Vec<String> = view.sending.iter().map(|f| f.path.to_string()).collect();
    let longest = names.iter().map(|name| columns_of(name)).max().unwrap_or(0);
    let files = view.sending.iter().zip(&names);
    lines.extend(files.map(|(file, name)| large(file, (name, longest), width)));
    // Lines that have left the screen cannot be taken back.
    lines.truncate(rows.saturating_sub(1).max(1));
    for line in &mut lines {
        *line = cut(line, width);
    }
    lines
}

fn total(view: &View, width: usize) -> String {
    let mut line = String::new();
    let bar = width.saturating_sub(BESIDE_BAR + 3).min(BAR_MAX);
    let done = percent(view);
    if bar >= BAR_MIN {
        let _ = write!(line, "{} ", drawn(done, bar));
    }
    let _ = write!(line, "{done:>3}%  {}", amounts(view.sent, view.bytes));
    if let Some(speed) = speed(view) {
        let _ = write!(line, "  {speed}");
    }
    if let Some(left) = view.left {
        let _ = write!(line, "  {} left", time(left));
    }
    line
}

fn counts(view: &View) -> String {
    let mut line = files(view);
    for remark in remarks(view) {
        let _ = write!(line, ", {remark}");
    }
    line
}

fn large(file: &Large, (name, longest): (&str, usize), width: usize) -> String {
    const INDENT: usize = 2;
    let bar = (width / 6).clamp(BAR_MIN, BAR_MAX / 2);
    let done = share(file.sent, file.size);
    let beside = format!(
        "{} {done:>3}%  {}",
        drawn(done, bar),
        amounts(file.sent, file.size)
    );
    let room = width.saturating_sub(INDENT + 2 + bar + 3 + BESIDE_FILE);
    let room = room.max(COLUMNS_MIN - INDENT - 2).min(longest);
    let name = shortened(name, room);
    let gap = room.saturating_sub(columns_of(&name));
    format!("{:INDENT$}{name}{:gap$}  {beside}", "", "")
}

fn files(view: &View) -> String {
    format!("{} of {}", number(view.ended), count(view.files, "file"))
}

/// What is worth a word beside how far it has come.
fn remarks(view: &View) -> Vec<String> {
    let mut remarks = Vec::new();
    if view.phase == Phase::Stopping {
        remarks.push("stopping".to_owned());
    }
    if let Some(held) = &view.held {
        remarks.push(pause(held));
    }
    if view.failed > 0 {
        remarks.push(format!("{} failed", number(view.failed)));
    }
    if view.in_doubt > 0 {
        remarks.push(format!("{} in doubt", number(view.in_doubt)));
    }
    match view.retries {
        0 => {}
        1 => remarks.push("1 retry".to_owned()),
        many => remarks.push(format!("{} retries", number(many))),
    }
    remarks
}

fn pause(held: &Held) -> String {
    const WHY_MAX: usize = 40;
    let why = match held.why.as_str() {
        why if why.starts_with("HTTP 429") => "rate limited".to_owned(),
        why => cut(why, WHY_MAX),
    };
    format!("{why}, {}", time(held.left))
}

fn amounts(part: u64, whole: u64) -> String {
    format!("{} of {}", HumanBytes(part), HumanBytes(whole))
}

fn speed(view: &View) -> Option<String> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a speed is not negative, and shown in units"
    )]
    let speed = view.speed? as u64;
    Some(format!("{}/s", HumanBytes(speed)))
}

/// How much is done: by bytes, and by files where there are none. All of it only once all ended.
fn percent(view: &View) -> u64 {
    let done = if view.bytes > 0 {
        share(view.sent, view.bytes)
    } else {
        share(view.ended as u64, view.files as u64)
    };
    if view.ended < view.files {
        done.min(99)
    } else {
        done
    }
}

fn share(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 100,
        _ => u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(100),
    }
}

fn drawn(percent: u64, columns: usize) -> String {
    let full = usize::try_from(percent).unwrap_or(0) * columns / 100;
    let full = full.min(columns);
    format!("[{}{}]", "#".repeat(full), "-".repeat(columns - full))
}

/// A time to come, in the two largest of its units.
fn time(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        7200..172_800 => {
            let minutes = seconds / 60;
            format!("{} h {} min", minutes / 60, minutes % 60)
        }
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Columns that a character takes at the most: that is known for few, and a line too short does no
/// harm.
fn columns_of_char(c: char) -> usize {
    if c.is_ascii() || c == '…' { 1 } else { 2 }
}

/// Columns that a text takes at the most.
pub(super) fn columns_of(text: &str) -> usize {
    text.chars().map(columns_of_char).sum()
}

/// As much of a text as fits, with an ellipsis where something is missing.
fn cut(text: &str, columns: usize) -> String {
    if columns_of(text) <= columns {
        return text.to_owned();
    }
    let mut head = fitting(text.chars(), columns.saturating_sub(1));
    head.push('…');
    head
}

/// A path whose middle is left out where it does not fit: its end tells most.
fn shortened(path: &str, columns: usize) -> String {
    if columns_of(path) <= columns {
        return path.to_owned();
    }
    let left = columns.saturating_sub(1);
    let head = fitting(path.chars(), left / 3);
    let tail = fitting(path.chars().rev(), left - left / 3);
    let tail: String = tail.chars().rev().collect();
    format!("{head}…{tail}")
}

fn fitting(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += columns_of_char(*c);
            used <= columns
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttemptId, RuleName, SourcePath};

    const MIB: u64 = 1024 * 1024;

    fn file(path: &str, size: u64, sent: u64) -> Large {
        Large {
            rule: RuleName::new("all"),
            path: SourcePath::new(path),
            size,
            sent,
            attempt: 1,
            request: AttemptId::new("id"),
        }
    }

    fn view() -> View {
        View {
            phase: Phase::Sending,
            files: 20_000,
            ended: 1234,
            bytes: 3500 * MIB,
            sent: 1200 * MIB,
            failed: 2,
            in_doubt: 1,
            retries: 14,
            speed: Some(12.3 * 1024.0 * 1024.0),
            left: Some(Duration::from_secs(187)),
            held: Some(Held {
                why: "HTTP 429: Request was throttled. Expected available in 12 seconds."
                    .to_owned(),
                left: Duration::from_millis(11_200),
            }),
            sending: vec![
                file(
                    "inbox/2026/05/scans/the-large-one-0001.tif",
                    266 * MIB,
                    120 * MIB,
                ),
                file(
                    "inbox/漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字.pdf",
                    30 * MIB,
                    0,
                ),
            ],
        }
    }

    #[test]
    fn a_status_says_all_in_one_line() {
        assert_eq!(
            status(&view()),
            "progress: 34%, 1,234 of 20,000 files, 1.2 GiB of 3.4 GiB, 12.3 MiB/s, 4 min left; \
             rate limited, 12 s; 2 failed; 1 in doubt; 14 retries; \
             inbox/2026/05/scans/the-large-one-0001.tif 45% of 266.0 MiB; \
             inbox/漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字.pdf 0% of 30.0 MiB"
        );
        let planning = View::default();
        assert_eq!(status(&planning), "progress: planning, nothing is sent yet");
    }

    #[test]
    fn bars_at_80_columns() {
        let lines = bars(&view(), 80, 24);
        assert_eq!(
            lines,
            [
                "[####----------]  34%  1.2 GiB of 3.4 GiB  12.3 MiB/s  4 min left",
                "1,234 of 20,000 files, rate limited, 12 s, 2 failed, 1 in doubt, 14 retries",
                "  inbox/202…-large-one-0001.tif  [#####--------]  45%  120.0 MiB of 266.0 MiB",
                "  inbox/漢…字漢字漢字漢字.pdf    [-------------]   0%  0 B of 30.0 MiB",
            ]
        );
    }

    #[test]
    fn no_line_is_as_wide_as_the_terminal_and_none_is_lost_below_it() {
        let mut view = view();
        view.sending = vec![file(&"x".repeat(300), u64::MAX, u64::MAX / 2); 4];
        for columns in 20..250 {
            for rows in [1, 2, 3, 24] {
                let lines = bars(&view, columns, rows);
                assert!(!lines.is_empty() && lines.len() < rows.max(2));
                for line in lines {
                    assert!(columns_of(&line) < columns, "{columns}: {line}");
                }
            }
        }
        assert!(bars(&view, 0, 0).len() == 1, "a size that is not known");
    }

    #[test]
    fn not_all_is_done_before_all_is() {
        let mut view = view();
        view.sent = view.bytes;
        assert_eq!(percent(&view), 99);
        view.ended = view.files;
        assert_eq!(percent(&view), 100);
        let empty = View {
            files: 4,
            ended: 1,
            ..View::default()
        };
        assert_eq!(percent(&empty), 25);
    }

    #[test]
    fn times_are_told_as_people_do() {
        for (seconds, told) in [
            (0, "0 s"),
            (119, "119 s"),
            (121, "3 min"),
            (7199, "120 min"),
            (7260, "2 h 1 min"),
            (200_000, "2 days"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), told);
        }
        assert_eq!(time(Duration::from_millis(11_200)), "12 s");
    }

    #[test]
    fn a_pause_says_why_and_how_long() {
        let held = |why: &str| Held {
            why: why.to_owned(),
            left: Duration::from_secs(3),
        };
        assert_eq!(pause(&held("HTTP 429: slow down")), "rate limited, 3 s");
        assert_eq!(pause(&held("HTTP 503")), "HTTP 503, 3 s");
    }
}
