//! Help, completions and the manual: true, whole, and understood by the shells and by what reads
//! manuals. Those that are not installed are passed over.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use clap::ValueEnum;
use common::Workspace;
use roe_batch::cli;
use roe_batch::config::Config;

/// The program's name, and the commands'.
fn commands() -> Vec<String> {
    let program = cli::definition();
    let commands = program.get_subcommands();
    commands
        .map(|command| command.get_name().to_owned())
        .collect()
}

/// Every command as it is typed, with those of another one behind it.
fn all_commands() -> Vec<(String, clap::Command)> {
    let program = cli::definition();
    let mut all = Vec::new();
    for command in program.get_subcommands() {
        all.push((command.get_name().to_owned(), command.clone()));
        for below in command.get_subcommands() {
            let name = format!("{} {}", command.get_name(), below.get_name());
            all.push((name, below.clone()));
        }
    }
    all
}

fn help(command: Option<&str>, flag: &str) -> String {
    let words = command.into_iter().flat_map(str::split_whitespace);
    let args: Vec<&str> = words.chain([flag]).collect();
    let ran = Workspace::new().run(&args);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    ran.stdout
}

/// The long help of the program and of each command.
fn long_helps() -> Vec<(String, String)> {
    let named = all_commands().into_iter().map(|(name, _)| {
        let text = help(Some(&name), "--help");
        (name, text)
    });
    let program = ("roe-batch".to_owned(), help(None, "--help"));
    std::iter::once(program).chain(named).collect()
}

/// The lines of a section of help, without its title.
fn section<'a>(help: &'a str, title: &str) -> Vec<&'a str> {
    help.lines()
        .skip_while(|line| line.strip_suffix(':') != Some(title))
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with(' '))
        .filter(|line| !line.is_empty())
        .collect()
}

/// What is in the first column of a section's table.
fn terms(help: &str, title: &str) -> BTreeSet<String> {
    let rows = section(help, title).into_iter();
    rows.filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(ToOwned::to_owned)
        .collect()
}

/// The commands of this program in a line for the shell, each as its words.
fn calls(line: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut ended = false;
    for c in line.chars().chain([';']) {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '|' | '>' | ';' | '&' | '(' | ')') | (Some('"'), '(') => {
                // What is in the parentheses is a line of its own.
                quote = None;
                words.extend(word.take().filter(|_| !ended));
                ended |= c == '>';
                if !matches!(c, ' ' | '>') {
                    ended = false;
                    calls.push(std::mem::take(&mut words));
                }
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    let own = |words: Vec<String>| {
        let start = words.iter().position(|word| word == "roe-batch")?;
        Some(words[start..].to_vec())
    };
    calls.into_iter().filter_map(own).collect()
}

#[test]
fn calls_are_taken_out_of_lines_as_a_shell_would() {
    let one = |words: &[&str]| {
        vec![
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>(),
        ]
    };
    assert_eq!(
        calls("A=1 roe-batch plan 'a b' --x=\"c\" > roe-batch"),
        one(&["roe-batch", "plan", "a b", "--x=c"])
    );
    assert_eq!(calls("mkdir -p x"), Vec::<Vec<String>>::new());
    assert_eq!(
        calls("eval \"$(roe-batch completions bash)\""),
        one(&["roe-batch", "completions", "bash"])
    );
    assert_eq!(
        calls("roe-batch man | man -l -"),
        one(&["roe-batch", "man"])
    );
}

#[test]
fn every_example_of_the_help_is_a_command_that_is_understood() {
    for (name, help) in long_helps() {
        let mut said = 0;
        let mut found = 0;
        let mut typed = String::new();
        for line in section(&help, "Examples") {
            let Some(line) = line.strip_prefix("    ") else {
                said += usize::from(line.ends_with(':'));
                continue;
            };
            if let Some(begun) = line.strip_suffix('\\') {
                typed.push_str(begun);
                continue;
            }
            typed.push_str(line);
            for call in calls(&typed) {
                let none = || Ok(Config::default());
                let known = cli::parse_with(call.iter().map(Into::into), none);
                if let Err(error) = known {
                    panic!("{name}: {typed}\n{error}");
                }
                found += usize::from(name == "roe-batch" || call[1..].join(" ").starts_with(&name));
            }
            typed.clear();
        }
        assert!(typed.is_empty(), "{name}: {typed}");
        assert!(
            said >= 2 && found >= 2,
            "{name}: {said} told, {found} its own"
        );
    }
}

#[test]
fn help_is_short_or_long_and_fits_a_terminal() {
    let program = cli::definition();
    let commands = all_commands();
    for (name, long) in long_helps() {
        let named = commands.iter().find(|(command, _)| *command == name);
        let command = named.map_or(&program, |(_, command)| command);
        let end = command.get_after_long_help().expect("an end").to_string();
        assert!(long.contains(&end), "{name}: a line is broken: {long}");
        let short = help(
            Some(name.as_str()).filter(|&name| name != "roe-batch"),
            "-h",
        );
        assert!(short.len() < long.len(), "{name}");
        assert!(!short.contains("Examples:"), "{name}");
        for line in short.lines().chain(long.lines()) {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
    }
}

#[test]
fn help_and_readme_name_the_same_exit_codes_variables_and_commands() {
    let help = help(None, "--help");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("a README");
    let rows = |title: &str| -> Vec<String> {
        let rows = readme.lines().skip_while(|line| !line.starts_with(title));
        let rows = rows.skip(2).take_while(|line| line.starts_with("| "));
        rows.map(|row| row.split('|').nth(1).expect("a cell").trim().to_owned())
            .collect()
    };
    let words = |cells: Vec<String>| -> BTreeSet<String> {
        let split = |cell: &String| {
            let words = cell.split(',').map(|word| word.trim().replace('`', ""));
            words.collect::<Vec<_>>()
        };
        cells.iter().flat_map(split).collect()
    };
    assert_eq!(terms(&help, "Exit codes"), words(rows("| exit code |")));
    let variables = terms(&help, "Environment");
    assert_eq!(variables, words(rows("| environment variable |")));
    for file in fs::read_dir(root.join("src/cli")).expect("listed") {
        let code = fs::read_to_string(file.expect("an entry").path()).expect("code");
        for name in code
            .split('"')
            .filter(|text| text.starts_with("ROE_") && *text != "ROE_")
        {
            let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            let is_one = name.chars().all(is_name);
            assert!(!is_one || variables.contains(name), "{name}");
        }
    }
    let named = |cell: &String| {
        let name = cell.trim_matches('`').split(' ').next();
        name.expect("a name").to_owned()
    };
    let listed: BTreeSet<String> = rows("| command |").iter().map(named).collect();
    assert_eq!(listed, commands().into_iter().collect());
}

/// Runs a program that may not be here, with the binary on its path.
#[expect(clippy::print_stderr, reason = "says what is passed over")]
fn tool(workspace: &Workspace, program: &str, args: &[&str]) -> Option<Output> {
    let binary = Path::new(env!("CARGO_BIN_EXE_roe-batch"));
    let folder = binary.parent().expect("a folder").display().to_string();
    let output = Command::new(program)
        .args(args)
        .current_dir(workspace.path())
        .env_clear()
        .env("ROE_BATCH_CONFIG", "")
        .env("PATH", format!("{folder}:/usr/local/bin:/usr/bin:/bin"))
        .env("HOME", workspace.path())
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "dumb")
        .output();
    match output {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: no {program} here");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// What a tool says; it is to complain of nothing.
fn quiet(output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaint.is_empty(),
        "{complaint}"
    );
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn a_script_for_each_shell_knows_all_commands_and_options() {
    for shell in clap_complete::Shell::value_variants() {
        let name = shell.to_string();
        let ran = Workspace::new().run(&["completions", &name]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name}");
        for (_, command) in all_commands() {
            assert!(ran.stdout.contains(command.get_name()), "{name}");
            for option in command.get_arguments().filter_map(|arg| arg.get_long()) {
                assert!(ran.stdout.contains(option), "{name}: {option}");
            }
        }
    }
    assert_eq!(Workspace::new().run(&["completions", "csh"]).code, 64);
}

/// Lines as they are typed, and what the shell makes of the last word: all of them.
const COMPLETED: [(&str, &[&str]); 7] = [
    ("roe-batch ap", &["apply"]),
    ("roe-batch apply --con", &["--concurrency"]),
    ("roe-batch apply m.yaml --con", &["--concurrency"]),
    ("roe-batch forget m.yaml f --van", &["--vanished"]),
    ("roe-batch apply --in-doubt ", &["hold", "resend", "verify"]),
    ("roe-batch report m.yaml --format js", &["json", "jsonl"]),
    ("roe-batch apply m.yaml --faults inv", &["invoices.yaml"]),
];

#[test]
fn bash_completes() {
    let workspace = Workspace::with("", &[("invoices.yaml", "")]);
    for (line, wanted) in COMPLETED {
        let script = format!(
            "eval \"$(roe-batch completions bash)\"
            line='{line}'
            read -ra COMP_WORDS <<< \"$line\"
            [[ $line == *' ' ]] && COMP_WORDS+=('')
            COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
            last=${{COMP_WORDS[COMP_CWORD]}}
            # Outside of a completion there is nothing that it could set.
            compopt() {{ :; }}
            function=$(complete -p roe-batch | sed 's/.*-F \\([^ ]*\\).*/\\1/')
            $function roe-batch \"$last\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"
            printf '%s\\n' \"${{COMPREPLY[@]}}\" | sort"
        );
        let Some(output) = tool(&workspace, "bash", &["--norc", "-c", &script]) else {
            return;
        };
        let found = quiet(&output);
        assert_eq!(found.lines().collect::<Vec<_>>(), wanted, "{line}");
    }
}

#[test]
fn fish_completes() {
    let workspace = Workspace::with("", &[("invoices.yaml", "")]);
    for (line, wanted) in COMPLETED {
        let script = format!("roe-batch completions fish | source; complete -C '{line}'");
        let Some(output) = tool(&workspace, "fish", &["--no-config", "-c", &script]) else {
            return;
        };
        let told = quiet(&output);
        // Behind a tab stands what it is.
        let mut found: Vec<&str> = told.lines().filter_map(|l| l.split('\t').next()).collect();
        found.sort_unstable();
        assert_eq!(found, wanted, "{line}");
    }
}

/// Zsh completes only where somebody types: it types itself, to another one.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty typist zsh -f -i
zpty -w typist 'PS1=; fpath=($PWD $fpath); autoload -Uz compinit; compinit -D -u'
zpty -w typist 'show() { print -r -- "<<$BUFFER>>" }; zle -N show; bindkey "^X" show'
zpty -w typist 'print rea""dy'
zpty -r typist shown '*ready*'
zpty -w -n typist "$1"$'\t\x18'
zpty -r typist shown '*<<*>>*'
zpty -d typist
shown=${shown##*<<}
print -r -- "${shown%%>>*}"
"#;

#[test]
fn zsh_completes() {
    let workspace = Workspace::with("", &[("invoices.yaml", "")]);
    let script = workspace.run(&["completions", "zsh"]).stdout;
    workspace.write("_roe-batch", script);
    for (line, wanted) in COMPLETED {
        let [wanted] = wanted else { continue };
        let Some(output) = tool(&workspace, "zsh", &["-f", "-c", ZSH, "zsh", line]) else {
            return;
        };
        let shown = quiet(&output);
        let found = shown.split_whitespace().next_back();
        // It says where a value may follow.
        let found = found.map(|word| word.trim_end_matches('='));
        assert_eq!(found, Some(*wanted), "{shown}");
    }
}

#[test]
fn powershell_completes() {
    let workspace = Workspace::with("", &[("invoices.yaml", "")]);
    let script = "roe-batch completions powershell | Out-String | Invoke-Expression
        $line = 'roe-batch apply --con'
        $found = TabExpansion2 $line $line.Length
        $found.CompletionMatches | ForEach-Object { $_.CompletionText }";
    let args = ["-NoProfile", "-NonInteractive", "-Command", script];
    if let Some(output) = tool(&workspace, "pwsh", &args) {
        assert_eq!(quiet(&output).trim(), "--concurrency");
    }
}

/// The manual's pages, written to a folder.
fn manual() -> (Workspace, Vec<String>) {
    let workspace = Workspace::new();
    let ran = workspace.run(&["man", "--out", "share/man1"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let all = all_commands().into_iter();
    let names = all.map(|(name, _)| format!("-{}", name.replace(' ', "-")));
    let pages: Vec<String> = std::iter::once(String::new())
        .chain(names)
        .map(|name| format!("roe-batch{name}.1"))
        .collect();
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr),
        ("", format!("wrote {} pages to share/man1\n", pages.len()))
    );
    (workspace, pages)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("listed");
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("UTF-8");
    entries
        .map(|entry| name(entry.expect("an entry")))
        .collect()
}

#[test]
fn the_manual_has_a_page_for_each_command_with_all_its_options() {
    let (workspace, pages) = manual();
    let folder = workspace.at("share/man1");
    assert_eq!(names(&folder), pages.iter().cloned().collect());
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a page");
    for (name, command) in all_commands() {
        let name = format!("roe-batch-{}", name.replace(' ', "-"));
        let page = read(&format!("{name}.1"));
        let title = format!(
            ".TH {name} 1 \"\" \"roe-batch {}\"",
            env!("CARGO_PKG_VERSION")
        );
        assert!(page.contains(&title), "{page}");
        for title in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES"] {
            assert!(
                page.contains(&format!("\n.SH {title}\n")),
                "{name}: {title}"
            );
        }
        for option in command.get_arguments().filter_map(|arg| arg.get_long()) {
            let option = format!("\\-\\-{}", option.replace('-', "\\-"));
            assert!(page.contains(&option), "{name}: {option}");
        }
    }
    let main = read("roe-batch.1");
    for title in ["\"EXIT STATUS\"", "ENVIRONMENT", "FILES", "EXAMPLES"] {
        assert!(main.contains(&format!("\n.SH {title}\n")), "{title}");
    }
    for args in [&["man"][..], &["man", "--out", "-"]] {
        let printed = workspace.run(args);
        assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
        assert_eq!(printed.stdout, main);
    }
}

#[test]
fn a_page_is_written_over_a_page_and_over_nothing_else() {
    let (workspace, pages) = manual();
    let at = |name: &str| workspace.at("share/man1").join(name);
    let again = |code: i32| {
        let ran = workspace.run(&["man", "--out", "share/man1"]);
        assert_eq!(ran.code, code, "{}", ran.all());
        ran.stderr
    };
    let older = ".TH roe-batch 1 \"\" \"roe-batch 0.0.1\"\nold\n";
    fs::write(at("roe-batch.1"), older).expect("written");
    again(0);
    let main = fs::read_to_string(at("roe-batch.1")).expect("a page");
    assert!(main.contains("EXIT STATUS"), "{main}");
    assert_eq!(names(&workspace.at("share/man1")).len(), pages.len());

    fs::write(at("roe-batch.1"), older).expect("written");
    fs::write(at("roe-batch-plan.1"), "mine").expect("written");
    let said = again(64);
    assert!(
        said.starts_with("error: share/man1/roe-batch-plan.1 is there already"),
        "{said}"
    );
    let kept = |name: &str| fs::read_to_string(at(name)).expect("a file");
    assert_eq!(kept("roe-batch-plan.1"), "mine");
    assert_eq!(kept("roe-batch.1"), older, "nothing was written");

    fs::remove_file(at("roe-batch-plan.1")).expect("removed");
    symlink("roe-batch.1", at("roe-batch-plan.1")).expect("a link");
    again(64);
    fs::remove_file(at("roe-batch-plan.1")).expect("removed");
    fs::create_dir(at("roe-batch-plan.1")).expect("a folder");
    again(64);

    workspace.write("file", "");
    let ran = workspace.run(&["man", "--out", "file"]);
    assert_eq!(ran.code, 74, "{}", ran.all());
}

#[test]
fn the_manual_is_set_without_a_complaint() {
    let (workspace, pages) = manual();
    for page in pages {
        let path = format!("share/man1/{page}");
        for (program, args) in [
            (
                "groff",
                &["-ww", "-man", "-Tutf8", "-P-cbou", "-rLL=80n"][..],
            ),
            ("mandoc", &["-Tutf8", "-Owidth=80", "-Werror"]),
        ] {
            let args: Vec<&str> = args.iter().copied().chain([path.as_str()]).collect();
            let Some(output) = tool(&workspace, program, &args) else {
                continue;
            };
            let text = quiet(&output);
            for line in text.lines() {
                // mandoc strikes letters twice.
                let line: String = line.split('\u{8}').fold(String::new(), |mut text, part| {
                    text.pop();
                    text + part
                });
                assert!(line.chars().count() <= 80, "{page} by {program}: {line}");
            }
        }
    }
}
