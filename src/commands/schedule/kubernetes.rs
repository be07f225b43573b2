//! A `CronJob`, and the volume of its ledger.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{Job, Sequel, codes, ordinary, refused, shell, text as path_text, yaml};
use crate::error::{Exit, Failure};
use crate::model::{CronTime, shown};

/// Where the manifest lies in the container, and what it names below it.
const HOME: &str = "/batch";

/// The state folder, beside it.
const STATE: &str = ".roe-batch";

/// Who runs it: nobody in particular.
const USER: u32 = 65_532;

pub(super) fn text(
    job: &Job,
    time: &CronTime,
    image: &str,
    files: Option<&str>,
) -> Result<String, Failure> {
    ordinary("the image", image)?;
    let name = &job.name;
    let own_files = format!("{name}-files");
    let files = files.unwrap_or(&own_files);
    ordinary("the claim", files)?;
    let mut command = "                - roe-batch\n".to_owned();
    for word in job.arguments(&manifest(job)?, &place(Path::new(STATE))?, None) {
        let _ = writeln!(command, "                - {}", value(&word));
    }
    let (key_comment, environment) = environment(job);
    let parts = Parts {
        name,
        labels: format!(
            "{{app.kubernetes.io/name: roe-batch, app.kubernetes.io/instance: {name}}}"
        ),
        files: yaml(files),
        image: yaml(image),
        command,
        environment,
        mounts: mounts(job)?,
    };
    Ok(format!(
        "\
# Before `kubectl apply -f`:
# kubectl create configmap {name} --from-file=manifest.yaml=/dev/stdin <{}
{key_comment}# The claim {} is your own: what the manifest names lies there as it lies beside the
# manifest. The ledger's volume must have file locks, as disks do, and NFS often does not.
{}---
{}",
        shell(&job.manifest),
        parts.files,
        claim(&parts),
        cron_job(job, time, &parts),
    ))
}

/// What the resources are made of, as YAML.
struct Parts<'a> {
    name: &'a str,
    labels: String,
    /// The claim that has the files.
    files: String,
    image: String,
    command: String,
    environment: String,
    mounts: String,
}

fn claim(Parts { name, labels, .. }: &Parts<'_>) -> String {
    format!(
        "\
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {name}-ledger
  labels: {labels}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 1Gi}}}}
"
    )
}

fn cron_job(job: &Job, time: &CronTime, parts: &Parts<'_>) -> String {
    let Parts {
        name,
        labels,
        files,
        image,
        command,
        environment,
        mounts,
    } = parts;
    format!(
        r#"apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
  labels: {labels}
spec:
  schedule: "{time}"
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 3600
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      # Tried again: it gave up on the service ({again}), or was killed.
      backoffLimit: 3
      podFailurePolicy:
        rules:
          # That a node is drained is no failure.
          - action: Ignore
            onPodConditions:
              - type: DisruptionTarget
                status: "True"
          # Not tried again: the deadline came ({later}), or somebody has to look.
          - action: FailJob
            onExitCodes:
              containerName: roe-batch
              operator: In
              values: [{mend}]
      template:
        metadata:
          labels: {labels}
        spec:
          restartPolicy: Never
          # Longer than --grace: what is under way may end, and a report is written.
          terminationGracePeriodSeconds: {to_end}
          automountServiceAccountToken: false
          enableServiceLinks: false
          securityContext:
            runAsNonRoot: true
            runAsUser: {USER}
            runAsGroup: {USER}
            fsGroup: {USER}
            fsGroupChangePolicy: OnRootMismatch
            seccompProfile: {{type: RuntimeDefault}}
          containers:
            - name: roe-batch
              image: {image}
              command:
{command}{environment}              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities: {{drop: [ALL]}}
              resources:
                requests: {{cpu: 100m, memory: 128Mi}}
                limits: {{memory: 512Mi}}
              volumeMounts:
{mounts}          volumes:
            - name: manifest
              configMap: {{name: {name}}}
            - name: ledger
              persistentVolumeClaim: {{claimName: {name}-ledger}}
            - name: files
              persistentVolumeClaim: {{claimName: {files}, readOnly: true}}
            - name: tmp
              emptyDir: {{sizeLimit: 1Gi}}
"#,
        time = time.as_str(),
        again = codes(&[Sequel::Again], ", "),
        later = codes(&[Sequel::NextTime], ", "),
        mend = codes(&[Sequel::NextTime, Sequel::Mend], ", "),
        to_end = job.to_end(),
    )
}

/// Where the manifest lies in the container: under its own name, which others are made from.
fn manifest(job: &Job) -> Result<String, Failure> {
    let name = Path::new(&job.manifest).file_name();
    place(Path::new(name.unwrap_or_default()))
}

fn mounts(job: &Job) -> Result<String, Failure> {
    let folder = Path::new(&job.manifest).parent();
    let folder = folder.unwrap_or(Path::new("/"));
    let reads = below(&job.reads, folder)?;
    let writes = below(&job.writes, folder)?;
    let is_read = |path: &Path| reads.iter().any(|read| path.starts_with(read));
    if let Some(path) = writes.iter().find(|path| is_read(path)) {
        let message = format!(
            "reports go to {}, which is in a folder that files are read from",
            shown(&path_text("a report's folder", path)?)
        );
        return Err(Failure::new(Exit::Usage, message).hint("write reports into a folder apart"));
    }
    let at = manifest(job)?;
    let mut mounts = mount("manifest", &at, Some("manifest.yaml"), Access::Read);
    let state = Path::new(STATE);
    mounts += &mount("ledger", &place(state)?, Some("state"), Access::Write);
    for path in writes.iter().filter(|path| !path.starts_with(state)) {
        let sub = format!("reports/{}", path_text("a report's folder", path)?);
        mounts += &mount("ledger", &place(path)?, Some(&sub), Access::Write);
    }
    for path in &reads {
        let sub = path_text("a path of the manifest", path)?;
        mounts += &mount("files", &place(path)?, Some(&sub), Access::Read);
    }
    mounts += &mount("tmp", "/tmp", None, Access::Write);
    Ok(mounts)
}

/// The container's variables, and how the Secret is made that the key comes from.
fn environment(job: &Job) -> (String, String) {
    let name = &job.name;
    let mut text = String::new();
    for (variable, is) in &job.environment {
        let _ = write!(
            text,
            "                - name: {}\n                  value: {}\n",
            yaml(variable),
            value(is)
        );
    }
    let mut comment = String::new();
    if job.needs_key {
        comment = format!(
            "# kubectl create secret generic {name} --from-file=api-key=/dev/stdin <KEY-FILE\n"
        );
        let _ = write!(
            text,
            "                - name: ROE_API_KEY\n                  \
             valueFrom: {{secretKeyRef: {{name: {name}, key: api-key}}}}\n"
        );
    }
    if !text.is_empty() {
        text.insert_str(0, "              env:\n");
    }
    (comment, text)
}

/// A text in which Kubernetes would replace `$(NAME)`.
fn value(text: &str) -> String {
    yaml(&text.replace('$', "$$"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

fn mount(volume: &str, at: &str, sub: Option<&str>, access: Access) -> String {
    let mut text = format!(
        "                - name: {volume}\n                  mountPath: {}\n",
        yaml(at)
    );
    if let Some(sub) = sub {
        let _ = writeln!(text, "                  subPath: {}", yaml(sub));
    }
    if access == Access::Read {
        text.push_str("                  readOnly: true\n");
    }
    text
}

/// Where a path beside the manifest lies in the container.
fn place(path: &Path) -> Result<String, Failure> {
    let path = path_text("a path of the manifest", path)?;
    if path.contains(':') {
        return Err(refused(
            "a path of the manifest",
            &path,
            "has a `:` in it, which no mount may",
        ));
    }
    Ok(format!("{HOME}/{path}"))
}

/// Paths as they lie below the manifest's folder; none that lies in another one of them.
fn below(paths: &BTreeSet<PathBuf>, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut below: Vec<PathBuf> = Vec::new();
    // Folders come before what is in them.
    for path in paths {
        let inner = path.strip_prefix(folder).unwrap_or(Path::new(""));
        if inner.as_os_str().is_empty() {
            let message = format!(
                "{} is not in a folder of its own beside the manifest: no volume can have its place",
                path_text("a path of the manifest", path)?
            );
            let hint = "put what is read, and reports, each into a folder beside the manifest";
            return Err(Failure::new(Exit::Usage, message).hint(hint));
        }
        if !below.iter().any(|outer| inner.starts_with(outer)) {
            below.push(inner.to_owned());
        }
    }
    Ok(below)
}
