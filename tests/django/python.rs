//! Python with Django, installed once into the target folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The scripts, and the packages that they need.
pub const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/django");

static INTERPRETER: OnceLock<Result<PathBuf, Unusable>> = OnceLock::new();

/// Why there is no Django.
enum Unusable {
    NoPython(String),
    NotInstalled(String),
}

/// The interpreter that has all packages. Without Python or the packages the test is skipped, and
/// says so where libtest hides nothing; but CI with a Python must be able to install.
pub fn interpreter() -> Option<&'static Path> {
    let why = match INTERPRETER.get_or_init(install) {
        Ok(path) => return Some(path),
        Err(Unusable::NotInstalled(why)) if std::env::var_os("CI").is_some() => panic!("{why}"),
        Err(Unusable::NoPython(why) | Unusable::NotInstalled(why)) => why,
    };
    let test = std::thread::current();
    // Unlike `eprintln!`, this is not captured.
    let _ = writeln!(
        io::stderr(),
        "skipped: {}: {why}",
        test.name().unwrap_or_default()
    );
    None
}

/// Another Python than this process may be set up for has nothing to say here.
pub fn isolated(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_remove("PYTHONHOME")
        .env_remove("PYTHONPATH")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUTF8", "1");
    command
}

fn install() -> Result<PathBuf, Unusable> {
    let version = "import sys; print(sys.executable, sys.version)";
    let version = run(isolated("python3").args(["-c", version])).map_err(Unusable::NoPython)?;
    let requirements = format!("{SCRIPTS}/requirements.txt");
    let stamp = version + &fs::read_to_string(&requirements).expect("the requirements");

    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(target.join("django.lock")).expect("a lock");
    lock.lock().expect("locked");
    let environment = target.join("django");
    let (interpreter, stamped) = (environment.join("bin/python"), environment.join("stamp"));
    if fs::read_to_string(&stamped).is_ok_and(|found| found == stamp) {
        return Ok(interpreter);
    }
    if environment.exists() {
        fs::remove_dir_all(&environment).expect("removed");
    }
    fill(&environment, &interpreter, &requirements).map_err(Unusable::NotInstalled)?;
    fs::write(stamped, stamp).expect("stamped");
    Ok(interpreter)
}

fn fill(environment: &Path, interpreter: &Path, requirements: &str) -> Result<(), String> {
    let mut pip = if run(isolated("python3").args(["-m", "venv"]).arg(environment)).is_ok() {
        isolated(interpreter)
    } else {
        // Some systems package Python without what puts pip into an environment; the pip of the
        // system can fill one too.
        let mut bare = isolated("python3");
        run(bare
            .args(["-m", "venv", "--clear", "--without-pip"])
            .arg(environment))?;
        isolated("python3")
    };
    let packages = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = run(isolated(interpreter).args(["-c", packages]))?;
    pip.args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--retries", "2"])
        .args(["--only-binary", ":all:", "--no-deps"])
        .args(["--requirement", requirements, "--target", packages.trim()]);
    run(&mut pip).map(drop)
}

/// What a command prints, or what it says when it fails.
fn run(command: &mut Command) -> Result<String, String> {
    let program = Path::new(command.get_program()).file_name();
    let what: Vec<_> = program
        .into_iter()
        .chain(command.get_args().take(3))
        .map(|word| word.display().to_string())
        .collect();
    let what = what.join(" ");
    let output = command
        .output()
        .map_err(|error| format!("{what}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = text(&output.stderr) + &text(&output.stdout);
    Err(format!("{what}: {}: {}", output.status, said.trim()))
}
