//! A service and its timer.

use std::fmt::Write;
use std::path::PathBuf;

use super::{Job, Place, Sequel, codes, is_simple, refused, shell};
use crate::cli::Unit;
use crate::error::Failure;

/// What a run needs nothing of.
const HARDENING: &str = "\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
";

/// Where `PrivateTmp=` would hide what is there.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

pub(super) fn text(
    job: &Job,
    place: &Place,
    calendar: &str,
    unit: Option<Unit>,
) -> Result<String, Failure> {
    let mut parts = Vec::new();
    if unit != Some(Unit::Timer) {
        parts.push(service(job, place)?);
    }
    if unit != Some(Unit::Service) {
        parts.push(timer(job, calendar));
    }
    Ok(parts.join("\n"))
}

fn service(job: &Job, place: &Place) -> Result<String, Failure> {
    let name = &job.name;
    let mut writes = vec![place.state.clone()];
    for folder in &job.writes {
        if !folder.starts_with(&place.state) {
            writes.push(super::text("a report's folder", folder)?);
        }
    }
    let folders: Vec<String> = writes.iter().map(|folder| shell(folder)).collect();
    let mut text = format!(
        "# /etc/systemd/system/{name}.service\n\
         # Before its first run, as its user: mkdir -p -m 700 {}\n\
         [Unit]\n\
         Description=Upload files to Roe AI ({name})\n\
         Wants=network-online.target\n\
         After=network-online.target\n\n\
         [Service]\n\
         Type=oneshot\n\
         User={}\n",
        folders.join(" "),
        place.user
    );
    for (variable, value) in &job.environment {
        let word = specifiers(&format!("{variable}={value}"));
        let _ = writeln!(text, "Environment={}", quoted(&word));
    }
    if let Some(key) = &place.key_file {
        // The rest of the line is the path as it is, without the white space at its end.
        if key.ends_with(|c: char| c.is_whitespace() || c == '\\') {
            let why = "ends with a space or a backslash";
            return Err(refused("the path of the API key's file", key, why));
        }
        text.push_str("# Read by systemd itself: nobody but root needs to be able to.\n");
        let _ = writeln!(text, "LoadCredential=api-key:{}", specifiers(key));
    }
    let credential = "${CREDENTIALS_DIRECTORY}/api-key";
    let _ = write!(text, "ExecStart={}", quoted(&specifiers(&place.program)));
    for word in job.arguments(
        &job.manifest,
        &place.state,
        place.key_file.as_ref().map(|_| credential),
    ) {
        let word = if word == credential {
            word
        } else {
            specifiers(&word).replace('$', "$$")
        };
        let _ = write!(text, " {}", quoted(&word));
    }
    text.push('\n');
    let _ = write!(
        text,
        "# In good order, and the next run goes on: the deadline came, or somebody stopped it.\n\
         SuccessExitStatus={}\n\
         # Tried again soon: it gave up on the service ({}), or was killed. The rest is for people.\n\
         Restart=on-failure\n\
         RestartSec=15min\n\
         RestartPreventExitStatus={}\n\
         TimeoutStartSec=infinity\n\
         # Longer than --grace: what is under way may end, and a report is written.\n\
         KillSignal=SIGTERM\n\
         TimeoutStopSec={}s\n\n",
        codes(&[Sequel::NextTime, Sequel::Stopped], " "),
        codes(&[Sequel::Again], ", "),
        codes(&[Sequel::Mend], " "),
        job.to_end()
    );
    text.push_str(HARDENING);
    // Root reads other people's files by a capability.
    if place.user != 0 {
        text.push_str("CapabilityBoundingSet=\n");
    }
    let mut touched: Vec<PathBuf> = job.reads.iter().cloned().collect();
    let named = [&job.manifest, &place.program];
    touched.extend(named.into_iter().chain(&writes).map(PathBuf::from));
    let is_temporary = |path: &PathBuf| TEMPORARY.iter().any(|place| path.starts_with(place));
    if touched.iter().any(is_temporary) {
        writes.extend(TEMPORARY.map(ToOwned::to_owned));
    } else {
        text.push_str("PrivateTmp=yes\n");
    }
    text.push_str("ReadWritePaths=");
    for (index, folder) in writes.iter().enumerate() {
        let between = if index == 0 { "" } else { " " };
        let _ = write!(text, "{between}{}", quoted_path(folder)?);
    }
    text.push('\n');
    Ok(text)
}

fn timer(job: &Job, calendar: &str) -> String {
    let name = &job.name;
    format!(
        "# /etc/systemd/system/{name}.timer\n\
         # Then: systemctl daemon-reload && systemctl enable --now {name}.timer\n\
         [Unit]\n\
         Description=When to upload files to Roe AI ({name})\n\n\
         [Timer]\n\
         OnCalendar={calendar}\n\
         RandomizedDelaySec=5min\n\
         # A turn that the machine slept through is made up for.\n\
         Persistent=true\n\n\
         [Install]\n\
         WantedBy=timers.target\n"
    )
}

/// `%` begins a specifier.
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// A word of a line whose words are unescaped.
fn quoted(word: &str) -> String {
    if is_simple(word) {
        return word.to_owned();
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A word of `ReadWritePaths=`, where a backslash stands for itself.
fn quoted_path(path: &str) -> Result<String, Failure> {
    let word = specifiers(path);
    if is_simple(path) {
        Ok(word)
    } else if !path.contains('"') {
        Ok(format!("\"{word}\""))
    } else if !path.contains('\'') {
        Ok(format!("'{word}'"))
    } else {
        let why = "has both kinds of quotes in it, which systemd cannot read";
        Err(refused("a folder's path", path, why))
    }
}
