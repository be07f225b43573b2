//! `man`: the manual, a page for each command, made of what clap and the long help know.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{narrate, say};
use crate::cli::{self, WriteTo};
use crate::error::{Exit, Failure};
use crate::model::{count, shown};

/// How much of a file tells whether it is a page.
const HEAD_MAX: u64 = 4096;

/// Prints the first page, or writes all of them.
pub(super) fn man(to: &WriteTo) -> Result<Exit, Failure> {
    let pages = pages().map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
    match to {
        WriteTo::Stdout => pages.iter().take(1).try_for_each(|page| say(&page.text))?,
        WriteTo::File(folder) => write(folder, &pages)?,
    }
    Ok(Exit::Done)
}

/// A page of the manual.
struct Page {
    /// Of the command, as in `roe-batch-apply`.
    name: String,
    text: String,
}

/// The program's page, then the commands'.
fn pages() -> io::Result<Vec<Page>> {
    let mut program = cli::definition().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add(&mut pages, &program, &program)?;
    Ok(pages)
}

fn add(pages: &mut Vec<Page>, program: &clap::Command, command: &clap::Command) -> io::Result<()> {
    pages.push(page(program, command)?);
    let below = command
        .get_subcommands()
        .filter(|below| below.get_name() != "help");
    below
        .into_iter()
        .try_for_each(|below| add(pages, program, below))
}

fn page(program: &clap::Command, command: &clap::Command) -> io::Result<Page> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let version = program.get_version().unwrap_or_default();
    let man = Man::new(command.clone())
        // None, written so that it keeps its place.
        .date("\"\"")
        .source(format!("{} {version}", program.get_name()))
        .manual(format!("{} manual", program.get_name()));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let mut end = Roff::new();
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(help) = command.get_after_long_help() {
        sections(&mut end, &help.to_string());
    }
    if command.get_name() != program.get_name() {
        end.control("SH", ["SEE ALSO"]);
        end.text([bold(program.get_name()), roman("(1)")]);
    }
    end.to_writer(&mut text)?;
    Ok(Page {
        name: name.to_owned(),
        text: typed(&String::from_utf8_lossy(&text)),
    })
}

/// Where in a section the last line was.
#[derive(PartialEq, Eq)]
enum Inside {
    Title,
    Prose,
    Term,
    Typed,
}

/// What stands at the end of a command's long help; `cli/manual.rs` says how it is laid out.
fn sections(roff: &mut Roff, help: &str) {
    let mut inside = Inside::Title;
    for line in help.lines() {
        let body = line.trim_start();
        let depth = line.len() - body.len();
        if depth > 2 && inside == Inside::Term {
            roff.text([roman(body)]);
            continue;
        }
        if depth > 2 {
            if inside != Inside::Typed {
                roff.control("RS", ["4"]).control("nf", []);
            }
            roff.text([roman(&line[4..])]);
            inside = Inside::Typed;
            continue;
        }
        if inside == Inside::Typed {
            roff.control("fi", []).control("RE", []);
        }
        if depth == 0 {
            if let Some(title) = body.strip_suffix(':') {
                let title = match title {
                    "Exit codes" => "EXIT STATUS".to_owned(),
                    title => title.to_uppercase(),
                };
                roff.control("SH", [title.as_str()]);
            }
            inside = Inside::Title;
        } else if let Some((term, meaning)) = body.split_once("  ") {
            roff.control("TP", []).text([bold(term)]);
            roff.text([roman(meaning.trim_start())]);
            inside = Inside::Term;
        } else {
            if matches!(inside, Inside::Term | Inside::Typed) {
                roff.control("PP", []);
            }
            roff.text([roman(body)]);
            inside = Inside::Prose;
        }
    }
    if inside == Inside::Typed {
        roff.control("fi", []).control("RE", []);
    }
}

/// What is meant as it would be typed: code between backticks is bold, and the characters that
/// typesetting makes accents of stay what they are.
fn typed(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    for line in page.lines() {
        let is_paired = line.matches('`').count().is_multiple_of(2);
        let mut is_code = false;
        for c in line.chars() {
            match c {
                '`' if is_paired => {
                    is_code = !is_code;
                    text.push_str(if is_code { r"\fB" } else { r"\fR" });
                }
                '`' => text.push_str(r"\(ga"),
                '~' => text.push_str(r"\(ti"),
                '^' => text.push_str(r"\(ha"),
                c => text.push(c),
            }
        }
        text.push('\n');
    }
    text
}

/// Whether a page's place is taken.
#[derive(Clone, Copy)]
enum Place {
    Free,
    /// By such a page.
    Old,
}

fn write(folder: &Path, pages: &[Page]) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| unwritten(folder, &error))?;
    let mut places = Vec::new();
    for page in pages {
        let path = folder.join(format!("{}.1", page.name));
        let place = place(&path, &page.name)?;
        places.push((path, place, page));
    }
    for (path, place, page) in &places {
        put(path, *place, &page.text).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => is_there(path),
            _ => unwritten(path, &error),
        })?;
    }
    // The new names are durable once their folder is.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| unwritten(folder, &error))?;
    narrate(&format!(
        "wrote {} to {}",
        count(pages.len(), "page"),
        shown(&folder.to_string_lossy())
    ));
    Ok(())
}

fn place(path: &Path, name: &str) -> Result<Place, Failure> {
    let mut head = Vec::new();
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => File::open(path)
            .and_then(|file| file.take(HEAD_MAX).read_to_end(&mut head))
            .map_err(|error| unwritten(path, &error))?,
        Ok(_) => return Err(is_there(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Free),
        Err(error) => return Err(unwritten(path, &error)),
    };
    let title = format!(".TH {name} 1 ");
    let head = String::from_utf8_lossy(&head);
    if head.lines().any(|line| line.starts_with(&title)) {
        Ok(Place::Old)
    } else {
        Err(is_there(path))
    }
}

/// Puts a page in its place, in one step.
fn put(path: &Path, place: Place, text: &str) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(".roe-batch-man-")
        // As any program would make it: what the umask leaves.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match place {
        Place::Free => file.persist_noclobber(path),
        Place::Old => file.persist(path),
    }
    .map(drop)
    .map_err(|error| error.error)
}

fn is_there(path: &Path) -> Failure {
    let path = path.to_string_lossy();
    let message = format!(
        "{} is there already, and is no page of this manual",
        shown(&path)
    );
    Failure::new(Exit::Usage, message).hint("move it away, or write into another folder")
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    let path = path.to_string_lossy();
    Failure::new(
        Exit::LocalIo,
        format!("cannot write {}: {error}", shown(&path)),
    )
    .hint("write into another folder with `--out DIR`")
}
