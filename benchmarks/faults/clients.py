"""The clients of the table, each a whole process, and what they leave on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.server import REPO, Faulty

BIN = Path(sys.executable).parent
NAME = "model.safetensors"
HANG_S = 100.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOT_OURS = re.compile(r"(TLHUB|HF|HUGGING_FACE|PIP)_.*|(?i:(http|https|all|no)_proxy)")


@dataclass
class Scene:
    """One client's turn at one row: a folder of its own, and what is special for it."""

    folder: Path
    server: Faulty
    sha256: str  # of the file that is wanted
    base: str = ""  # where the file is asked for, if not at the server itself
    mirror: str = ""  # another place with the same file
    secret: str = ""
    limit_bytes: int | None = None  # no file may be larger
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The file itself."""
        return f"{self.base or self.server.url}/{NAME}"


@dataclass(frozen=True)
class Client:
    """How a program is started, and where it puts a file that it calls done."""

    name: str
    command: Callable[[Scene], list[str]]
    done: Callable[[Path], Iterable[Path]]  # in the folder of the scene
    working: tuple[str, ...] = ()  # what in a path tells that the program is not done with it


@dataclass(frozen=True)
class Run:
    """How one process ended; None where it did not."""

    code: int | None
    seconds: float
    said: str


def _tlhub(what: str) -> list[str]:
    return [str(BIN / "tlhub"), "pull", what, "--format", "original", "--quiet"]


def _tlhub_http(scene: Scene) -> list[str]:
    url = scene.url.replace("://", f"://user:{scene.secret}@") if scene.secret else scene.url
    return _tlhub(f"{url}#sha256={scene.sha256}")


def _tlhub_hf(scene: Scene) -> list[str]:
    del scene
    return _tlhub(f"hf:{REPO}")


def _hf(scene: Scene) -> list[str]:
    del scene
    return [str(BIN / "hf"), "download", REPO, "--quiet"]


def _aria2c(scene: Scene) -> list[str]:
    token = [f"--header=Authorization: Bearer {scene.secret}"] if scene.secret else []
    urls = [url for url in (scene.mirror and f"{scene.mirror}/{NAME}", scene.url) if url]
    options = ["-q", "-c", "-d", str(scene.folder), "-o", NAME, *token]
    return ["aria2c", *options, f"--checksum=sha-256={scene.sha256}", *urls]


def _in_home(folder: Path) -> Iterable[Path]:
    yield from (folder / "home" / "models").glob(f"[!.]*/{NAME}")
    yield from (p for p in (folder / "home" / "blobs").rglob("*") if _SHA256.fullmatch(p.name))


def _in_hf_cache(folder: Path) -> Iterable[Path]:
    yield from (folder / "hf" / "hub").glob(f"models--*/snapshots/*/{NAME}")
    yield from (folder / "home" / "models").glob(f"[!.]*/{NAME}")


def _in_folder(folder: Path) -> Iterable[Path]:
    file = folder / NAME
    if file.exists():
        yield file


TLHUB_HTTP = Client("tlhub pull https:", _tlhub_http, _in_home)
TLHUB_HF = Client("tlhub pull hf:", _tlhub_hf, _in_hf_cache)
HF = Client("hf download", _hf, _in_hf_cache)
ARIA2C = Client("aria2c --checksum", _aria2c, _in_folder, (".aria2",))
CLIENTS = (TLHUB_HTTP, TLHUB_HF, HF, ARIA2C)
OURS = (TLHUB_HTTP, TLHUB_HF)


def start(client: Client, scene: Scene) -> subprocess.Popen[bytes]:
    """The client at work, in a process group of its own, its words in a file."""
    environ = {k: v for k, v in os.environ.items() if not _NOT_OURS.fullmatch(k)}
    environ |= {
        "TLHUB_HOME": str(scene.folder / "home"),
        "TLHUB_CONFIG": os.devnull,
        "HF_HOME": str(scene.folder / "hf"),
        "HF_ENDPOINT": scene.base or scene.server.url,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HOME": str(scene.folder),
        "NO_COLOR": "1",
        **({"HF_TOKEN": scene.secret} if scene.secret else {}),
        **scene.environ,
    }
    command = client.command(scene)
    if scene.limit_bytes is not None:
        command = ["prlimit", f"--fsize={scene.limit_bytes}", *command]
    with _words(scene).open("ab") as words:
        return subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            start_new_session=True,
        )


def wait(process: subprocess.Popen[bytes], scene: Scene, seconds: float = HANG_S) -> Run:
    """How it ended; one that takes longer is killed."""
    began = time.monotonic()
    try:
        code: int | None = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = None
    return Run(code, time.monotonic() - began, _words(scene).read_text(errors="replace"))


def wrong_files(client: Client, scene: Scene) -> list[Path]:
    """Files that the client calls done and that are not what was asked for."""
    return [path for path in client.done(scene.folder) if not _is_right(path, scene.sha256)]


def right_files(client: Client, scene: Scene) -> list[Path]:
    """Those that are."""
    return [path for path in client.done(scene.folder) if _is_right(path, scene.sha256)]


def unfinished(client: Client, scene: Scene) -> bool:
    """Whether a mark beside the file says that it is not done."""
    return any((scene.folder / (NAME + mark)).exists() for mark in client.working)


def remains(client: Client, scene: Scene) -> list[Path]:
    """Files of some size that are neither done nor an answer of the hub's API."""
    done = {path.resolve() for path in client.done(scene.folder)}
    return [
        path
        for path in sorted(scene.folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.resolve() not in done
        if path.stat().st_size > (16 << 10)
    ]


def empty(folder: Path) -> None:
    """Make it anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def versions() -> list[str]:
    """Each client and its version."""
    found = []
    for command in (["tlhub", "--version"], ["hf", "version"], ["aria2c", "--version"]):
        program = BIN / command[0]
        first: Sequence[str] = [str(program) if program.exists() else command[0], *command[1:]]
        environ = {**os.environ, "NO_COLOR": "1", "TERM": "dumb"}
        said = subprocess.run(first, capture_output=True, text=True, check=True, env=environ)
        number = re.search(r"\d+(\.\d+)+\S*", said.stdout)
        found.append(f"{command[0]} {number[0] if number else '?'}")
    return found


def _is_right(path: Path, sha256: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    return False


def _words(scene: Scene) -> Path:
    return scene.folder.with_name(scene.folder.name + ".log")
