"""What is compared with what, and the rows of the table."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

from machine import HERE, Failed, Tree, measure, own_environment, start_up

REPOSITORY = HERE.parent.parent
DATASET = "3f2b7a52-0000-4000-8000-000000000001"
OURS = "roe-batch"

PLAIN = """version: 1
name: {name}
defaults:
  dataset_id: {dataset}
uploads:
  - name: all
    root: {root}
    include: '**'
"""

# Four globs and two templates.
BRANCHED = """version: 1
name: {name}
defaults:
  dataset_id: {dataset}
uploads:
  - name: all
    root: {root}
    include: ['**/*.pdf', '**/*.png', '**/*.txt', '**/*.docx']
    metadata:
      batch: ${{{{ file.parent }}}}
      document: ${{{{ file.stem }}}}
"""

# Runs of a command that is over in milliseconds.
STARTS = 15

WRK_SECONDS = 3
WRK_SECONDS_QUICK = 1

# What the slow sink waits before it answers.
DELAY = 0.05


class Clients:
    """One method a client: each does the whole of a case's work once, and says what it took."""

    def __init__(self, binary, work, sink, is_quick):
        self.binary = binary
        self.work = work
        self.sink = sink
        self.is_quick = is_quick

    def environment(self, kind="plain"):
        base = self.sink.base(kind)
        return own_environment(self.work, ROE_API_KEY="bench-key", ROE_BASE_URL=base)

    def manifest(self, tree, template=PLAIN):
        file = self.work / f"{tree.name}.yaml"
        file.write_text(template.format(name=tree.name, dataset=DATASET, root=tree.root))
        return file

    def state(self, name="state"):
        """A new state folder."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def ours(self, command, manifest, state, *more, kind="plain", stdout=None):
        words = [self.binary, command, manifest, "--state", state, *more]
        return measure(words, self.work, self.environment(kind), stdout)

    def apply(self, case, *, concurrency=32, kind="plain"):
        more = ["--concurrency", concurrency]
        if kind == "tls":
            more += ["--ca-file", self.sink.ca_file]
        return self.ours("apply", self.manifest(case.tree), self.state(), *more, kind=kind)

    def curl(self, case, *, concurrency=32, kind="plain"):
        """One process; an operation a file."""
        config = self.work / f"{case.tree.name}-{kind}.curl"
        common = [
            f'url = "{self.sink.url(kind)}"',
            'header = "Authorization: Bearer bench-key"',
            f'form = "dataset_id={DATASET}"',
            'output = "/dev/null"',
            "fail",
        ]
        if kind == "tls":
            common.append(f'cacert = "{self.sink.ca_file}"')
        operations = (
            "\n".join([*common, f'form = "file=@{entry.path}"']) for entry in case.tree.paths()
        )
        config.write_text("\nnext\n".join(operations) + "\n")
        how = ["--no-progress-meter", "--parallel", "--parallel-max", concurrency]
        return measure(["curl", *how, "--config", config], self.work)

    def go(self, case):
        peer, source = self.work / "peer", HERE / "peer.go"
        if not peer.exists() or peer.stat().st_mtime < source.stat().st_mtime:
            environment = own_environment(self.work, GOCACHE=str(self.work / "go"))
            command = ["go", "build", "-o", peer, source]
            subprocess.run(command, check=True, env=environment, cwd=HERE)
            case.make_ready(self)
        return measure([peer, self.sink.url("plain"), case.tree.root, 32], self.work)

    def python(self, case, *, how):
        peer = [sys.executable, HERE / "peer.py", self.sink.url("plain"), case.tree.root, how]
        return measure(peer, self.work)

    def rclone(self, case):
        environment = own_environment(
            self.work,
            RCLONE_CONFIG=str(self.work / "rclone.conf"),
            RCLONE_S3_ACCESS_KEY_ID="bench",
            RCLONE_S3_SECRET_ACCESS_KEY="bench-key",
        )
        endpoint = ["--s3-provider", "Other", "--s3-endpoint", self.sink.base("s3")]
        # Without the requests that it makes besides the uploads.
        kind = ["--s3-no-check-bucket", "--s3-no-head", "--transfers", 32, "--checkers", 32]
        command = ["rclone", "copy", case.tree.root, ":s3:bench", *endpoint, *kind]
        return measure(command, self.work, environment)

    def s5cmd(self, case):
        environment = own_environment(
            self.work,
            AWS_ACCESS_KEY_ID="bench",
            AWS_SECRET_ACCESS_KEY="bench-key",
            AWS_REGION="us-east-1",
        )
        options = ["--log", "error", "--endpoint-url", self.sink.base("s3"), "--numworkers", 32]
        command = ["s5cmd", *options, "cp", f"{case.tree.root}/", "s3://bench/"]
        return measure(command, self.work, environment)

    def wrk(self, _case):
        seconds = WRK_SECONDS_QUICK if self.is_quick else WRK_SECONDS
        command = ["wrk", "-t", 1, "-c", 32, "-d", f"{seconds}s", "-s", HERE / "wrk.lua"]
        sample = measure([*command, self.sink.base("plain")], self.work)
        found = re.search(r"(\d+) requests in ([\d.]+)(m?s)", sample.stdout)
        if not found or "Non-2xx" in sample.stdout or "Socket errors" in sample.stdout:
            raise Failed(f"wrk says:\n{sample.stdout}")
        sample.files = int(found[1])
        sample.seconds = float(found[2]) / (1000 if found[3] == "ms" else 1)
        return sample

    def find(self, case):
        command = ["find", case.tree.root, "-type", "f", "-printf", r"%p %s %T@\n"]
        return measure(command, self.work, stdout=os.devnull)

    def plan(self, case):
        manifest = self.manifest(case.tree, BRANCHED)
        return self.planned(case, self.ours("plan", manifest, self.state()))

    def planned(self, case, sample):
        if f"{case.tree.files} files planned" not in sample.stdout.replace(",", ""):
            raise Failed(f"the plan is not of {case.tree.files} files:\n{sample.stdout}")
        return sample

    def whole(self, case):
        """An apply of everything, whose state is kept for what comes after it."""
        manifest = self.manifest(case.tree, BRANCHED)
        state = self.state(f"whole-{case.tree.name}")
        return self.ours("apply", manifest, state, "--concurrency", 32)

    def kept(self, command, case, *more):
        """A command on the state that `whole` left."""
        manifest = self.manifest(case.tree, BRANCHED)
        return self.ours(command, manifest, self.work / f"whole-{case.tree.name}", *more)

    def plan_again(self, case):
        """With everything stored."""
        sample = self.planned(case, self.kept("plan", case))
        if not re.search(r"\b0 to upload", sample.stdout):
            raise Failed(f"something is to be uploaded again:\n{sample.stdout}")
        return sample

    def report(self, case):
        out = self.work / "report.csv"
        sample = self.kept("report", case, "--format", "csv", "--out", out)
        with open(out, "rb") as file:
            # No value of these has a line break.
            rows = sum(1 for _ in file) - 1
        out.unlink()
        if rows != case.tree.files:
            raise Failed(f"a report of {rows} rows, not {case.tree.files}")
        return sample


@dataclass
class Case:
    """Work that several clients do in turn."""

    name: str
    title: str
    tree: Tree
    # Each client's work; those whose tool is missing are left out.
    clients: dict
    is_cold: bool = False
    # Only as many rounds as this.
    rounds_max: int = 1_000
    # The case whose state it needs.
    after: str = ""
    # Whether the server has to have counted every file.
    is_sent: bool = True

    def make_ready(self, clients):
        """Reads the files, or puts them out of the cache; answers the share that stayed there."""
        os.sync()
        stayed = 1.0
        if self.is_cold:
            stayed = self.tree.evict()
        else:
            self.tree.warm()
        clients.sink.count()
        return stayed


# The tools that clients need.
TOOLS = {
    "curl --parallel": "curl",
    "curl -F": "curl",
    "wrk": "wrk",
    "go net/http": "go",
    "python, one by one": "requests",
    "python, 16 sessions": "requests",
    "rclone": "rclone",
    "s5cmd": "s5cmd",
    "find -printf": "find",
}

# Whose count of files is no matter: it sends as many as it can.
UNCOUNTED = ("wrk",)


def cases(is_quick):
    def tree(name, folders, files, size, quick):
        return Tree(f"{name}-quick", *quick) if is_quick else Tree(name, folders, files, size)

    small = tree("100k", 100, 1000, 4096, (4, 500, 4096))
    tenth = tree("10k", 10, 1000, 4096, (1, 500, 4096))
    middle = tree("256k", 2, 1000, 256 << 10, (1, 100, 256 << 10))
    large = tree("512m", 1, 8, 512 << 20, (1, 4, 16 << 20))
    million = tree("million", 1000, 1000, 0, (10, 500, 0))
    hundredth = tree("hundredth", 10, 1000, 0, (1, 50, 0))
    one = tree("one", 1, 1, 4096, (1, 1, 4096))
    many = f"{small.files:,} × 4 KiB"
    some = f"{tenth.files:,} × 4 KiB"
    curl = {OURS: Clients.apply, "curl --parallel": Clients.curl}

    def two(method):
        return lambda clients, case: method(clients, case, concurrency=2)

    def by_tls(method):
        return lambda clients, case: method(clients, case, kind="tls")

    def how(word):
        return lambda clients, case: clients.python(case, how=word)

    return [
        Case("small", many, small, {**curl, "wrk": Clients.wrk, "go net/http": Clients.go}),
        Case(
            "peers",
            some,
            tenth,
            {
                OURS: Clients.apply,
                "s5cmd": Clients.s5cmd,
                "rclone": Clients.rclone,
                "python, 16 sessions": how("session"),
                "python, one by one": how("one"),
            },
        ),
        Case("cold", f"{some}, cold", tenth, curl, is_cold=True),
        Case("tls", f"{some}, TLS", tenth, {name: by_tls(each) for name, each in curl.items()}),
        Case("middle", f"{middle.files:,} × 256 KiB", middle, curl),
        Case(
            "large",
            f"{large.files} × {large.size >> 20} MiB, two at a time",
            large,
            {OURS: two(Clients.apply), "curl -F": two(Clients.curl)},
        ),
        Case(
            "slow",
            f"{some}, 50 ms latency, 128 in flight",
            tenth,
            {OURS: lambda clients, case: clients.apply(case, concurrency=128, kind="slow")},
        ),
        Case(
            "plan",
            f"plan of {million.files:,} new",
            million,
            {OURS: Clients.plan, "find -printf": Clients.find},
            is_sent=False,
        ),
        Case(
            "whole",
            f"{million.files:,} empty files",
            million,
            {OURS: Clients.whole},
            rounds_max=1,
        ),
        Case(
            "again",
            f"plan of {million.files:,} unchanged",
            million,
            {OURS: Clients.plan_again, "find -printf": Clients.find},
            after="whole",
            is_sent=False,
        ),
        Case(
            "report",
            f"report of {million.files:,} rows",
            million,
            {OURS: Clients.report},
            after="whole",
            is_sent=False,
        ),
        Case(
            "whole-little",
            f"{hundredth.files:,} empty files",
            hundredth,
            {OURS: Clients.whole},
            rounds_max=1,
        ),
        Case(
            "report-little",
            f"report of {hundredth.files:,} rows",
            hundredth,
            {OURS: Clients.report},
            after="whole-little",
            is_sent=False,
        ),
        Case("one", "one file", one, {OURS: Clients.apply}),
    ]


@dataclass
class Row:
    """A line of the table: a figure, and what it should be."""

    number: int
    title: str
    goal: float
    stretch: float
    unit: str
    # The cases that its values come from, each of which is a round's.
    cases: tuple
    value: object
    is_least: bool = False
    # Other clients than ours that it needs.
    peers: tuple = ()

    def shown(self, value):
        if self.unit == "k":
            return f"{value / 1000:.0f} k"
        digits = {"×": 2, "ms": 1, "MB": 0, "%": 1, "s": 2}[self.unit]
        return f"{value:.{digits}f} {self.unit}"

    def span(self, values):
        if len(values) == 1:
            return "–"
        least = self.shown(min(values)).removesuffix(f" {self.unit}")
        return f"{least}–{self.shown(max(values))}"

    def bound(self, value):
        sign = "≥" if self.is_least else "≤"
        number = f"{value / 1000:g}" if self.unit == "k" else f"{value:g}"
        return f"{sign} {number} {self.unit}"

    def holds(self, value, bound):
        return value >= bound if self.is_least else value <= bound


def faster(case, peer):
    """How much faster than a peer, in each round."""
    return lambda results: [
        (ours.files / ours.seconds) / (other.files / other.seconds)
        for ours, other in results.pairs(case, peer)
    ]


def longer(case, peer):
    return lambda results: [a.seconds / b.seconds for a, b in results.pairs(case, peer)]


def cpu(case, peer):
    return lambda results: [a.cpu / b.cpu for a, b in results.pairs(case, peer)]


def each(case, value):
    return lambda results: [value(sample) for sample in results.samples[case][OURS]]


def peak(case):
    return each(case, lambda sample: sample.rss / 1e6)


def ideal(results):
    return each("slow", lambda s: s.files / s.seconds * DELAY / 128)(results)


def flat(results):
    """A hundred times the rows should take as much memory."""
    little = max(sample.rss for sample in results.samples["report-little"][OURS])
    return [sample.rss / little for sample in results.samples["report"][OURS]]


def instructions(_results):
    """The budget, which benches/instructions checks."""
    budget = HERE.parent / "instructions.budget"
    found = re.search(r"(?m)^upload (\d+)", budget.read_text()) if budget.exists() else None
    return [float(found[1])] if found else "benches/instructions has no budget"


def ledger(name):
    """What the bench `gate` says, in per cent."""

    def value(results):
        found = re.search(
            rf"(?m)^{name}: .*?durable / in memory: ([\d.]+)", results.gate(), re.DOTALL
        )
        return [(float(found[1]) - 1) * 100] if found else "cargo bench --bench gate says nothing"

    return value


def one_file(results):
    clients, case = results.clients, results.case("one")
    case.make_ready(clients)
    times = []
    for _ in range(STARTS):
        words = [clients.binary, "apply", clients.manifest(case.tree), "--state", clients.state()]
        times.append(start_up(words, clients.work, clients.environment(), 1) * 1000)
    return times


def help_text(results):
    words = [results.clients.binary, "--help"]
    return [
        start_up(words, results.clients.work, own_environment(results.clients.work), STARTS) * 1000
    ]


CURL = "curl --parallel"
FIND = "find -printf"
ROWS = [
    Row(
        1,
        "100,000 × 4 KiB against wrk",
        0.25,
        0.40,
        "×",
        ("small",),
        faster("small", "wrk"),
        True,
        ("wrk",),
    ),
    Row(
        2,
        "the same against curl --parallel 32",
        2.5,
        4,
        "×",
        ("small",),
        faster("small", CURL),
        True,
        (CURL,),
    ),
    Row(
        3,
        "10,000 × 4 KiB against s5cmd (S3)",
        5,
        9,
        "×",
        ("peers",),
        faster("peers", "s5cmd"),
        True,
        ("s5cmd",),
    ),
    Row(
        3,
        "the same against rclone (S3)",
        5,
        9,
        "×",
        ("peers",),
        faster("peers", "rclone"),
        True,
        ("rclone",),
    ),
    Row(
        4,
        "the same against the documented Python client",
        35,
        60,
        "×",
        ("peers",),
        faster("peers", "python, one by one"),
        True,
        ("python, one by one",),
    ),
    Row(
        5,
        "CPU for 1,000 small files",
        45,
        30,
        "ms",
        ("small",),
        each("small", lambda s: s.cpu * 1e6 / s.files),
    ),
    Row(6, "instructions for one small upload", 130e3, 90e3, "k", (), instructions),
    Row(
        7,
        "10,000 × 4 KiB, cold, against curl --parallel",
        4,
        7,
        "×",
        ("cold",),
        faster("cold", CURL),
        True,
        (CURL,),
    ),
    Row(
        8,
        "10,000 × 4 KiB, TLS, against curl --parallel",
        2,
        3.5,
        "×",
        ("tls",),
        faster("tls", CURL),
        True,
        (CURL,),
    ),
    Row(
        9,
        "2,000 × 256 KiB against curl --parallel",
        1.4,
        2,
        "×",
        ("middle",),
        faster("middle", CURL),
        True,
        (CURL,),
    ),
    Row(
        9,
        "its CPU against curl's",
        0.7,
        0.55,
        "×",
        ("middle",),
        cpu("middle", CURL),
        False,
        (CURL,),
    ),
    Row(
        10,
        "8 × 512 MiB against curl -F",
        0.9,
        1.05,
        "×",
        ("large",),
        faster("large", "curl -F"),
        True,
        ("curl -F",),
    ),
    Row(
        10,
        "its CPU against curl's",
        1.0,
        0.85,
        "×",
        ("large",),
        cpu("large", "curl -F"),
        False,
        ("curl -F",),
    ),
    Row(10, "its peak RSS", 24, 12, "MB", ("large",), peak("large")),
    Row(
        11,
        "50 ms latency, 128 in flight, against in flight ÷ latency",
        0.93,
        0.96,
        "×",
        ("slow",),
        ideal,
        True,
    ),
    Row(12, "what the durable ledger costs at 50 ms", 4, 2, "%", (), ledger("50 ms latency")),
    Row(12, "what it costs at zero latency", 60, 35, "%", (), ledger("no latency")),
    Row(
        13,
        "plan of 1,000,000 new files against find -printf",
        1.5,
        0.9,
        "×",
        ("plan",),
        longer("plan", FIND),
        False,
        (FIND,),
    ),
    Row(14, "its peak RSS", 150, 100, "MB", ("plan",), peak("plan")),
    Row(14, "peak RSS of a whole apply of them", 200, 150, "MB", ("whole",), peak("whole")),
    Row(
        15,
        "plan of 1,000,000 unchanged files against find -printf",
        3,
        1.5,
        "×",
        ("again",),
        longer("again", FIND),
        False,
        (FIND,),
    ),
    Row(15, "its peak RSS", 200, 200, "MB", ("again",), peak("again")),
    Row(
        16,
        "CSV report of 1,000,000 rows",
        3,
        1,
        "s",
        ("report",),
        each("report", lambda s: s.seconds),
    ),
    Row(
        16,
        "its peak RSS against that of 10,000 rows",
        1.5,
        1.2,
        "×",
        ("report", "report-little"),
        flat,
    ),
    Row(17, "one-file run", 20, 8, "ms", (), one_file),
    Row(17, "--help", 5, 3, "ms", (), help_text),
]


class Results:
    """Measures what the wanted rows need, and has their values."""

    def __init__(self, rows, rounds, is_quick, tools, binary, work, sink, say):
        self.rows = rows
        self.rounds = rounds
        self.is_quick = is_quick
        self.tools = tools
        self.work = work
        self.say = say
        self.clients = Clients(binary, work, sink, is_quick)
        self.all = {case.name: case for case in cases(is_quick)}
        names = {name for row in ROWS if row.number in rows for name in row.cases}
        names |= {self.all[name].after for name in names if self.all[name].after}
        self.cases = [case for case in self.all.values() if case.name in names]
        self.samples = {}
        self.computed = {}
        self.gate_said = None

    def case(self, name):
        return self.all[name]

    def measure(self):
        trees = self.work / "trees"
        trees.mkdir(exist_ok=True)
        wanted = [*self.cases, *([self.all["one"]] if 17 in self.rows else [])]
        for case in wanted:
            if not hasattr(case.tree, "root"):
                self.say(f"the tree {case.tree.name}")
                case.tree.make(trees)
        for case in self.cases:
            self.measure_case(case)
        for row in ROWS:
            if row.number in self.rows and not row.cases:
                self.computed[row.title] = row.value(self)

    def measure_case(self, case):
        clients = [
            name for name in case.clients if TOOLS.get(name) is None or TOOLS[name] in self.tools
        ]
        samples = self.samples[case.name] = {name: [] for name in clients}
        for turn in range(min(self.rounds, case.rounds_max)):
            # What goes first may find things otherwise than what follows.
            first = turn % len(clients)
            for client in clients[first:] + clients[:first]:
                samples[client].append(self.take(case, client))
            line = ", ".join(f"{name} {samples[name][-1].seconds:.2f} s" for name in clients)
            self.say(f"{case.title}, round {turn + 1}: {line}")

    def take(self, case, client):
        stayed = case.make_ready(self.clients)
        if case.is_cold and stayed > 0.05:
            self.say(f"{case.title}: {stayed:.0%} of the files stayed in the page cache")
        sample = case.clients[client](self.clients, case)
        arrived, sent = self.clients.sink.count()
        if client in UNCOUNTED:
            return sample
        sample.files = case.tree.files
        expected = case.tree.files if case.is_sent else 0
        if arrived != expected or sent < expected * case.tree.size:
            raise Failed(f"{client}: {arrived} files, {sent} bytes came, not {expected} files")
        return sample

    def pairs(self, case, peer):
        samples = self.samples[case]
        return zip(samples[OURS], samples[peer], strict=True)

    def values(self, row):
        """A row's values, or why there are none."""
        for peer in row.peers:
            if TOOLS[peer] not in self.tools:
                return f"{TOOLS[peer]} is not installed"
        if not row.cases:
            return self.computed[row.title]
        return row.value(self)

    def gate(self):
        """What `cargo bench --bench gate` prints."""
        if self.gate_said is None:
            self.say("cargo bench --bench gate")
            environment = dict(os.environ)
            if self.is_quick:
                environment["ROE_BATCH_BENCH_QUICK"] = "1"
            ran = subprocess.run(
                ["cargo", "bench", "--locked", "--bench", "gate"],
                cwd=REPOSITORY,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            self.gate_said = ran.stdout if ran.returncode == 0 else ""
        return self.gate_said

    def tidy(self):
        """Removes what was made besides the trees and the peer."""
        for entry in self.work.iterdir():
            if entry.name in ("trees", "peer", "go"):
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()
