"""Processes: starting and always ending them, and what they cost (CPU, memory, syscalls).

Everything a benchmark starts belongs to a Scratch: leaving it, in whatever way, stops the processes in reverse order
and removes the directory. Children also get SIGINT when the benchmark itself dies (setpriv --pdeathsig).
"""
import contextlib
import os
import pwd
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
STOP_S = 15  # from SIGINT to SIGKILL
BUILD = os.environ.get("B", "build/release")  # as in the Makefile


class BenchError(Exception):
    """It can't be measured; the text says why."""


class Scratch:
    """A directory and the processes that live in it. Servers that refuse to be root run as `user`."""

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.dir = tempfile.mkdtemp(prefix="multigres-bench-")
        self.stack.callback(shutil.rmtree, self.dir, ignore_errors=True)
        os.chmod(self.dir, 0o755)
        self.user = pwd.getpwuid(os.getuid())
        if self.user.pw_uid == 0:
            self.user = unprivileged()
        self.ports = set()
        return self

    def __exit__(self, *_):
        # a second Ctrl-C must not leave servers behind
        handlers = {sig: signal.signal(sig, signal.SIG_IGN) for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            self.stack.close()
        finally:
            for sig, handler in handlers.items():
                signal.signal(sig, handler)

    def mkdir(self, name):
        path = os.path.join(self.dir, name)
        os.mkdir(path, 0o700)
        os.chown(path, self.user.pw_uid, self.user.pw_gid)
        return path

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as out:
            out.write(text)
        os.chmod(path, 0o644)
        return path

    def port(self):
        """A port nobody listens on, below the ephemeral range."""
        for port in random.sample(range(20000, 32000), 100):
            with socket.socket() as s, contextlib.suppress(OSError):
                if port not in self.ports:
                    s.bind(("127.0.0.1", port))
                    self.ports.add(port)
                    return port
        raise BenchError("no free port on 127.0.0.1 between 20000 and 32000")

    def drop(self, argv):
        """argv as the unprivileged user, if we are root."""
        if os.getuid() == 0:
            return ["setpriv", "--reuid", str(self.user.pw_uid), "--regid", str(self.user.pw_gid), "--init-groups", *argv]
        return argv

    def start(self, name, argv, unprivileged=False, **kw):
        """Starts a server with its output in NAME.log; returns its Popen."""
        argv = ["setpriv", "--pdeathsig", "INT", *argv]
        log = os.path.join(self.dir, name + ".log")
        with open(log, "a") as out:
            kw = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, **kw}
            p = subprocess.Popen(self.drop(argv) if unprivileged else argv, start_new_session=True, preexec_fn=raise_file_limit,
                                 cwd=self.dir if unprivileged else None, **kw)
        p.name, p.log = name, log
        self.stack.callback(stop, p)
        return p


def unprivileged():
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise BenchError("Postgres can't run as root and there is no user postgres or nobody")


def raise_file_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop(p):
    if p.poll() is None:
        p.send_signal(signal.SIGINT)
        try:
            p.wait(STOP_S)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
    for f in (p.stdin, p.stdout):
        if f:
            f.close()


def tail(path, lines=15):
    with contextlib.suppress(OSError), open(path, errors="replace") as f:
        return "".join(f.readlines()[-lines:])
    return ""


def wait_until(ready, p, deadline_s=30):
    """Polls ready() while p lives; its log's last lines are in the error otherwise."""
    end = time.monotonic() + deadline_s
    while not (value := ready()):
        if p.poll() is not None:
            raise BenchError(f"{p.name} ended with status {p.returncode}:\n{tail(p.log)}")
        if time.monotonic() > end:
            raise BenchError(f"{p.name} isn't ready after {deadline_s} s:\n{tail(p.log)}")
        time.sleep(0.02)
    return value


def command(argv, deadline_s=120, **kw):
    """Runs to the end and returns stdout; an error otherwise."""
    try:
        p = subprocess.run(argv, capture_output=True, text=True, timeout=deadline_s, stdin=subprocess.DEVNULL, **kw)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{argv[0]} didn't end within {deadline_s} s") from None
    except OSError as e:
        raise BenchError(f"{argv[0]}: {e.strerror}") from None
    if p.returncode:
        raise BenchError(f"{' '.join(argv)} ended with status {p.returncode}:\n{(p.stderr or p.stdout)[-2000:]}")
    return p.stdout


def make(target):
    """Builds a target of the release flavour; returns its path."""
    path = f"{BUILD}/{target}"
    command(["make", "-s", "FLAVOUR=release", path], deadline_s=600)
    return path


def tree(pid):
    """pid and all its descendants."""
    found = [pid]
    for p in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{p}/task"):
                with open(f"/proc/{p}/task/{task}/children") as f:
                    found += map(int, f.read().split())
    return found


def cpu_us(pids):
    """User and system time of all threads, those that ended included; a tick is 10 ms."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * 1_000_000 / TICKS


def memory(pids):
    """(Rss, Pss_Anon) in bytes."""
    sums = {"Rss": 0, "Pss_Anon": 0}
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            for key, kb in re.findall(r"^(\w+): +(\d+) kB", f.read(), re.M):
                if key in sums:
                    sums[key] += int(kb) * 1024
    return sums["Rss"], sums["Pss_Anon"]


class Counters:
    """Syscalls and, where the machine has the counters, instructions of some processes while other work runs.

    perf's tracepoint costs little; without it strace -c, which slows the process but counts rightly.
    """
    EVENTS = {"syscalls": "raw_syscalls:sys_enter", "insn_user": "instructions:u", "insn_kernel": "instructions:k"}

    def __init__(self):
        self.perf = shutil.which("perf") and self.supported()
        self.strace = not self.has("syscalls") and shutil.which("strace")

    def supported(self):
        return {key: event for key, event in self.EVENTS.items() if self.read(
            subprocess.run(["perf", "stat", "-x,", "-e", event, "true"], capture_output=True, text=True).stderr)}

    def has(self, key):
        return bool(self.perf) and key in self.perf

    @staticmethod
    def read(text):
        return {event: int(n) for n, event in re.findall(r"^(\d+),[^,]*,([^,]+),", text, re.M)}

    def count(self, pids, work):
        """Runs work() and returns {key: count} for the pids meanwhile, and what work() returned."""
        if self.perf:
            counts, result = self.attached(
                ["perf", "stat", "-x,", "-e", ",".join(self.perf.values()), "-p", ",".join(map(str, pids))], work)
            found = self.read(counts)
            counts = {key: found[event] for key, event in self.perf.items() if event in found}
        elif self.strace:
            counts, result = self.attached(["strace", "-c", "-f", "-q", *(f"-p{p}" for p in pids)], work)
            total = re.findall(r"^100\.00 .* (\d+)(?: +\d+)? total$", counts, re.M)
            counts = {"syscalls": int(total[0])} if total else {}
        else:
            counts, result = {}, work()
        return counts, result

    @staticmethod
    def attached(argv, work):
        p = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            time.sleep(0.3)  # until it is attached: neither of them says so
            result = work()
            p.send_signal(signal.SIGINT)
            return p.communicate(timeout=STOP_S)[1], result
        except subprocess.TimeoutExpired:
            raise BenchError(f"{argv[0]} didn't detach") from None
        finally:
            if p.poll() is None:
                p.kill()
                p.wait()
