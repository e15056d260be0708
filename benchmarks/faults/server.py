"""A file server and a Hugging Face hub in one, on 127.0.0.1, which misbehaves as it is told.

A file is at `/<path>`, and in the repository `x/m` at `/x/m/resolve/<revision>/<path>`. What is
wrong with an answer is said by an `Answer`, each of which serves one GET.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import quote, unquote

REPO = "x/m"
LFS_BYTES = 10_000  # a file of more is in LFS, and known by its SHA-256
_CHUNK_BYTES = 1 << 16
_SPAN = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Version:
    """What a file is for a while."""

    body: bytes
    etag: str | None = None  # None: by its content
    modified: float = 1_700_000_000.0

    @property
    def sha256(self) -> str:
        """Its SHA-256, in hex."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def git_sha1(self) -> str:
        """The name that git gives it."""
        header = b"blob %d\0" % len(self.body)
        return hashlib.sha1(header + self.body, usedforsecurity=False).hexdigest()

    @property
    def lfs(self) -> bool:
        """Whether a hub has it in LFS."""
        return len(self.body) > LFS_BYTES

    @property
    def oid(self) -> str:
        """What a hub calls it."""
        return self.sha256 if self.lfs else self.git_sha1


@dataclass(frozen=True)
class Answer:
    """What is wrong with one answer to a GET; as it stands, nothing."""

    status: int | None = None  # instead of the file
    headers: Mapping[str, str] = field(default_factory=dict)
    redirect: str | None = None  # to this URL
    flip: int | None = None  # one bit of the byte at this offset
    cut: int = 0  # bytes that are missing at the end, and are not announced
    extra: int = 0  # bytes too many
    drop: int | None = None  # bytes of the body after which the line breaks
    stall: int | None = None  # bytes after which nothing more comes
    stall_s: float = 300.0
    trickle_bytes_s: float | None = None  # after `stall` bytes, instead of nothing
    lie: int = 0  # added to Content-Length
    chunked: bool = False  # no Content-Length at all
    ranges: bool = True
    shift: int = 0  # a range begins so many bytes later than it says
    gzip: bool = False
    etag: str | None = None  # another than the file's
    version: Version | None = None  # from here on the file is this one


FINE = Answer()


@dataclass
class File:
    """One file, what is wrong with the next answers, and with all others."""

    version: Version
    answers: list[Answer] = field(default_factory=list)  # used up, one a GET
    always: Answer = FINE
    pause_s: float = 0.0  # after each 64 KiB
    sent_bytes: int = 0  # of bodies, in all
    gets: int = 0


class Faulty:
    """The server; `files` by path, `secrets` are the `Authorization` headers that came."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.secrets: list[str] = []
        self.clock_s = 0.0  # how far its Date and Last-Modified are off
        self._lock = threading.Lock()
        self._closed = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                # Otherwise the system takes all of a file at once, and a killed client had it.
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CHUNK_BYTES)
                super().setup()

            def log_message(self, *_: object) -> None:
                pass

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate((timestamp or time.time()) + server.clock_s, usegmt=True)

            def do_HEAD(self) -> None:
                server._answer(self)

            def do_GET(self) -> None:
                server._answer(self)

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                pass  # a client was killed

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._http.server_port)

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def sent_bytes(self) -> int:
        """Bytes of bodies of files that were sent."""
        return sum(file.sent_bytes for file in self.files.values())

    def close(self) -> None:
        """End it, and what it still sends."""
        self._closed.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def heal(self) -> None:
        """From here on nothing is wrong."""
        for file in self.files.values():
            file.answers, file.always, file.pause_s = [], Answer(), 0.0
        self.clock_s = 0.0

    def commit(self) -> str:
        """The commit of the repository as it is now."""
        oids = {path: file.version.oid for path, file in self.files.items()}
        text = json.dumps(sorted(oids.items())).encode()
        return hashlib.sha1(text, usedforsecurity=False).hexdigest()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = unquote(request.path.partition("?")[0])
        secret = request.headers.get("authorization")
        if secret:
            self.secrets.append(secret)
        if path.startswith("/api/models/"):
            self._describe(request, path)
            return
        found = re.fullmatch(rf"/{REPO}/resolve/[^/]+/(.+)|/(.+)", path)
        name = (found[1] or found[2]) if found else ""
        if name not in self.files:
            _send(request, 404, {"X-Error-Code": "EntryNotFound"})
            return
        file = self.files[name]
        with self._lock:
            answer = file.always
            if request.command == "GET":
                file.gets += 1
                answer = file.answers.pop(0) if file.answers else answer
            if answer.version is not None:
                file.version = answer.version
        if request.command == "GET" and answer.status is not None:
            _send(request, answer.status, answer.headers)
            return
        in_repo = path.startswith(f"/{REPO}/")
        headers = self._repo_headers(file) if in_repo else {}
        if answer.redirect is not None:
            etag = {"ETag": f'"{file.version.oid}"'}
            _send(request, 302, {"Location": answer.redirect, **etag, **headers})
        else:
            self._serve(request, file, answer, headers)

    def _serve(
        self,
        request: http.server.BaseHTTPRequestHandler,
        file: File,
        answer: Answer,
        headers: Mapping[str, str],
    ) -> None:
        version = file.version
        body = _spoiled(version.body, answer)
        etag = answer.etag or version.etag or version.oid
        modified = request.date_time_string(version.modified)
        same = request.headers.get("if-range") in {None, f'"{etag}"', modified}
        ranges = same and answer.ranges and not answer.gzip
        span = _SPAN.fullmatch(request.headers.get("range") or "") if ranges else None
        first = int(span[1]) if span else 0
        last = min(int(span[2]), len(body) - 1) if span and span[2] else len(body) - 1
        sent = {"ETag": f'"{etag}"', "Last-Modified": modified, **headers, **answer.headers}
        if answer.ranges:
            sent["Accept-Ranges"] = "bytes"
        if span and first >= len(body):
            _send(request, 416, {**sent, "Content-Range": f"bytes */{len(body)}"})
            return
        if span:
            sent["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body = body[first + answer.shift :][: last + 1 - first].ljust(last + 1 - first, b"\0")
        if answer.gzip:
            body, sent["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        lie = answer.lie if request.command == "GET" else 0
        if answer.chunked:
            sent["Transfer-Encoding"] = "chunked"
        else:
            sent["Content-Length"] = str(max(0, len(body) + lie))
        request.send_response(206 if span else 200)
        for name, value in sent.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            self._write(request, file, answer, body)

    def _write(
        self,
        request: http.server.BaseHTTPRequestHandler,
        file: File,
        answer: Answer,
        body: bytes,
    ) -> None:
        ends = [end for end in (answer.drop, answer.stall) if end is not None]
        end = min([len(body), *ends])
        self._pour(request, file, answer, body[:end])
        if answer.stall is not None and end == answer.stall and answer.trickle_bytes_s:
            for at in range(end, len(body)):
                self._pour(request, file, answer, body[at : at + 1])
                if self._closed.wait(1 / answer.trickle_bytes_s):
                    break
        elif answer.stall is not None and end == answer.stall:
            self._closed.wait(answer.stall_s)
        whole = end == len(body)
        if answer.chunked and whole:
            request.wfile.write(b"0\r\n\r\n")
        if not whole or answer.lie or answer.stall is not None:
            request.close_connection = True
            with contextlib.suppress(OSError):
                request.connection.shutdown(socket.SHUT_RDWR)

    def _pour(
        self,
        request: http.server.BaseHTTPRequestHandler,
        file: File,
        answer: Answer,
        body: bytes,
    ) -> None:
        for at in range(0, len(body), _CHUNK_BYTES):
            chunk = body[at : at + _CHUNK_BYTES]
            framed = b"%x\r\n%b\r\n" % (len(chunk), chunk) if answer.chunked else chunk
            request.wfile.write(framed)
            with self._lock:
                file.sent_bytes += len(chunk)
            if file.pause_s:
                time.sleep(file.pause_s)
        request.wfile.flush()

    def _repo_headers(self, file: File) -> dict[str, str]:
        headers = {"X-Repo-Commit": self.commit()}
        if file.version.lfs:
            headers["X-Linked-Etag"] = f'"{file.version.oid}"'
            headers["X-Linked-Size"] = str(len(file.version.body))
        return headers

    def _describe(self, request: http.server.BaseHTTPRequestHandler, path: str) -> None:
        """What the hub's API says of the repository."""
        siblings, tree = [], []
        for name, file in self.files.items():
            version, size = file.version, len(file.version.body)
            lfs = {"sha256": version.sha256, "size": size, "pointerSize": 130}
            known = {"size": size, **({"lfs": lfs} if version.lfs else {})}
            siblings.append({"rfilename": name, "blobId": version.git_sha1, **known})
            item = {"type": "file", "path": name, "oid": version.git_sha1, **known}
            if version.lfs:
                item["lfs"] = {**lfs, "oid": version.sha256}
            tree.append(item)
        said: object = {"id": REPO, "sha": self.commit(), "siblings": siblings}
        if f"/{quote(REPO)}/tree/" in path:
            said = tree
        _send(request, 200, {"Content-Type": "application/json"}, json.dumps(said).encode())


def _spoiled(body: bytes, answer: Answer) -> bytes:
    """The whole file as this answer has it."""
    if answer.flip is not None and body:
        at = answer.flip % len(body)
        body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    return body[: len(body) - min(answer.cut, len(body))] + b"\0" * answer.extra


def _send(
    request: http.server.BaseHTTPRequestHandler,
    status: int,
    headers: Mapping[str, str],
    body: bytes = b"",
) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(body)
