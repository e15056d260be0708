"""The rows of the table: what is wrong, and what tlhub has to make of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults import clients
from benchmarks.faults.clients import Client, Run, Scene
from benchmarks.faults.server import FINE, Answer, Faulty, File, Version

SIZE_BYTES = 4_000_000
HALF = SIZE_BYTES // 2
_YEAR_S = 365 * 24 * 3600.0
_PAUSE_S = 0.005  # after each 64 KiB, where something has to happen meanwhile
RIGHT, INTEGRITY, NETWORK, STORAGE = (0,), (6,), (5,), (1,)  # exit codes of `catalog.errors`


@dataclass(frozen=True)
class Cell:
    """What came of it, and whether that is as good as it can be."""

    text: str
    good: bool


Play = Callable[[Client, Scene], Cell]


@dataclass(frozen=True)
class Row:
    """One thing that goes wrong; tlhub has to exit with one of ``codes``."""

    name: str
    play: Play
    codes: tuple[int, ...] = RIGHT


def weights(size_bytes: int, seed: int) -> bytes:
    """A safetensors file of noise; text where it is too short for one."""
    noise = random.Random(seed)
    tensor = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    if size_bytes < 200:
        return bytes(noise.choices(b"abcdefgh\n", k=size_bytes))
    count = size_bytes - 136
    tensor |= {"shape": [count], "data_offsets": [0, count]}
    header = json.dumps({"weight": tensor}).encode().ljust(128)
    return len(header).to_bytes(8, "little") + header + noise.randbytes(count)


A = Version(weights(SIZE_BYTES, 1))
B = Version(weights(SIZE_BYTES, 2), modified=1_710_000_000.0)


def matrix(kills: int, seed: int) -> list[Row]:
    """All rows."""
    half, every = Answer(drop=HALF), Answer(drop=1 << 20)
    return [
        _served("nothing is wrong"),
        _served("right length, one bit flipped", always=Answer(flip=HALF), codes=INTEGRITY),
        _served("truncated, and says so", always=Answer(cut=1000), codes=INTEGRITY),
        _served("longer, and says so", always=Answer(extra=1000), codes=INTEGRITY),
        _served("the line drops once", half),
        _served("the line drops every 1 MB", always=every),
        _served("etag changes midway, same bytes", half, always=Answer(etag="another")),
        _served("replaced midway", half, always=Answer(version=B), codes=INTEGRITY),
        Row("killed, replaced, pulled again", _replaced_between),
        _served("drops once, then ignores Range", half, always=Answer(ranges=False)),
        _served("drops once, then sends another range", half, Answer(shift=1000)),
        _served("503 three times", *[Answer(status=503)] * 3),
        _served("429 twice, Retry-After: 3", *[Answer(429, {"Retry-After": "3"})] * 2),
        _served("stalls for ever after 1 MB", Answer(stall=1 << 20)),
        _served("10 bytes a second after 1 MB", Answer(stall=1 << 20, trickle_bytes_s=10)),
        Row("redirected to another origin, with a token", _redirected),
        _served("Content-Length too small", always=Answer(lie=-1000), codes=INTEGRITY),
        _served("Content-Length too large", always=Answer(lie=1000), codes=NETWORK + INTEGRITY),
        _served("no Content-Length", always=Answer(chunked=True)),
        _served("gzip that nobody asked for", always=Answer(gzip=True), codes=NETWORK),
        Row("disk full (tmpfs of 3 MB)", _disk_full, codes=STORAGE),
        Row("no file over 2 MB (RLIMIT_FSIZE)", _quota, codes=STORAGE),
        Row(f"kill -9 at {kills} random moments", lambda c, s: _killed(c, s, kills, seed)),
        Row("two processes at once", lambda c, s: _together(c, s, 2)),
        Row("eight processes at once", lambda c, s: _together(c, s, 8)),
        Row("server's clock 10 years ahead, drops once", lambda c, s: _clock(c, s, 10 * _YEAR_S)),
        Row("server's clock 10 years behind", lambda c, s: _clock(c, s, -10 * _YEAR_S)),
        Row("killed, what is left is of next year", _from_the_future),
        Row("read-only cache, empty", _read_only, codes=STORAGE),
        Row("read-only cache, with the file", _read_only_full),
        Row("a mirror with a wrong file", _mirror),
    ]


def play(row: Row, client: Client) -> Cell:
    """One cell: ours is good where it ends as it has to, others' where the file is right."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, serving() as server:
        scene = Scene(Path(folder) / "scene", server, A.sha256)
        scene.folder.mkdir()
        return row.play(client, scene)


@contextlib.contextmanager
def serving() -> Iterator[Faulty]:
    """A server with the file."""
    server = Faulty()
    server.files[clients.NAME] = File(A)
    try:
        yield server
    finally:
        server.close()


def _served(
    name: str, *answers: Answer, always: Answer = FINE, codes: tuple[int, ...] = RIGHT
) -> Row:
    """A row whose fault is in what the server answers."""

    def play(client: Client, scene: Scene) -> Cell:
        file = scene.server.files[clients.NAME]
        file.answers, file.always = list(answers), always
        return _judged(client, scene, _run(client, scene), codes)

    return Row(name, play, codes)


def _run(client: Client, scene: Scene) -> Run:
    return clients.wait(clients.start(client, scene), scene)


def _judged(
    client: Client,
    scene: Scene,
    run: Run,
    codes: tuple[int, ...] = RIGHT,
    *,
    again: bool = True,
) -> Cell:
    """What a run came to, and the next one, once nothing is wrong any more."""
    text, good = _verdict(client, scene, run)
    good = good and run.code in (codes if client in clients.OURS else RIGHT)
    text += f"; {run.seconds:.0f} s"
    if again and not (run.code == 0 and clients.right_files(client, scene)):
        scene.server.heal()
        scene.server.files[clients.NAME].version = A
        scene.limit_bytes, before = None, scene.server.sent_bytes
        then, whole = _verdict(client, scene, _run(client, scene))
        good = good and whole and then == "right"
        text += f"; then {then}, {_times(scene.server.sent_bytes - before)}"
    else:
        text += f", {_times(scene.server.sent_bytes)}"
    left = sum(path.stat().st_size for path in clients.remains(client, scene))
    text += f"; {left / 1e6:.1f} MB left" if left else ""
    return Cell(text, good and not left)


def _verdict(client: Client, scene: Scene, run: Run) -> tuple[str, bool]:
    """The outcome in a few words; whether it is one that one can live with."""
    marked = clients.unfinished(client, scene)
    wrong = [] if marked else clients.wrong_files(client, scene)
    if wrong:
        return f"**WRONG FILE**, exit {run.code}", False
    if run.code is None:
        return "**hangs**", False
    if run.code == 0 and clients.right_files(client, scene):
        return "right", True
    if run.code == 0:
        return "**exit 0 without the file**", False
    crashed = "Traceback" in run.said or run.code < 0
    return f"{'traceback' if crashed else 'error'}, exit {run.code}", not crashed


def _times(sent_bytes: int) -> str:
    return f"{sent_bytes / SIZE_BYTES:.1f}x"


def _begun(client: Client, scene: Scene, sent_bytes: int) -> None:
    """A client that was killed when it had been sent so much."""
    file = scene.server.files[clients.NAME]
    file.pause_s, before = 0.02, scene.server.sent_bytes
    process = clients.start(client, scene)
    until = time.monotonic() + 30
    while scene.server.sent_bytes < before + sent_bytes and time.monotonic() < until:
        time.sleep(0.005)
    _kill(process)
    file.pause_s = 0.0


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _replaced_between(client: Client, scene: Scene) -> Cell:
    _begun(client, scene, HALF)
    scene.server.files[clients.NAME].version = B
    scene.sha256 = B.sha256  # as the publisher's page has it by now
    return _judged(client, scene, _run(client, scene), again=False)


def _redirected(client: Client, scene: Scene) -> Cell:
    scene.secret = "a-secret-that-is-only-ours"  # noqa: S105 -- of nobody
    with serving() as other:
        there = f"http://localhost:{other.port}/{clients.NAME}"
        scene.server.files[clients.NAME].always = Answer(redirect=there)
        run = _run(client, scene)
        scene.server.files[clients.NAME].sent_bytes = other.sent_bytes
        cell = _judged(client, scene, run, again=False)
        if other.secrets:
            return Cell(f"{cell.text}; **token sent to the other**", good=False)
    kept = [path for path in scene.folder.rglob("*") if path.is_file() and _holds(path, scene)]
    if kept or scene.secret in run.said:
        return Cell(f"{cell.text}; **token kept in {kept or 'its words'}**", good=False)
    return cell


def _holds(path: Path, scene: Scene) -> bool:
    return scene.secret.encode() in path.read_bytes()


@contextlib.contextmanager
def _disk(scene: Scene, size: str) -> Iterator[bool]:
    """The folder of the scene on a disk of its own, where we may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(scene.folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(scene.folder)], check=True)  # noqa: S607


def _remount(scene: Scene, option: str) -> None:
    command = ["mount", "-o", f"remount,{option}", str(scene.folder)]
    subprocess.run(command, check=True)


def _disk_full(client: Client, scene: Scene) -> Cell:
    with _disk(scene, "3m") as mounted:
        if not mounted:
            return Cell("not tried: it takes root to mount a small disk", good=True)
        run = _run(client, scene)
        first = _judged(client, scene, run, STORAGE, again=False)
        _remount(scene, "size=64m")
        then, whole = _verdict(client, scene, _run(client, scene))
        return Cell(f"{first.text}; with room {then}", first.good and whole and then == "right")


def _quota(client: Client, scene: Scene) -> Cell:
    if shutil.which("prlimit") is None:
        return Cell("not tried: prlimit is not installed", good=True)
    scene.limit_bytes = SIZE_BYTES // 2
    return _judged(client, scene, _run(client, scene), STORAGE)


def _killed(client: Client, scene: Scene, kills: int, seed: int) -> Cell:
    """Killed at any moment of its life, and run again."""
    moments = random.Random(f"{seed} {client.name}")
    file = scene.server.files[clients.NAME]
    file.pause_s = _PAUSE_S
    lasts = _run(client, scene).seconds
    wrong = failed = left = 0
    sent = []
    for _ in range(kills):
        clients.empty(scene.folder)
        before = scene.server.sent_bytes
        process = clients.start(client, scene)
        time.sleep(moments.uniform(0, lasts))
        _kill(process)
        marked = clients.unfinished(client, scene)
        wrong += bool(not marked and clients.wrong_files(client, scene))
        file.pause_s = 0.0
        text, _ = _verdict(client, scene, _run(client, scene))
        file.pause_s = _PAUSE_S
        failed += text != "right"
        left += bool(clients.remains(client, scene))
        sent.append((scene.server.sent_bytes - before) / SIZE_BYTES)
    text = f"{kills - failed} of {kills} right after the next run"
    text += f"; **wrong file in place after {wrong} kills**" if wrong else ""
    text += f"; remains after {left}" if left else ""
    text += f"; {statistics.mean(sent):.2f}x sent, at most {max(sent):.1f}x"
    return Cell(text, good=not failed and not wrong and not left)


def _together(client: Client, scene: Scene, count: int) -> Cell:
    scene.server.files[clients.NAME].pause_s = _PAUSE_S
    processes = [clients.start(client, scene) for _ in range(count)]
    runs: list[Run | None] = [None] * count

    def waited(number: int) -> None:
        runs[number] = clients.wait(processes[number], scene)

    threads = [threading.Thread(target=waited, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [_verdict(client, scene, run)[0] for run in runs if run is not None]
    left = len(clients.remains(client, scene))
    names = sorted(set(texts), key=texts.index)
    text = ", ".join(f"{texts.count(name)} {name}" for name in names)
    text += f"; {left} files left" if left else ""
    return Cell(f"{text}; {_times(scene.server.sent_bytes)}", good=names == ["right"] and not left)


def _clock(client: Client, scene: Scene, off_s: float) -> Cell:
    scene.server.clock_s = off_s
    scene.server.files[clients.NAME].answers = [Answer(drop=HALF)]
    return _judged(client, scene, _run(client, scene))


def _from_the_future(client: Client, scene: Scene) -> Cell:
    _begun(client, scene, HALF)
    later = time.time() + _YEAR_S
    for path in scene.folder.rglob("*"):
        os.utime(path, (later, later), follow_symlinks=False)
    return _judged(client, scene, _run(client, scene))


def _read_only(client: Client, scene: Scene) -> Cell:
    with _disk(scene, "64m") as mounted:
        if not mounted:
            return Cell("not tried: it takes root to mount a disk", good=True)
        _remount(scene, "ro")
        return _judged(client, scene, _run(client, scene), STORAGE, again=False)


def _read_only_full(client: Client, scene: Scene) -> Cell:
    with _disk(scene, "64m") as mounted:
        if not mounted:
            return Cell("not tried: it takes root to mount a disk", good=True)
        _run(client, scene)
        _remount(scene, "ro")
        return _judged(client, scene, _run(client, scene), again=False)


def _mirror(client: Client, scene: Scene) -> Cell:
    with serving() as mirror:
        mirror.files[clients.NAME].always = Answer(flip=HALF)
        scene.mirror = mirror.url
        here = f"{scene.server.url}/={mirror.url}/ "
        here += f"hf:{clients.REPO}=hub+{mirror.url}/{clients.REPO}"
        scene.environ["TLHUB_MIRRORS"] = here
        if client is clients.HF:  # it knows no mirrors but a hub in the place of the hub
            scene.environ["HF_ENDPOINT"] = mirror.url
        cell = _judged(client, scene, _run(client, scene))
        how = " (the mirror as HF_ENDPOINT)" if client is clients.HF else ""
        return Cell(cell.text + how, cell.good)
