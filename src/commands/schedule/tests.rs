use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::cli::Unit;
use crate::model::CronTime;

fn job(folder: &str) -> Job {
    let folder = Path::new(folder);
    Job {
        name: "roe-batch-invoices".to_owned(),
        service: Vec::new(),
        needs_key: true,
        environment: BTreeMap::new(),
        grace: Duration::from_secs(20),
        manifest: folder
            .join("manifest.yaml")
            .to_str()
            .expect("UTF-8")
            .to_owned(),
        reads: BTreeSet::from([folder.join("inbox")]),
        writes: BTreeSet::from([folder.join("reports")]),
    }
}

fn place(folder: &str) -> Place {
    let below = |name: &str| format!("{folder}/{name}");
    Place {
        program: below("bin/roe-batch"),
        state: below(".roe-batch"),
        key_file: Some(below("key")),
        user: 1000,
    }
}

fn nightly() -> CronTime {
    CronTime::parse("15 2 * * *").expect("a time")
}

/// What is refused says so, and what is not is text.
fn cron_line(folder: &str) -> Result<String, Failure> {
    cron::text(
        &job(folder),
        &place(folder),
        &nightly(),
        Some(&format!("{folder}/log")),
    )
}

/// The command as a cron gives it to the shell. They differ in whether a backslash before another
/// one goes away.
fn as_cron_reads(command: &str, drops_backslashes: bool) -> String {
    let mut read = String::new();
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('%')) => read.extend(chars.next()),
            ('\\', Some('\\')) if drops_backslashes => read.extend(chars.next()),
            ('%', _) => break,
            _ => read.push(c),
        }
    }
    read
}

/// The words that the shell makes of a command.
fn words(command: &str) -> Vec<String> {
    let (command, _) = command.rsplit_once(" >>").expect("a log");
    let script = format!("set -- {command}\nfor word do printf '%s\\0' \"$word\"; done");
    let output = Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("a shell");
    assert!(output.status.success(), "{script}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split_terminator('\0').map(ToOwned::to_owned).collect()
}

/// Whether a backslash is undone in the words of a line of a unit.
#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    Undone,
    Kept,
}

/// The words of a line of a unit, by the rules of systemd.syntax(7) and systemd.unit(5): quotes,
/// escapes, specifiers.
fn unit_words(line: &str, escapes: Escapes) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let word = words.last_mut().expect("a word");
        match (c, quote) {
            ('\\', _) if escapes == Escapes::Undone => {
                let next = chars.next().expect("something escaped");
                assert!(matches!(next, '\\' | '"'), "{line}");
                word.push(next);
            }
            ('%', _) => {
                assert_eq!(chars.next(), Some('%'), "{line}");
                word.push('%');
            }
            (' ', None) => words.push(String::new()),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => word.push(c),
        }
    }
    assert_eq!(quote, None, "{line}");
    words
}

fn setting<'a>(unit: &'a str, name: &str) -> &'a str {
    let mut lines = unit.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {unit}"))
}

fn service(folder: &str) -> Result<String, Failure> {
    systemd::text(&job(folder), &place(folder), "daily", Some(Unit::Service))
}

fn yaml_documents(text: &str) -> Vec<serde_json::Value> {
    let documents = text.split("---\n");
    documents
        .map(|document| serde_yaml::from_str(document).expect(document))
        .collect()
}

/// Folders whose names mean something to one format or another.
const HOSTILE: [&str; 14] = [
    "/srv/plain",
    "/srv/two words",
    "/srv/it's",
    "/srv/say \"x\"",
    "/srv/100%",
    "/srv/%h %%",
    "/srv/$HOME ${HOME} $(id) `id`",
    "/srv/back\\slash",
    "/srv/tab\\t \\x41",
    "/srv/a;b&c|d>e<f*g?h[i]{j,k}~l!m#n",
    "/srv/# no comment",
    "/srv/-rf",
    "/srv/größe 🎉",
    "/srv/key: [value, {a: b}] - 'x",
];

#[test]
fn a_crontab_gives_the_shell_the_words_that_were_meant() {
    for folder in HOSTILE {
        let text = cron_line(folder).expect(folder);
        let line = text.lines().nth(1).expect("a line");
        assert_eq!(text.lines().count(), 2, "{text}");
        let command = line.strip_prefix("15 2 * * * ").expect("a time");
        for drops_backslashes in [true, false] {
            let read = as_cron_reads(command, drops_backslashes);
            let place = place(folder);
            let mut wanted = vec![place.program];
            let key = place.key_file.as_deref();
            let job = job(folder);
            wanted.extend(job.arguments(&job.manifest, &place.state, key));
            assert_eq!(words(&read), wanted, "{line}");
            let log = shell(&format!("{folder}/log"));
            assert!(read.ends_with(&format!(" >>{log} 2>&1")), "{line}");
        }
    }
}

#[test]
fn what_crons_read_differently_or_cut_is_refused() {
    for (folder, why) in [
        (r"/srv/a\\b".to_owned(), "crons read differently"),
        (r"/srv/a\%b".to_owned(), "crons read differently"),
        (
            format!("/srv/{}", "x".repeat(250)),
            "crons cut it after 998",
        ),
    ] {
        let failure = cron_line(&folder).expect_err(&folder);
        assert!(failure.message.contains(why), "{failure}");
    }
}

#[test]
fn a_unit_gives_the_program_the_words_that_were_meant() {
    for folder in HOSTILE {
        let unit = service(folder).expect(folder);
        let place = place(folder);
        let job = job(folder);
        let mut words = unit_words(setting(&unit, "ExecStart"), Escapes::Undone).into_iter();
        // The program's own path has no variables.
        assert_eq!(words.next().as_deref(), Some(place.program.as_str()));
        let credential = "${CREDENTIALS_DIRECTORY}/api-key";
        let words: Vec<String> = words
            .map(|word| match word.as_str() {
                word if word == credential => word.to_owned(),
                word => {
                    let read = word.replace("$$", "\0");
                    assert!(!read.contains('$'), "{word}");
                    read.replace('\0', "$")
                }
            })
            .collect();
        let wanted = job.arguments(&job.manifest, &place.state, Some(credential));
        assert_eq!(words, wanted, "{unit}");
        let credential = setting(&unit, "LoadCredential").replace("%%", "%");
        assert_eq!(credential, format!("api-key:{folder}/key"));
        let written = unit_words(setting(&unit, "ReadWritePaths"), Escapes::Kept);
        let wanted = [".roe-batch", "reports"].map(|name| format!("{folder}/{name}"));
        assert_eq!(written, wanted, "{unit}");
    }
}

#[test]
fn what_a_unit_cannot_say_is_refused() {
    let both = service("/srv/'\"").expect_err("both kinds of quotes");
    assert!(both.message.contains("both kinds of quotes"), "{both}");
    for end in [" ", "\\"] {
        let key_file = Some(format!("/srv/key{end}"));
        let place = Place {
            key_file,
            ..place("/srv")
        };
        let failure = systemd::text(&job("/srv"), &place, "daily", None).expect_err(end);
        assert!(failure.message.contains("ends with"), "{failure}");
    }
}

#[test]
fn variables_are_kept_as_they_are() {
    let value = "a b $HOME $(id) %h \"x\" 'y' \\z";
    let mut job = job("/srv");
    let place = place("/srv");
    job.environment = BTreeMap::from([("TEAM".to_owned(), value.to_owned())]);
    let unit = systemd::text(&job, &place, "daily", Some(Unit::Service)).expect("a unit");
    let words = unit_words(setting(&unit, "Environment"), Escapes::Undone);
    assert_eq!(words, [format!("TEAM={value}")]);
    let text = cron::text(&job, &place, &nightly(), Some("/log")).expect("a line");
    let line = text.lines().nth(1).expect("a line");
    let command = line.strip_prefix("15 2 * * * TEAM=").expect(line);
    assert_eq!(words_of_first(&as_cron_reads(command, true)), value);
    let text = kubernetes::text(&job, &nightly(), "image", None).expect("resources");
    let container = &yaml_documents(&text)[1]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        [0];
    let found = container["env"][0]["value"].as_str().expect("a value");
    assert_eq!(container["env"][0]["name"], "TEAM");
    assert_eq!(found.replace("$$", "$"), value);
}

fn words_of_first(command: &str) -> String {
    words(command).remove(0)
}

#[test]
fn a_run_in_kubernetes_has_what_the_manifest_names_where_it_names_it() {
    for folder in HOSTILE {
        let mut job = job(folder);
        let name = folder
            .strip_prefix("/srv/")
            .expect("below")
            .replace(':', "");
        let folder = Path::new(folder);
        job.manifest = folder.join(&name).to_str().expect("UTF-8").to_owned();
        job.reads = [
            name.clone() + ".csv",
            name.clone() + "-in",
            name.clone() + "-in/below",
        ]
        .map(|name| folder.join(name))
        .into();
        job.writes = [
            folder.join("out").join(&name),
            folder.join(".roe-batch/reports"),
        ]
        .into();
        let text = kubernetes::text(&job, &nightly(), "an image", Some("a claim")).expect(&name);
        let documents = yaml_documents(&text);
        assert_eq!(documents.len(), 2, "{text}");
        let pod = &documents[1]["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(container["image"], "an image");
        assert_eq!(
            pod["volumes"][2]["persistentVolumeClaim"]["claimName"],
            "a claim"
        );
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        let found: BTreeSet<(&str, &str, bool)> = mounts
            .iter()
            .map(|mount| {
                (
                    mount["mountPath"].as_str().expect("a path"),
                    mount["subPath"].as_str().unwrap_or_default(),
                    mount["readOnly"] == true,
                )
            })
            .collect();
        let at = |name: &str| format!("/batch/{name}");
        let wanted = [
            (at(&name), "manifest.yaml".to_owned(), true),
            (at(".roe-batch"), "state".to_owned(), false),
            (
                at(&format!("out/{name}")),
                format!("reports/out/{name}"),
                false,
            ),
            (at(&format!("{name}-in")), format!("{name}-in"), true),
            (at(&format!("{name}.csv")), format!("{name}.csv"), true),
            ("/tmp".to_owned(), String::new(), false),
        ];
        let wanted: BTreeSet<(&str, &str, bool)> = wanted
            .iter()
            .map(|(at, sub, read_only)| (at.as_str(), sub.as_str(), *read_only))
            .collect();
        assert_eq!(found, wanted, "{text}");
        let command = container["command"].as_array().expect("words");
        let command: Vec<String> = command
            .iter()
            .map(|word| word.as_str().expect("a word").replace("$$", "$"))
            .collect();
        assert_eq!(command[..2], ["roe-batch", "apply"]);
        assert_eq!(
            command[2..],
            job.arguments(&at(&name), &at(".roe-batch"), None)[1..]
        );
    }
}

#[test]
fn what_no_volume_can_have_the_place_of_is_refused() {
    for (reads, writes, why) in [
        ("/srv", "/srv/out", "in a folder of its own"),
        ("/other/in", "/srv/out", "in a folder of its own"),
        ("/srv/inbox", "/srv", "in a folder of its own"),
        ("/srv/inbox", "/srv/inbox/out", "files are read from"),
        ("/srv/a:b", "/srv/out", "which no mount may"),
    ] {
        let job = Job {
            reads: BTreeSet::from([reads.into()]),
            writes: BTreeSet::from([writes.into()]),
            ..job("/srv")
        };
        let failure = kubernetes::text(&job, &nightly(), "image", None).expect_err(why);
        assert!(failure.message.contains(why), "{failure}");
    }
}

#[test]
fn a_temporary_folder_is_private_unless_something_lies_there() {
    let unit = service("/srv").expect("a unit");
    assert!(unit.contains("PrivateTmp=yes\n"), "{unit}");
    for folder in ["/tmp/a", "/var/tmp/a"] {
        let unit = service(folder).expect("a unit");
        assert!(!unit.contains("PrivateTmp"), "{unit}");
        assert!(
            setting(&unit, "ReadWritePaths").ends_with(" /tmp /var/tmp"),
            "{unit}"
        );
    }
}

#[test]
fn only_root_keeps_its_capabilities() {
    let unit = service("/srv").expect("a unit");
    assert_eq!(setting(&unit, "User"), "1000");
    assert_eq!(setting(&unit, "CapabilityBoundingSet"), "");
    let place = Place {
        user: 0,
        ..place("/srv")
    };
    let unit = systemd::text(&job("/srv"), &place, "daily", None).expect("a unit");
    assert_eq!(setting(&unit, "User"), "0");
    assert!(!unit.contains("CapabilityBoundingSet"), "{unit}");
}

#[test]
fn every_ending_has_a_sequel_in_each_scheduler() {
    assert_eq!(codes(&[Sequel::Good], " "), "0");
    assert_eq!(codes(&[Sequel::NextTime], " "), "75");
    assert_eq!(codes(&[Sequel::Again], " "), "69");
    assert_eq!(codes(&[Sequel::Stopped], " "), "129 130 143");
    assert_eq!(codes(&[Sequel::Mend], " "), "1 64 65 70 74 76 77");
    let unit = service("/srv").expect("a unit");
    assert_eq!(setting(&unit, "SuccessExitStatus"), "75 129 130 143");
    assert_eq!(
        setting(&unit, "RestartPreventExitStatus"),
        "1 64 65 70 74 76 77"
    );
    assert_eq!(setting(&unit, "Restart"), "on-failure");
}

#[test]
fn there_is_time_to_end_after_the_grace() {
    for (millis, grace, whole) in [(20_000, "20s", 60), (90_000, "90s", 130), (500, "0.5", 41)] {
        let job = Job {
            grace: Duration::from_millis(millis),
            ..job("/srv")
        };
        assert_eq!(job.to_end(), whole);
        let arguments = job.arguments("m", "s", None);
        let at = arguments.iter().position(|word| word == "--grace");
        assert_eq!(arguments[at.expect("a grace") + 1], grace);
    }
}

#[test]
fn names_are_what_kubernetes_takes() {
    for (manifest, wanted) in [
        ("invoices", "roe-batch-invoices"),
        ("Nightly  Invoices (EU)", "roe-batch-nightly-invoices-eu"),
        ("счета", "roe-batch"),
        ("", "roe-batch"),
        ("a\n%$", "roe-batch-a"),
    ] {
        assert_eq!(name(manifest), wanted);
    }
    let long = name(&"long name ".repeat(20));
    assert!(long.len() <= NAME_MAX && !long.ends_with('-'), "{long}");
}

#[test]
fn the_folders_of_reports_are_what_all_runs_have_in_common() {
    let text = "version: 1\nuploads: [{name: a, root: in, include: '*'}]\nreport:\n\
                - out/${{ run.id }}.csv\n- out/${{ run.started | date(\"%Y/%m/%d\") }}/a.json\n\
                - x/../deep/er/${{ run.id }}/a.csv\n- /var/log/a.csv\n- ${{ run.id }}.csv\n";
    let source = crate::diagnostic::Source {
        text: text.to_owned(),
        name: "m.yaml".to_owned(),
    };
    let environment = Environment::default();
    let path = Path::new("/srv/m.yaml");
    let reading = manifest::read(&source, path, Given::environment(&environment));
    assert!(reading.diagnostics.is_empty(), "{:?}", reading.diagnostics);
    let folders = report_folders(&reading.manifest, Path::new("/srv")).expect("folders");
    let wanted = ["/srv", "/srv/deep/er", "/srv/out", "/var/log"].map(PathBuf::from);
    assert_eq!(folders, BTreeSet::from(wanted));
}

proptest! {
    #[test]
    fn any_word_is_kept_by_the_shell(word in "[^\0]{0,20}") {
        let read = words(&format!("{} >>x", shell(&word)));
        prop_assert_eq!(read, [word]);
    }
}
