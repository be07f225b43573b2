"""What a comparison stands on: trees, page cache, sink, and the measuring of one command."""

import ctypes
import mmap
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KINDS = ("pdf", "png", "txt", "docx")
LONG_AGO = (1_700_000_000, 1_700_000_000)


@dataclass
class Tree:
    """A tree of files that is the same on every machine."""

    name: str
    folders: int
    files_a_folder: int
    size: int

    @property
    def files(self):
        return self.folders * self.files_a_folder

    def make(self, trees):
        """Makes it below `trees`, unless it is there."""
        self.root = trees / self.name
        spec = f"{self}\n"
        made = trees / f"{self.name}.made"
        if made.exists() and made.read_text() == spec:
            return
        made.unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)
        block = bytes((index * 167 + 13) % 251 for index in range(min(self.size, 1 << 20)))
        for folder in range(self.folders):
            below = self.root / f"batch-{folder:04}"
            below.mkdir(parents=True)
            for number in range(self.files_a_folder):
                path = f"{below}/file-{folder:04}-{number:04}.{KINDS[number % len(KINDS)]}"
                with open(path, "wb") as file:
                    left = self.size
                    while left > 0:
                        # No two blocks are alike.
                        mark = f"{path[len(str(trees)) :]} {left} ".encode()
                        chunk = (mark + block[len(mark) :])[: min(left, len(block))]
                        file.write(chunk)
                        left -= len(chunk)
                # Long ago, or their times would prove nothing to the ledger.
                os.utime(path, LONG_AGO)
        os.sync()
        made.write_text(spec)

    def paths(self):
        open_folders = [str(self.root)]
        while open_folders:
            with os.scandir(open_folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        open_folders.append(entry.path)
                    else:
                        yield entry

    def warm(self):
        """Reads everything: the page cache may have been dropped since the last case."""
        buffer = bytearray(1 << 20)
        if self.size == 0:
            # Only what a walk sees of them.
            command = ["find", self.root, "-printf", "%s"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            return
        for entry in self.paths():
            with open(entry.path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

    def evict(self):
        """Puts every file out of the page cache; answers the share that stayed."""
        for entry in self.paths():
            file = os.open(entry.path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
        sample = [entry.path for entry in self.paths()][:: max(1, self.files // 200)]
        return resident_share(sample)


def resident_share(paths):
    """How much of some files lies in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    resident, total = 0, 0
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        length = os.fstat(file).st_size
        address = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
        os.close(file)
        pages = (length + mmap.PAGESIZE - 1) // mmap.PAGESIZE
        found = ctypes.create_string_buffer(pages)
        if libc.mincore(address, length, found) == 0:
            resident += sum(byte & 1 for byte in found.raw)
            total += pages
        libc.munmap(address, length)
    return resident / total if total else 0.0


@dataclass
class Sample:
    """What one command took."""

    seconds: float
    # User and system, with its children.
    cpu: float
    # Peak, in bytes.
    rss: int
    stdout: str = ""
    files: int = 0


class Failed(Exception):
    """A command did not do what was measured."""


def own_environment(work, **more):
    """Nothing of the caller's but the search path: proxies and settings would be measured too."""
    kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
    return {**kept, "HOME": str(work), "TMPDIR": str(work), "LC_ALL": "C", **more}


def measure(command, work, environment=None, stdout=None):
    """Runs a command below GNU time, whose own memory is small: a child of this process would
    begin with this process's peak."""
    peak = work / "peak"
    out = Path(stdout) if stdout else work / "stdout"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [gnu_time(), "-f", "%M", "-o", str(peak), *map(str, command)]
    with open(out, "wb") as stdout_file, open(work / "stderr", "wb") as stderr_file:
        begun = time.perf_counter()
        child = subprocess.Popen(
            words,
            env=environment or own_environment(work),
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=stdout_file,
            stderr=stderr_file,
            # A group of its own, so that what it started ends with it.
            start_new_session=True,
        )
        try:
            code = child.wait()
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
        seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        said = (work / "stderr").read_text(errors="replace")[-2000:]
        raise Failed(f"{' '.join(map(str, command))[:300]}\nended with {code}:\n{said}")
    return Sample(
        seconds=seconds,
        cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        rss=int(peak.read_text().split()[-1]) * 1024,
        stdout="" if stdout else out.read_text(errors="replace"),
    )


def gnu_time():
    return shutil.which("time") or "/usr/bin/time"


def start_up(command, work, environment, times):
    """The seconds of a short command, the median of several: spawned directly, for a launcher
    would be in the figure."""
    seconds = []
    for _ in range(times):
        with open(os.devnull, "r+b") as nothing:
            begun = time.perf_counter()
            child = subprocess.Popen(
                [str(word) for word in command],
                env=environment,
                cwd=work,
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
            )
            code = child.wait()
            seconds.append(time.perf_counter() - begun)
        if code != 0:
            raise Failed(f"{' '.join(map(str, command))} ended with {code}")
    return sorted(seconds)[len(seconds) // 2]


def file_system(path):
    """The type of the file system that a path lies on."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        below = mount == "/" or str(path) == mount or str(path).startswith(mount + "/")
        if below and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


class Sink:
    """nginx with Lua: reads every body to its end, then answers."""

    PORTS = ("plain", "tls", "slow", "s3")

    def __init__(self, folder):
        self.folder = folder
        self.process = None

    @staticmethod
    def modules():
        """The lines that load what is not built in; nothing where there is no Lua."""
        if shutil.which("nginx", path=search_path()) is None:
            return None
        command = [nginx(), "-V"]
        about = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        if "openresty" in about or "lua-nginx-module" in about:
            return ""
        found = re.search(r"--modules-path=(\S+)", about)
        folder = Path(found[1] if found else "/usr/lib/nginx/modules")
        if not (folder / "ngx_http_lua_module.so").exists():
            return None
        names = ["ndk_http_module.so", "ngx_http_lua_module.so"]
        return "\n".join(f"load_module {folder / name};" for name in names)

    def start(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.certificate()
        self.ports = dict(zip(self.PORTS, free_ports(len(self.PORTS)), strict=True))
        words = {
            **self.ports,
            "folder": self.folder,
            "here": HERE,
            "modules": self.modules(),
            "user": "user root;" if os.geteuid() == 0 else "",
        }
        text = (HERE / "nginx.conf").read_text()
        for word, value in words.items():
            text = text.replace(f"@{word}@", str(value))
        configuration = self.folder / "nginx.conf"
        configuration.write_text(text)
        log = self.folder / "error.log"
        with open(self.folder / "said", "wb") as said:
            self.process = subprocess.Popen(
                [nginx(), "-p", self.folder, "-e", log, "-c", configuration],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        for _ in range(100):
            try:
                self.count()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        self.stop()
        raise Failed(
            f"nginx does not start:\n{(self.folder / 'said').read_text()}{log.read_text()}"
        )

    def certificate(self):
        """Makes one that is its own authority, and none for others."""
        settings = self.folder / "openssl.conf"
        settings.write_text(
            "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n"
            "[name]\nCN = roe-batch bench\n"
            "[extensions]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n"
        )
        command = [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-config", settings),
            *("-keyout", self.folder / "key.pem", "-out", self.ca_file),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise Failed(f"openssl makes no certificate:\n{ran.stderr}")

    @property
    def ca_file(self):
        return self.folder / "certificate.pem"

    def base(self, kind):
        return f"http{'s' if kind == 'tls' else ''}://127.0.0.1:{self.ports[kind]}"

    def url(self, kind):
        return f"{self.base(kind)}/v1/datasets/files/upload/"

    def count(self):
        """Files and bytes that arrived since it was last asked."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.base('plain')}/count", timeout=5) as answer:
            files, sent = answer.read().split()
        return int(files), int(sent)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def search_path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def nginx():
    return shutil.which("nginx", path=search_path())


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
