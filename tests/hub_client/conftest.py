"""A loopback server that misbehaves as it is told, and the store and wheels to try it with."""

from __future__ import annotations

import hashlib
import http.server
import os
import random
import re
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from catalog.record import Artifact, Digest
from hub_client.store import Store


@dataclass
class Served:
    """One path, and what is wrong with it; lists are used up, one item a GET."""

    body: bytes
    etag: str | None = None
    kind: str = "application/octet-stream"
    ranges: bool = True
    heeds: bool = True  # what `If-Range` says
    headers: Mapping[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)  # instead of an answer
    drops: list[int] = field(default_factory=list)  # absolute offset at which the line breaks
    then: list[Callable[[Served], None]] = field(default_factory=list)  # after each GET
    pause_s: float = 0.0  # after each 64 KiB
    announced: int | None = None  # a lying Content-Length
    trickles: int = 0  # GETs that bring 64 KiB in 0.2 s
    lengthless: bool = False  # the end of the connection is that of the body
    latency_s: float = 0.0  # before each answer
    at_once: int | None = None  # answers that are sent at a time; others get a 503
    asked: int = 0  # answers that are being sent


class Server:
    """Files by path on 127.0.0.1, and a log of what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.refused: tuple[int, dict[str, str]] | None = None  # the answer to everything
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                server.answer(self)

            def do_GET(self) -> None:
                server.answer(self)

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                pass  # a client was killed

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self._http.server_port}{path}"

    def asked(self, path: str, header: str) -> list[str | None]:
        return [h.get(header) for method, p, h in self.log if p == path and method == "GET"]

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        headers = {name.lower(): value for name, value in request.headers.items()}
        headers["peer"] = str(request.client_address)  # one a connection
        self.log.append((request.command, path, headers))
        file = self.files.get(path)
        if self.refused is not None:
            self._send(request, *self.refused)
        elif file is None:
            self._send(request, 404, {})
        elif request.command == "GET" and file.statuses:
            self._send(request, file.statuses.pop(0), file.headers)
        elif file.at_once is not None and file.asked >= file.at_once:
            self._send(request, 503, {})
        else:
            file.asked += 1
            try:
                time.sleep(file.latency_s)
                span = self._send_head(request, file, headers)
                if request.command == "GET":
                    self._send_body(request, file, *span)
            finally:
                file.asked -= 1

    def _send(
        self,
        request: http.server.BaseHTTPRequestHandler,
        status: int,
        headers: Mapping[str, str],
        length: int | None = 0,
    ) -> None:
        request.send_response(status)
        end = {"Connection": "close"} if length is None else {"Content-Length": str(length)}
        for name, value in {**end, **headers}.items():
            request.send_header(name, value)
        request.end_headers()

    def _send_head(
        self, request: http.server.BaseHTTPRequestHandler, file: Served, asked: Mapping[str, str]
    ) -> tuple[int, int]:
        """Send status and headers; at which bytes the body begins and ends."""
        length = len(file.body)
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.get("range", ""))
        changed = file.heeds and asked.get("if-range") not in {None, file.etag}
        if not file.ranges or changed:
            span = None
        start = int(span[1]) if span else 0
        stop = min(length, int(span[2]) + 1) if span and span[2] else length
        headers = {"Content-Type": file.kind, "Accept-Ranges": "bytes", **file.headers}
        if file.etag:
            headers["ETag"] = file.etag
        if span:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{length}"
        announced = (file.announced or length) - start if stop == length else stop - start
        self._send(request, 206 if span else 200, headers, None if file.lengthless else announced)
        return start, stop

    def _send_body(
        self, request: http.server.BaseHTTPRequestHandler, file: Served, start: int, stop: int
    ) -> None:
        body, pause_s = file.body, file.pause_s
        if file.trickles:
            file.trickles, pause_s = file.trickles - 1, 0.2
        end = min(file.drops.pop(0), stop) if file.drops else stop
        for at in range(start, end, 65536):
            request.wfile.write(body[at : min(end, at + 65536)])
            time.sleep(pause_s)
        request.wfile.flush()
        if file.then:
            file.then.pop(0)(file)
        if end < stop:
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def other_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def data() -> bytes:
    return random.Random(7).randbytes(3_000_000)


@pytest.fixture
def served() -> type[Served]:
    return Served


@pytest.fixture
def artifact() -> Callable[..., Artifact]:
    def make(body: bytes, *urls: str, path: str = "w.bin", **more: object) -> Artifact:
        fields: dict[str, object] = {
            "digest": Digest(algorithm="sha256", value=hashlib.sha256(body).hexdigest()),
            "size_bytes": len(body),
            **more,
        }
        return Artifact(path=path, format="pytorch", urls=urls, **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def nothing_wrong_in() -> Callable[[Store], None]:
    """Every blob is what its name says."""

    def check(store: Store) -> None:
        for blob in (store.home / "blobs").rglob("*"):
            if blob.is_file():
                assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name

    return check


@pytest.fixture
def nothing_left_in() -> Callable[[Store], None]:
    """No blob and no partial."""

    def check(store: Store) -> None:
        left = [p for part in ("blobs", "tmp") for p in (store.home / part).rglob("*")]
        assert [p for p in left if p.is_file()] == []

    return check


@pytest.fixture
def wheel(tmp_path: Path) -> Callable[..., Path]:
    """Make a wheel of these members."""

    def make(members: Mapping[str, bytes], *, version: str = "1.0", folder: str = "dist") -> Path:
        path = tmp_path / folder / f"tiny_weights-{version}-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, body in members.items():
                archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), body)
        return path

    return make


@pytest.fixture
def only_pip(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Nothing of this machine's pip configuration, but these options."""

    def set_options(**options: str) -> None:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        for name, value in options.items():
            monkeypatch.setenv(f"PIP_{name.upper()}", value)

    return set_options
