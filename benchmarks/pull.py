"""`tlhub pull` beside curl, aria2c and `hf download`: whole processes, one server, one run.

Needs nginx, curl, openssl and aria2c on the path. nginx serves from memory on this machine: one
large file, and a hub of the Hugging Face kind, made of its configuration alone, with a repository
of that file and one of many small ones. Three tables: the large file; the small files; the large
file over a line that delays by 40 ms and caps each connection at 20 MB/s (`slow_proxy.py`).

Commands take turns, so that a busy moment of the machine meets all of them; medians are reported.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(sys.executable).parent
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- a folder of our own is made in it
COMMIT = "1" * 40
CHUNK_BYTES = 1 << 20
NGINX = """
daemon off; pid {root}/nginx.pid; error_log {root}/nginx.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; etag off; keepalive_requests 1000000; types {{ }}
  default_type application/octet-stream; map_hash_max_size 65536; map_hash_bucket_size 256;
  client_body_temp_path {root}/nginx.tmp; proxy_temp_path {root}/nginx.tmp;
  fastcgi_temp_path {root}/nginx.tmp; uwsgi_temp_path {root}/nginx.tmp;
  scgi_temp_path {root}/nginx.tmp;
  map $uri $oid {{ default ""; include {root}/etags; }}
  server {{
    listen 127.0.0.1:{port}; root {root}/www;
    location /api/ {{ default_type application/json; try_files $uri.json =404; }}
    location ~ ^/x/(big|small)/resolve/[^/]+/(.+)$ {{
      add_header X-Repo-Commit {commit}; add_header ETag '"$oid"'; alias {root}/www/$1/$2;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Spent:
    """What one process took, children included."""

    wall_s: float
    cpu_s: float
    rss_mb: float


@dataclass(frozen=True)
class Hub:
    """What nginx serves."""

    root: Path
    port: int
    sha256: str

    @property
    def file(self) -> str:
        """The large file, relative to the server."""
        return "big/model.safetensors"

    def url(self, port: int | None = None) -> str:
        """The large file."""
        return f"http://127.0.0.1:{port or self.port}/{self.file}"


def main() -> None:
    """Measure, and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--folder", type=Path, default=SHARED_MEMORY, help="on a tmpfs")
    parser.add_argument("--only", choices=["large", "small", "far"])
    arguments = parser.parse_args()
    for tool in ("nginx", "curl", "openssl", "aria2c"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = Path(folder)
        sha256 = make_large(root, int(arguments.gib * (1 << 30)))
        make_small(root, arguments.files)
        with nginx(root) as port:
            hub = Hub(root, port, sha256)
            if arguments.only in {None, "large"}:
                print(f"\nOne file of {arguments.gib:g} GiB, loopback, tmpfs\n")
                report(measure(root, large(hub), arguments.rounds), "curl && openssl")
            if arguments.only in {None, "small"}:
                print(f"\n{arguments.files} files of 1 to 20 kB, loopback, tmpfs\n")
                report(measure(root, small(hub), arguments.rounds), "hf download")
            if arguments.only in {None, "far"}:
                print(f"\nOne file of {arguments.gib:g} GiB, 40 ms, 20 MB/s a connection\n")
                with slow_line(port) as slow_port:
                    report(measure(root, far(hub, slow_port), arguments.rounds), "aria2c -x8")


def large(hub: Hub) -> dict[str, list[str]]:
    """The large file, by everyone."""
    out, url = hub.root / "out", hub.url()
    digest = f"openssl dgst -sha256 {out}/f"
    return {
        "curl": ["curl", "-s", "-o", f"{out}/f", url],
        "curl && openssl": ["sh", "-c", f"curl -s -o {out}/f {url} && {digest}"],
        "aria2c": ["aria2c", "-q", "-d", str(out), "-o", "f", url],
        "hf download": [f"{HERE}/hf", "download", "x/big", "--quiet"],
        "tlhub pull https:": tlhub(f"{url}#sha256={hub.sha256}"),
        "tlhub pull hf:": tlhub("hf:x/big"),
        "tlhub --version": [f"{HERE}/tlhub", "--version"],
    }


def small(hub: Hub) -> dict[str, list[str]]:
    """The repository of many files."""
    del hub
    return {
        "hf download": [f"{HERE}/hf", "download", "x/small", "--quiet"],
        "tlhub pull hf:": tlhub("hf:x/small"),
    }


def far(hub: Hub, port: int) -> dict[str, list[str]]:
    """The large file over the slow line; aria2c makes no more than 5 parts unless told to."""
    out, url = str(hub.root / "out"), hub.url(port)
    return {
        "aria2c -x8": ["aria2c", "-q", "-x8", "-d", out, "-o", "f", url],
        "aria2c -x8 -s8": ["aria2c", "-q", "-x8", "-s8", "-d", out, "-o", "f", url],
        "tlhub pull https:": tlhub(f"{url}#sha256={hub.sha256}"),
    }


def tlhub(what: str) -> list[str]:
    """The command of this project, without conversion."""
    return [f"{HERE}/tlhub", "pull", what, "--format", "original", "--quiet"]


def measure(
    root: Path, commands: Mapping[str, Sequence[str]], rounds: int
) -> dict[str, list[Spent]]:
    """Each command so many times, in turns, each time from nothing."""
    port = next(part for part in (root / "nginx.conf").read_text().split() if ":" in part)
    environ = {
        **os.environ,
        "HF_ENDPOINT": f"http://{port.rstrip(';')}",
        "HF_HOME": str(root / "hf"),
        "TLHUB_HOME": str(root / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    spent: dict[str, list[Spent]] = {name: [] for name in commands}
    for turn in range(rounds):
        names = list(commands)
        random.Random(turn).shuffle(names)
        for name in names:
            for folder in ("out", "hf", "home"):
                shutil.rmtree(root / folder, ignore_errors=True)
            (root / "out").mkdir()
            spent[name].append(run(commands[name], environ, root / "log"))
    return spent


def run(command: Sequence[str], environ: Mapping[str, str], log: Path) -> Spent:
    """One process from start to end; one that fails ends the benchmark."""
    with log.open("wb") as stream:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environ, stdout=stream, stderr=stream)
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}: {log.read_text()[-2000:]}")
    return Spent(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def report(spent: Mapping[str, Sequence[Spent]], base: str) -> None:
    """One row a command: medians, and the ratio of walls to that of ``base``."""
    base_s = statistics.median(one.wall_s for one in spent[base])
    print(f"| command | wall s | min-max | CPU s | RSS MB | wall / {base} |")
    print("|---|---|---|---|---|---|")
    for name, runs in spent.items():
        wall_s = statistics.median(one.wall_s for one in runs)
        cpu_s = statistics.median(one.cpu_s for one in runs)
        rss_mb = statistics.median(one.rss_mb for one in runs)
        least, most = min(one.wall_s for one in runs), max(one.wall_s for one in runs)
        print(
            f"| {name} | {wall_s:.2f} | {least:.2f}-{most:.2f} | {cpu_s:.2f} | {rss_mb:.0f} | "
            f"{wall_s / base_s:.2f} |"
        )
    sys.stdout.flush()


def make_large(root: Path, size_bytes: int) -> str:
    """A safetensors file with one tensor of noise, as a repository; its SHA-256."""
    path = root / "www" / "big" / "model.safetensors"
    path.parent.mkdir(parents=True)
    count = size_bytes - 1024
    tensor = {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}
    header = json.dumps({"weight": tensor}).encode().ljust(1016)
    noise, digest = random.Random(1).randbytes(CHUNK_BYTES), hashlib.sha256()
    with path.open("wb") as file:
        left = size_bytes
        chunk = len(header).to_bytes(8, "little") + header
        while left:
            file.write(chunk)
            digest.update(chunk)
            left -= len(chunk)
            start = random.Random(left).randrange(CHUNK_BYTES)
            chunk = (noise[start:] + noise[:start])[:left]
    describe(root, "big", {path.name: (size_bytes, digest.hexdigest())})
    return digest.hexdigest()


def make_small(root: Path, count: int) -> None:
    """A repository of many files, a hundred a folder."""
    numbers, files = random.Random(2), {}
    for number in range(count):
        name = f"part-{number // 100:03}/{number:05}.txt"
        body = base64.b64encode(numbers.randbytes(numbers.randint(750, 15_000)))
        path = root / "www" / "small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        oid = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
        files[name] = (len(body), oid)
    describe(root, "small", files)


def describe(root: Path, name: str, files: Mapping[str, tuple[int, str]]) -> None:
    """What a hub says of a repository, as files that nginx serves as they are."""
    siblings, tree = [], []
    for path, (size, oid) in files.items():
        lfs = {"sha256": oid, "size": size, "pointerSize": 134} if len(oid) == 64 else None
        blob = "2" * 40 if lfs else oid
        siblings.append({"rfilename": path, "size": size, "blobId": blob, "lfs": lfs})
        entry = {"type": "file", "path": path, "size": size, "oid": blob}
        tree.append(entry | ({"lfs": lfs | {"oid": oid}} if lfs else {}))
    said = {"id": f"x/{name}", "modelId": f"x/{name}", "sha": COMMIT, "siblings": siblings}
    said |= {"private": False, "gated": False, "tags": [], "downloads": 0, "likes": 0}
    api = root / "www" / "api" / "models" / "x"
    for place, value in {
        f"{name}.json": said,
        f"{name}/revision/main.json": said,
        f"{name}/revision/{COMMIT}.json": said,
        f"{name}/tree/{COMMIT}.json": tree,
    }.items():
        (api / place).parent.mkdir(parents=True, exist_ok=True)
        (api / place).write_text(json.dumps(value))
    with (root / "etags").open("a") as stream:
        for path, (_, oid) in files.items():
            for revision in ("main", COMMIT):
                stream.write(f"/x/{name}/resolve/{revision}/{path} {oid};\n")


@contextlib.contextmanager
def nginx(root: Path) -> Iterator[int]:
    """A server of ``root/www``; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = root / "nginx.conf"
    configuration.write_text(NGINX.format(root=root, port=port, commit=COMMIT))
    os.chmod(root, 0o755)  # noqa: PTH101, S103 -- its worker is another user
    with ended(["nginx", "-p", str(root), "-e", f"{root}/nginx.log", "-c", str(configuration)]):
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port


@contextlib.contextmanager
def slow_line(upstream: int) -> Iterator[int]:
    """A slow line to a port; the port of its near end."""
    script = Path(__file__).with_name("slow_proxy.py")
    with ended([sys.executable, str(script), str(upstream)]) as process:
        yield int(process.stdout.readline())  # type: ignore[union-attr]


@contextlib.contextmanager
def ended(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
