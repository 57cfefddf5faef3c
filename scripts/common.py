"""What the scripts share: places, the one-message failure, steps with progress, children, the lock."""
import errno
import fcntl
import hashlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
LOGS = BUILD / "log"
LINUX = BUILD / "linux"
PATCHES = ROOT / "patches" / "linux"
JOBS = os.cpu_count() or 1
HELD = "GMEM_LOCK_HELD"  # tells a child that its caller has the lock


class Fail(Exception):
    """Ends the program: what happened, and what the person at the terminal can do about it."""

    def __init__(self, what, todo=""):
        super().__init__(what)
        self.what, self.todo = what, todo


def rel(path):
    """The path as a person in the repository's directory would type it."""
    try:
        return str(pathlib.Path(path).relative_to(ROOT))
    except ValueError:
        return str(path)


def settings(path):
    """Reads a file of 'key value' lines, '#' starts a comment."""
    pairs = {}
    for line in path.read_text().splitlines():
        words = line.split(None, 1)
        if len(words) == 2 and not line.startswith("#"):
            pairs[words[0]] = words[1].strip()
    return pairs


def base():
    return settings(ROOT / "BASE")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write(path, text):
    """Whole or not at all: a reader, or the next run after an interrupt, never sees half a file."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    try:
        new.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


# Every child runs in a session of its own, so that it and its children can be ended together.
_children = set()
_children_lock = threading.Lock()
_stopping = threading.Event()


def start(argv, **options):
    with _children_lock:
        if _stopping.is_set():
            raise KeyboardInterrupt
        try:
            child = subprocess.Popen([str(a) for a in argv], start_new_session=True, **options)
        except PermissionError:
            raise Fail(f"{argv[0]} cannot be executed", f"chmod +x {argv[0]}") from None
        _children.add(child)
    return child


def end(child, sig=signal.SIGKILL):
    try:
        os.killpg(child.pid, sig)
    except ProcessLookupError:
        pass
    child.wait()
    with _children_lock:
        _children.discard(child)


def end_all():
    """Ends every child, and keeps threads from starting another one. The program is about to end."""
    with _children_lock:
        _stopping.set()
        left = list(_children)
    for child in left:
        end(child)


def output(*argv, **options):
    """The standard output of a short command that must work."""
    try:
        done = subprocess.run([str(a) for a in argv], check=True, stdin=options.pop("stdin", subprocess.DEVNULL)
                              if "input" not in options else None,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    except FileNotFoundError:
        raise Fail(f"the program {argv[0]} is missing", "run 'make tools'") from None
    except subprocess.CalledProcessError as err:
        text = (err.stderr if isinstance(err.stderr, str) else err.stderr.decode(errors="replace")).strip()
        raise Fail(f"{' '.join(str(a) for a in argv[:6])}: exit status {err.returncode}\n{text[-1500:]}") from None
    return done.stdout


class Step:
    """One step of a command: says what runs, how far it is, how long it took and where its log is.

    On a terminal the progress is one line that is rewritten; elsewhere a line every 30 seconds.
    """

    _print = threading.Lock()

    def __init__(self, title, log=None):
        self.title = title
        self.log = LOGS / log if log else None
        self.began = self.shown = time.monotonic()
        self.tty = sys.stdout.isatty()
        self.note = ""
        self.quiet = False

    def __enter__(self):
        if self.log:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_bytes(b"")
        self.say(f"-- {self.title}" + (f" (log: {rel(self.log)})" if self.log else ""))
        return self

    def __exit__(self, kind, _value, _trace):
        if kind is None:
            note = f", {self.note}" if self.note else ""
            self.say(f"   {self.title}: done in {time.monotonic() - self.began:.1f} s{note}")
        return False

    def say(self, text):
        with Step._print:
            print(("\r\033[K" if self.tty else "") + text, flush=True)

    def progress(self, text):
        now = time.monotonic()
        if now - self.shown < (0.2 if self.tty else 30):
            return
        self.shown = now
        with Step._print:
            if self.tty:
                print(f"\r\033[K   {self.title}: {text} ({now - self.began:.0f} s)", end="", flush=True)
            else:
                print(f"   {self.title}: {text} ({now - self.began:.0f} s)", flush=True)

    def run(self, argv, watch=None, todo="", **options):
        """Runs a command into the step's log; 'watch' sees each line. A failure names the lines that matter."""
        if self.log is None:
            raise ValueError("a step that runs commands needs a log")
        with open(self.log, "ab", buffering=0) as log:
            log.write(("$ " + " ".join(str(a) for a in argv) + "\n").encode())
            try:
                child = start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, **options)
            except FileNotFoundError:
                raise Fail(f"the program {argv[0]} is missing", "run 'make tools'") from None
            try:
                for line in child.stdout:
                    log.write(line)
                    if watch:
                        watch(line.decode(errors="replace").rstrip("\n"))
                status = child.wait()
            finally:
                end(child)
        if status != 0:
            raise Fail(f"{self.title} failed (exit status {status}):\n{self.why()}",
                       todo or f"see {rel(self.log)}, then run the same command again")

    def why(self):
        """The lines of the log that most likely tell why a command failed."""
        lines = self.log.read_text(errors="replace").splitlines()
        # A full disk may have no room even for the line in the log that says so.
        room = os.statvfs(self.log)
        if room.f_bavail * room.f_frsize < 1 << 20 or any("No space left on device" in line for line in lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), rel(self.log))
        telling = [line for line in lines
                   if re.search(r"\berror\b|undefined reference|\*\*\*|^fatal|^E: |not found", line, re.I)]
        return "\n".join("    " + line[:300] for line in (telling[:6] or lines[-6:]))


def lock():
    """Two commands must not work in build/ at the same time. The kernel drops the lock with the process."""
    BUILD.mkdir(exist_ok=True)
    if os.environ.get(HELD) == str(BUILD):
        return open(os.devnull, "rb")  # a part of the command that holds it
    file = open(BUILD / ".lock", "a+")  # stays open, and locked, until the process ends
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise Fail(f"another command is at work in build/ ({file.read().strip() or 'unknown'})",
                   "wait for it, or end it, then run this one again") from None
    file.truncate(0)
    file.write(f"process {os.getpid()}: {os.path.basename(sys.argv[0])} {' '.join(sys.argv[1:])}\n")
    file.flush()
    return file


def main(function):
    """Runs a script's main function. Whatever goes wrong ends in one message that says what to do."""
    def interrupted(_signal, _frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    what = todo = ""
    status = 1
    try:
        status = function() or 0
    except Fail as err:
        what, todo = err.what, err.todo
    except KeyboardInterrupt:
        what, todo, status = "interrupted", "run the same command again: it goes on from here", 130
    except BrokenPipeError:
        status = 141
    except OSError as err:
        if err.errno != errno.ENOSPC:
            raise
        what = f"the disk is full ({err.filename or rel(BUILD)})"
        todo = "make room (a full build needs about 12 GB in build/), then run the same command again"
    finally:
        end_all()
    if what:
        sys.stdout.flush()
        print(f"{chr(10) if sys.stderr.isatty() else ''}error: {what}", file=sys.stderr)
        if todo:
            print(f"  next: {todo}", file=sys.stderr)
    sys.stdout.flush()
    # Threads that watch a machine must not keep an interrupted program alive.
    os._exit(status)
