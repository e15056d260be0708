"""Random rounds: faults on faults, kills, rivals; then nothing is wrong, and it has to work.

A round is one set of files, pulled again and again while the server misbehaves, and a last time
when it does not. After every attempt, killed or not, each file that counts as done is read: it
has to be a version that the server had, whole, and the one that was asked for where that was said.

Each attempt is a process of its own, most of them forked from one that has imported tlhub already
and is less patient; every tenth round runs the command itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.faults.rows import weights
from benchmarks.faults.server import REPO, Answer, Faulty, File, Version
from benchmarks.faults.worker import Order, environ, pull

_LONGEST_S = 90.0  # an attempt; more counts as a hang
_TLHUB = Path(sys.executable).with_name("tlhub")
_CODES = {0, 3, 5, 6}
_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_PART = re.compile(r"/home/tmp/|/blobs/[^/]*\.|/snapshots/.*/\.|\.new$|tlhub-new")
_RESUMABLE = re.compile(r"(\.part|\.tlhub-part)(\.json)?$")
_SWEPT = re.compile(r"\.tlhub-own$|part\.json")
_EVERY = 10  # so many rounds, one with the command itself
# Starting a process asks how each one ended. That can be read once: who asks second, in another
# thread at the same time, is told 255.
_asking = threading.Lock()


@dataclass
class Tally:
    """What happened in all rounds."""

    rounds: int = 0
    attempts: int = 0
    kills: int = 0
    faults: int = 0
    errors: int = 0
    wrong: list[str] = field(default_factory=list)  # wrong files
    failed: list[str] = field(default_factory=list)  # crashes, hangs, no success in the end
    remains: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in what happened elsewhere."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def good(self) -> bool:
        """Whether nothing happened that must not."""
        return not (self.wrong or self.failed or self.remains)


class Round:
    """One round, the same for the same seed but for when a process is killed exactly."""

    def __init__(self, seed: str, folder: Path, server: Faulty, tally: Tally) -> None:
        self._dice = random.Random(seed)
        self._seed, self._folder, self._server, self._tally = seed, folder, server, tally
        self._hub = self._dice.random() < 0.5
        self._whole = False  # whether the command itself is run
        self._blind = False  # whether nobody says what the digest is
        self._had: dict[str, list[Version]] = {}  # all that a file ever was

    def run(self, *, whole: bool) -> None:
        """Attempts among faults, and one without."""
        dice, server = self._dice, self._server
        self._whole = whole
        self._blind = not self._hub and dice.random() < 0.2
        names = ["model.data", "notes.txt", "more.txt"][: dice.randint(1, 3)]
        server.files = {name: File(self._version()) for name in (names if self._hub else names[:1])}
        self._had = {name: [file.version] for name, file in server.files.items()}
        self._tally.rounds += 1
        for _ in range(dice.randint(1, 4)):
            self._misbehave()
            self._attempt()
        server.heal()
        self._grow_old()
        before = self._gets
        codes = self._attempt(calm=True)
        if codes != {0}:
            self._tally.failed.append(f"{self._seed}: ended with {codes} when nothing was wrong")
        self._look_for_remains(swept=self._gets > before)

    @property
    def _gets(self) -> int:
        return sum(file.gets for file in self._server.files.values())

    def _version(self) -> Version:
        dice = self._dice
        kind = dice.random()
        size = dice.choice([0, 1, dice.randint(2, 20_000), dice.randint(20_000, 1_000_000)])
        if kind > 0.4:
            size = dice.randint(1_000_000, 5_000_000)
        return Version(
            weights(size, dice.getrandbits(32)), modified=dice.randint(10**9, 17 * 10**8)
        )

    def _misbehave(self) -> None:
        dice = self._dice
        for name, file in self._server.files.items():
            size = len(file.version.body)
            if dice.random() < 0.15:
                file.version = self._version()
                self._had[name].append(file.version)
            file.answers = [self._fault(size) for _ in range(dice.randint(0, 4))]
            if dice.random() < 0.2:
                file.always = self._fault(size)
            self._tally.faults += len(file.answers) + (file.always != Answer())
            file.pause_s = dice.choice([0, 0, 0.001, 0.005])
        if dice.random() < 0.1:
            self._server.clock_s = dice.uniform(-1e8, 1e8)

    def _fault(self, size: int) -> Answer:
        dice = self._dice
        at = dice.randint(0, max(1, size))
        honest = [
            Answer(drop=at),
            Answer(drop=at),
            Answer(drop=at, etag=f"e{dice.random()}"),
            Answer(drop=at, ranges=False),
            Answer(ranges=False),
            Answer(status=dice.choice([500, 502, 503, 504])),
            Answer(status=404),
            Answer(429, {"Retry-After": dice.choice(["0", "1"])}),
            Answer(chunked=True),
            Answer(gzip=True),
        ]
        if not self._whole:  # the command itself has the patience of a person
            honest.append(Answer(stall=at))
        lies = [
            Answer(flip=at),
            Answer(cut=dice.randint(1, 5000)),
            Answer(extra=dice.randint(1, 5000)),
            Answer(lie=dice.choice([-1, 1]) * dice.randint(1, 5000)),
            Answer(shift=dice.randint(1, 5000)),
            Answer(drop=at, flip=at // 2),
        ]
        return dice.choice(honest if self._blind else honest + lies)

    def _attempt(self, *, calm: bool = False) -> set[int]:
        """One process, or two at once; how they ended, but for those that were killed."""
        dice = self._dice
        count = 2 if dice.random() < 0.25 else 1
        doomed = 0 if calm else sum(dice.random() < 0.5 for _ in range(count))
        running = [self._start() for _ in range(count)]
        self._tally.attempts += count
        for process in running[:doomed]:
            time.sleep(dice.random() ** 2 * (0.8 if self._whole else 0.15))
            self._tally.kills += process.kill()
            self._check()
        codes = {process.wait() for process in running[doomed:]}
        self._tally.errors += len(codes - {0})
        for code in codes - _CODES:
            words = self._folder / "words"
            said = words.read_text(errors="replace")[-2000:] if words.exists() else ""
            what = "hangs" if code is None else f"exit {code}"
            self._tally.failed.append(f"{self._seed}: {what}: {said}")
        self._check()
        if 0 in codes:
            self._look_for_success()
        return {-1 if code is None else code for code in codes}

    def _start(self) -> Process:
        server = self._server
        if self._hub:
            order = Order(f"hf:{REPO}", server.url, self._folder)
        else:
            (name, file), *_ = server.files.items()
            digest = "" if self._blind else f"#sha256={file.version.sha256}"
            order = Order(f"{server.url}/{name}{digest}", server.url, self._folder)
        return Process(order, whole=self._whole)

    def _grow_old(self) -> None:
        """As if what is left were of yesterday."""
        for path in self._folder.rglob("*"):
            stamp = time.time() - 86400
            os.utime(path, (stamp, stamp), follow_symlinks=False)

    def _check(self) -> None:
        """Read every file that counts as done."""
        for path in _blobs(self._folder):
            found, name = Version(path.read_bytes()), path.name
            if name not in {found.sha256, found.git_sha1}:
                self._tally.wrong.append(f"{self._seed}: {path} is not what its name says")
        for name, had in self._had.items():
            known = {version.sha256 for version in had}
            for path in _named(self._folder, name):
                if _sha256(path) not in known:
                    self._tally.wrong.append(f"{self._seed}: {path} is no version that there was")

    def _look_for_success(self) -> None:
        for name, file in self._server.files.items():
            wanted = {v.sha256 for v in (self._had[name] if self._blind else [file.version])}
            folders = (self._folder / "home" / "models").glob(f"[!.]*/{name}")
            if not wanted & set(map(_sha256, folders)):
                self._tally.wrong.append(f"{self._seed}: exit 0, and {name} is not there")

    def _look_for_remains(self, *, swept: bool) -> None:
        """Parts of what was asked for in the end; those of an older version may be asked for.

        What is of no use to anybody is swept by who fetches something next, if anybody did.
        """
        replaced = any(len(had) > 1 for had in self._had.values())
        current = {file.version.oid[:40] for file in self._server.files.values()}
        left = [
            str(path.relative_to(self._folder))
            for path in sorted(self._folder.rglob("*"))
            if path.is_file() and _PART.search(str(path))
            if swept or not _SWEPT.search(path.name)
            if not (replaced and _RESUMABLE.search(path.name) and path.name[:40] not in current)
        ]
        if left:
            self._tally.remains.append(f"{self._seed}: {left}")


class Process:
    """`tlhub pull` of an order: the command, or the same in a forked process."""

    def __init__(self, order: Order, *, whole: bool) -> None:
        self._began = time.monotonic()
        self._command: subprocess.Popen[bytes] | None = None
        self._fork: BaseProcess | None = None
        if whole:
            with (order.folder / "words").open("ab") as words:
                self._command = subprocess.Popen(
                    [_TLHUB, "pull", order.url, "--format", "original", "--include", "*", "-q"],
                    env={**os.environ, **environ(order)},
                    stdout=words,
                    stderr=words,
                )
        else:
            self._fork = _forks().Process(target=pull, args=(order,))
            with _asking:
                self._fork.start()

    def kill(self) -> bool:
        """Whether it was still alive."""
        pid = self._command.pid if self._command is not None else self._fork.pid  # type: ignore[union-attr]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or 0, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def wait(self) -> int | None:
        """How it ended; None where it hangs."""
        left_s = max(0.1, self._began + _LONGEST_S - time.monotonic())
        if self._command is not None:
            try:
                return self._command.wait(left_s)
            except subprocess.TimeoutExpired:
                self._command.kill()
                self._command.wait()
                return None
        if self._fork is None:
            return None
        ended = bool(connection.wait([self._fork.sentinel], left_s))
        if not ended:
            self._fork.kill()
            connection.wait([self._fork.sentinel])
        with _asking:
            self._fork.join()
            return self._fork.exitcode if ended else None


def play(numbers: Iterable[int], seed: int, *, at_once: int = 1) -> Tally:
    """The rounds of these numbers; every tenth is with the command itself."""

    def one(number: int) -> Tally:
        tally = Tally()
        with _serving() as server, _folder() as folder:
            whole = number % _EVERY == _EVERY - 1
            Round(f"{seed}/{number}", folder, server, tally).run(whole=whole)
        return tally

    total = Tally()
    with ThreadPoolExecutor(at_once) as pool:
        for tally in pool.map(one, numbers):
            total.add(tally)
    return total


@contextlib.contextmanager
def _serving() -> Iterator[Faulty]:
    server = Faulty()
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    shared = Path("/dev/shm")  # noqa: S108 -- a folder of our own is made in it
    where = shared if shared.is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="faults-", dir=where))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _blobs(folder: Path) -> Iterator[Path]:
    """Files that are named by their hash."""
    for path in (*(folder / "home" / "blobs").rglob("*"), *(folder / "hf").rglob("blobs/*")):
        if path.is_file() and _HASH.fullmatch(path.name):
            yield path


def _named(folder: Path, name: str) -> Iterator[Path]:
    """What programs would open."""
    yield from (folder / "home" / "models").glob(f"[!.]*/{name}")
    yield from (folder / "hf" / "hub").glob(f"models--*/snapshots/*/{name}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _forks() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.faults.worker"])
    return context
