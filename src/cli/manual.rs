//! What stands at the end of each command's long help, and in its manual page.
//!
//! An unindented line is the title of a section. Below it, a line indented by two is a term and,
//! behind two spaces or more, what it means (deeper lines go on with that); or it is prose, and
//! deeper lines below it are to be typed as they are. No line has more than 80 columns.

pub(super) const SHORT: &str =
    "`roe-batch --help` says more: exit codes, environment variables, files and examples.";

pub(super) const PROGRAM: &str = "\
Exit codes:
  0      all planned files are stored, or were already
  1      some files failed, were rejected or not attempted, or are stored
         elsewhere or otherwise than sent
  2      only `plan --detailed-exitcode`: there is something to upload
  64     the command line is wrong
  65     a manifest, or a table or list that it names, is invalid, or a config
         file is
  69     the service cannot be reached, fails everything for too long, or is no
         Roe API
  70     an internal error
  74     local files or standard output cannot be written
  75     try again later: another run uses the same ledger, or the deadline came
  76     files in doubt remain
  77     there is no API key, or the service refused it
  129    ended by SIGHUP
  130    ended by SIGINT (Ctrl-C)
  143    ended by SIGTERM

Environment:
  ROE_API_KEY             the API key, unless --api-key-file says where it is
  ROE_BASE_URL            where the API is, as --base-url
  ROE_ORGANIZATION_ID     the organization of rules that name none
  ROE_TIMEOUT             as --timeout: seconds, or a time such as 2m
  ROE_MAX_RETRIES         attempts after the first, unless --max-attempts
  ROE_RETRY_INITIAL_MS    the longest wait after a first attempt (500)
  ROE_RETRY_MAX_MS        the longest wait after any attempt (30000)
  ROE_BATCH_STATE         the state folder, as --state
  ROE_BATCH_CONCURRENCY   files on their way at once, as --concurrency
  ROE_BATCH_API_KEY_FILE  the file that holds the key, as --api-key-file
  ROE_PROXY               the proxy, as --proxy
  ROE_BATCH_CA_FILE       certificate authorities to trust, as --ca-file
  ROE_BATCH_HTTP2         1 to speak HTTP/2, as --http2
  ROE_BATCH_CONFIG        the one config file, or none where it is empty
  ROE_BATCH_METRICS_FILE  where measurements are written, as --metrics-file
  ROE_BATCH_OTLP          the collector that gets them, as --otlp
  ROE_BATCH_OTLP_HEADERS  headers that it wants: name=value,name=value
  ROE_BATCH_ALLOW_HOOKS   1 to run hooks of manifests, as --allow-hooks
  ROE_BATCH_PROGRESS      how to show progress, as --progress
  NO_COLOR                if set, no colours, and lines instead of bars
  HTTPS_PROXY             a proxy, where neither ROE_PROXY nor --proxy names one
  NO_PROXY                hosts that HTTPS_PROXY is not for

Files:
  .roe-batch/                the state folder, beside the manifest, unless
                             --state or ROE_BATCH_STATE says otherwise
  .roe-batch/ledger.sqlite   what is stored and what is in doubt: keep it, for
                             without it everything is new
  .roe-batch/reports/        reports, unless the manifest says where
  .roe-batch/sandbox/        what --sandbox stored
  .roeignore                 what is not to be uploaded, as in a .gitignore
  ~/.config/roe-batch/       config.yaml there has your defaults, or where
                             XDG_CONFIG_HOME says: `roe-batch config` shows them
  /etc/xdg/roe-batch/        the same for everybody, or where XDG_CONFIG_DIRS
                             says

Examples:
  Write a first manifest for a folder, see what it would do, and upload:
    roe-batch init inbox
    roe-batch plan inbox/roe-batch.yaml
    roe-batch apply inbox/roe-batch.yaml
  Try it out first, without an account or a network:
    roe-batch apply inbox/roe-batch.yaml --sandbox
  See where the files stand:
    roe-batch status inbox/roe-batch.yaml";

pub(super) const APPLY: &str = "\
Exit codes:
  0, 1            all files are stored; some failed
  64, 65          the command line is wrong; a manifest is invalid
  69, 77          the service is unavailable; it refused the key
  70, 74          an internal error; local files cannot be written
  75, 76          try again later; files in doubt remain
  129, 130, 143   ended by a signal

Examples:
  Upload what is new or changed; the key is in ROE_API_KEY:
    roe-batch apply invoices.yaml
  Rehearse it with the embedded server, without an account or a network:
    roe-batch apply invoices.yaml --sandbox
  At night: gently, done by the morning, with a report of its own:
    roe-batch apply invoices.yaml --rate 5/s --deadline 6h \\
      --report night.csv
  As fast as the service likes, but stop when more than 20 files fail:
    roe-batch apply invoices.yaml --concurrency auto --failure-budget 20
  With measurements for Prometheus, and the manifest's hooks:
    roe-batch apply invoices.yaml --allow-hooks \\
      --metrics-file /var/lib/node_exporter/invoices.prom
  For another program: what happens, and how far it is, as JSON Lines:
    roe-batch apply invoices.yaml --progress json 2> progress.jsonl";

pub(super) const WATCH: &str = "\
Exit codes:
  0               ended by a signal, with all files stored
  1, 69, 75, 76   ended by a signal, and the last run had ended so: the
                  service may have failed, or files failed or are in doubt
  64, 65          the command line is wrong; the manifest is invalid from the
                  start (later on, that is told, and mending it waited for)
  70, 74, 77      ends by itself: an internal error; local files cannot be
                  written; the service refused the key
  129, 130, 143   a signal ended a run before all its files were stored

Signals:
  SIGTERM, SIGINT (Ctrl-C) and SIGHUP end the watch: at once, or once the
  uploads under way are done, for which --grace waits; a second one drops them.

Examples:
  Upload what comes into the manifest's folders, until Ctrl-C:
    roe-batch watch invoices.yaml
  Rehearse it with the embedded server, without an account or a network:
    roe-batch watch invoices.yaml --sandbox
  On a network file system, where others' changes are not told: look often:
    roe-batch watch invoices.yaml --events never --rescan 30s
  As a service, with the key in a file that may be replaced at any time:
    roe-batch watch invoices.yaml --api-key-file /etc/roe/key";

pub(super) const PLAN: &str = "\
Examples:
  See what would be uploaded, and why:
    roe-batch plan invoices.yaml
  See it with another value of one of the manifest's vars:
    roe-batch plan invoices.yaml --set month=2026-05
  In a script: exit with 2 where something is to be uploaded:
    roe-batch plan invoices.yaml --detailed-exitcode
  Keep the plan for another program:
    roe-batch plan invoices.yaml --format json > plan.json";

pub(super) const CHECK: &str = "\
Examples:
  Find every mistake, without network and ledger:
    roe-batch check invoices.yaml
  In CI: all manifests of a folder, and warnings fail too:
    roe-batch check manifests/*.yaml --strict
  For an editor or another program:
    roe-batch check invoices.yaml --format json";

pub(super) const EXPLAIN: &str = "\
Examples:
  Find out whether a file is uploaded, why, and with which metadata:
    roe-batch explain invoices.yaml inbox/acme/invoice-1001.pdf
  Ask the sandbox's ledger about it:
    roe-batch explain invoices.yaml inbox/acme/invoice-1001.pdf --sandbox
  For another program:
    roe-batch explain invoices.yaml inbox/a.pdf --format json";

pub(super) const RESOLVE: &str = "\
Examples:
  List the files in doubt:
    roe-batch resolve invoices.yaml
  Look for all of them in the dataset:
    roe-batch resolve invoices.yaml --verify
  Say that the service has a file, under this ID:
    roe-batch resolve invoices.yaml inbox/a.pdf \\
      --stored 7c9e6679-7425-40de-944b-e07fc1f90ae7
  Say that it has not: the next run sends the file again:
    roe-batch resolve invoices.yaml inbox/b.pdf --not-stored";

pub(super) const STATUS: &str = "\
Examples:
  See where the files stand, and whether a run is under way:
    roe-batch status invoices.yaml
  For a monitor:
    roe-batch status invoices.yaml --format json";

pub(super) const REPORT: &str = "\
Examples:
  Print the last run's report again:
    roe-batch report invoices.yaml
  Write down every file that any run stored, with its ID:
    roe-batch report invoices.yaml --all --out files.csv
  Look at it in a browser:
    roe-batch report invoices.yaml --out last.html
  Print an earlier run's, which `status` lists, as JSON Lines:
    roe-batch report invoices.yaml --run 019a2f --format jsonl";

pub(super) const IMPORT: &str = "\
Examples:
  Adopt what another program uploaded, so that it is not sent again:
    roe-batch import invoices.yaml uploaded.csv
  After the loss of a ledger, bring the IDs back from a report:
    roe-batch import invoices.yaml files.csv --ignore-missing";

pub(super) const FORGET: &str = "\
Examples:
  Have the next run send a file again:
    roe-batch forget invoices.yaml inbox/acme/invoice-1001.pdf
  The same for all files of a folder:
    roe-batch forget invoices.yaml inbox/acme/
  Drop what is known of files that are gone:
    roe-batch forget invoices.yaml --vanished";

pub(super) const INIT: &str = "\
Examples:
  Write inbox/roe-batch.yaml:
    roe-batch init inbox
  Look at what it would write:
    roe-batch init inbox --out -";

pub(super) const SANDBOX: &str = "\
Examples:
  Run the server, until Ctrl-C:
    roe-batch sandbox --data /tmp/roe-sandbox
  Upload to it from another terminal; any key will do:
    ROE_API_KEY=any roe-batch apply invoices.yaml \\
      --base-url http://127.0.0.1:8787
  Give it a bad day:
    roe-batch sandbox --faults bad-day.yaml";

pub(super) const SCHEDULE: &str = "\
Examples:
  A line for `crontab -e`:
    roe-batch schedule cron invoices.yaml
  A service and its timer:
    roe-batch schedule systemd invoices.yaml
  A CronJob:
    roe-batch schedule kubernetes invoices.yaml --image roe-batch:0.1.0";

pub(super) const SCHEDULE_CRON: &str = "\
Examples:
  A line for `crontab -e`: every night, the key in a file:
    roe-batch schedule cron invoices.yaml --api-key-file roe.key
  Every 20 minutes, with a log:
    roe-batch schedule cron invoices.yaml --cron '*/20 * * * *' \\
      --log invoices.log";

pub(super) const SCHEDULE_SYSTEMD: &str = "\
Examples:
  See the service and its timer, and where to put them:
    roe-batch schedule systemd invoices.yaml --api-key-file roe.key
  Write one of them to its file:
    roe-batch schedule systemd invoices.yaml --api-key-file roe.key \\
      --only timer > roe-batch-invoices.timer
  Every working day at four:
    roe-batch schedule systemd invoices.yaml \\
      --on-calendar 'Mon..Fri 04:00'";

pub(super) const SCHEDULE_KUBERNETES: &str = "\
Examples:
  A CronJob, and a claim of a volume for its ledger:
    roe-batch schedule kubernetes invoices.yaml --image roe-batch:0.1.0
  Send it to a cluster at once, for every hour:
    roe-batch schedule kubernetes invoices.yaml --image roe-batch:0.1.0 \\
      --cron '5 * * * *' | kubectl apply -f -";

pub(super) const CONFIG: &str = "\
Examples:
  See what holds on this machine, and who says so:
    roe-batch config --show-origin
  See it for the runs of a manifest:
    roe-batch config invoices.yaml --show-origin
  Begin a config file with what holds now:
    mkdir -p ~/.config/roe-batch
    roe-batch config > ~/.config/roe-batch/config.yaml";

pub(super) const DOCTOR: &str = "\
Examples:
  Before the first run, or when one failed: see what is wrong here:
    roe-batch doctor invoices.yaml
  Without a network:
    roe-batch doctor invoices.yaml --offline
  For a monitor:
    roe-batch doctor invoices.yaml --format json";

pub(super) const SCHEMA: &str = "\
Examples:
  Have an editor check and complete manifests: write the schema beside them,
  and begin them with `# yaml-language-server: $schema=manifest.schema.json`:
    roe-batch schema > manifest.schema.json
  See what a report in JSON holds, and what hooks are told:
    roe-batch schema report
    roe-batch schema summary
  The same for config files:
    roe-batch schema config > config.schema.json";

pub(super) const COMPLETIONS: &str = "\
Examples:
  bash, where the package bash-completion is installed:
    mkdir -p ~/.local/share/bash-completion/completions
    roe-batch completions bash \\
      > ~/.local/share/bash-completion/completions/roe-batch
  bash, elsewhere: put this line into ~/.bashrc:
    eval \"$(roe-batch completions bash)\"
  zsh:
    mkdir -p ~/.zfunc
    roe-batch completions zsh > ~/.zfunc/_roe-batch
  and put these lines into ~/.zshrc, the first one before any compinit:
    fpath=(~/.zfunc $fpath)
    autoload -Uz compinit && compinit
  fish:
    mkdir -p ~/.config/fish/completions
    roe-batch completions fish \\
      > ~/.config/fish/completions/roe-batch.fish
  PowerShell: put this line into the file that $PROFILE names:
    roe-batch completions powershell | Out-String | Invoke-Expression
  elvish:
    roe-batch completions elvish >> ~/.config/elvish/rc.elv";

pub(super) const MAN: &str = "\
Examples:
  Read the manual:
    roe-batch man | man -l -
  Install all pages for yourself, where ~/.local/bin is on the PATH:
    roe-batch man --out ~/.local/share/man/man1
  Install them where ~/.cargo/bin is, then read one of them:
    roe-batch man --out ~/.cargo/share/man/man1
    man roe-batch-apply
  Install them for everybody:
    sudo roe-batch man --out /usr/local/share/man/man1";
