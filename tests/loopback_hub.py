"""A Hugging Face hub on 127.0.0.1 with repositories in memory, which misbehaves as it is told."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode


@dataclass
class File:
    """One file of a repository, and what is wrong with it; lists are used up, one item a GET."""

    body: bytes
    lfs: bool
    sent: bytes | None = None  # other bytes than the hub says it has
    statuses: list[int] = field(default_factory=list)
    drops: list[int] = field(default_factory=list)  # offset at which the line breaks
    pause_s: float = 0.0  # after each 64 KiB
    xet: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    @cached_property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.body) + self.body).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


class Hub:
    """Repositories by name; every one has one commit, to which every branch points."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, File]] = {}
        self.said: dict[str, dict[str, object]] = {}  # of a repository: cardData, gated, ...
        self._commits: dict[str, str] = {}
        # What `GET /api/models` lists; bytes are sent as they are.
        self.models: list[object] = []
        # Used up, one a page: a status, headers (and a body), or where the line breaks, or None.
        self.troubles: list[Any] = []
        self.page_size = 500
        self.forgets = False  # every page but the first
        self.siblings: Callable[[list[dict[str, object]]], list[dict[str, object]]] = lambda x: x
        self.refused: tuple[int, dict[str, str]] | None = None  # the answer to everything
        self.token: str | None = None  # without it, 401
        self.log: list[tuple[str, str, dict[str, str]]] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                hub.answer(self)

            def do_GET(self) -> None:
                hub.answer(self)

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                pass  # a client was killed

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def put(self, repo: str, files: Mapping[str, bytes], **said: object) -> dict[str, File]:
        """Make a repository; what is larger than 10 kB is in LFS."""
        self.repos[repo] = {path: File(body, len(body) > 10_000) for path, body in files.items()}
        self.said[repo] = said
        state = json.dumps({path: file.etag for path, file in self.repos[repo].items()})
        self._commits[repo] = hashlib.sha1(state.encode()).hexdigest()
        return self.repos[repo]

    def commit(self, repo: str) -> str:
        return self._commits[repo]

    def asked(self, part: str) -> list[str]:
        """The requests whose path has ``part`` in it."""
        return [f"{method} {path}" for method, path, _ in self.log if part in path]

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        path = unquote(path)
        headers = {name.lower(): value for name, value in request.headers.items()}
        listing = path == "/api/models"
        self.log.append((request.command, f"{path}?{query}" if listing else path, headers))
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repo = (api or file or [None, None])[1]
        if self.refused is not None:
            self._send(request, *self.refused)
        elif self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
            self._send(request, 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        elif listing:
            self._models(request, parse_qsl(query))
        elif repo is None or repo not in self.repos:
            self._send(request, 404, {"X-Error-Code": "RepoNotFound"})
        elif api and api[2] == "tree":
            self._tree(request, repo)
        elif api:
            self._list(request, repo)
        elif file and file[3] in self.repos[repo]:
            self._file(request, repo, self.repos[repo][file[3]], headers)
        else:
            self._send(request, 404, {"X-Error-Code": "EntryNotFound"})

    def _models(
        self, request: http.server.BaseHTTPRequestHandler, query: list[tuple[str, str]]
    ) -> None:
        """A page of the models, what changed last first; its cursor is the last of the page."""
        trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, tuple):
            self._send(request, *trouble)
            return
        asked = dict(query)
        after = asked.get("cursor")
        if after is not None and self.forgets:
            self._send(request, 400, {})
            return
        found = sorted(
            filter(lambda e: _is_asked_for(e, asked), self.models), key=_age, reverse=True
        )
        found = [e for e in found if after is None or list(_age(e)) < json.loads(after)]
        page = found[: min(self.page_size, int(asked["limit"]))]
        headers = {"Content-Type": "application/json"}
        if len(page) < len(found):
            rest = [pair for pair in query if pair[0] != "cursor"]
            following = urlencode([*rest, ("cursor", json.dumps(_age(page[-1])))])
            headers["Link"] = f'<{self.url}/api/models?{following}>; rel="next"'
        body = b"[%s]" % b",".join(
            e if isinstance(e, bytes) else json.dumps(e).encode() for e in page
        )
        self._send(request, 200, headers, body, drop=trouble)

    def entry(self, repo: str) -> dict[str, object]:
        """What the hub says of a repository."""
        siblings: list[dict[str, object]] = [
            {
                "rfilename": path,
                "size": len(file.body),
                "blobId": file.oid,
                **({"lfs": _lfs(file)} if file.lfs else {}),
            }
            for path, file in self.repos[repo].items()
        ]
        return {
            "id": repo,
            "sha": self.commit(repo),
            "siblings": self.siblings(siblings),
            **self.said[repo],
        }

    def _list(self, request: http.server.BaseHTTPRequestHandler, repo: str) -> None:
        body = json.dumps(self.entry(repo)).encode()
        self._send(request, 200, {"Content-Type": "application/json"}, body)

    def _tree(self, request: http.server.BaseHTTPRequestHandler, repo: str) -> None:
        """What `snapshot_download` asks for."""
        entries = [
            {
                "type": "file",
                "path": path,
                "oid": file.oid,
                "size": len(file.body),
                **({"lfs": {"oid": file.sha256, **_lfs(file)}} if file.lfs else {}),
            }
            for path, file in self.repos[repo].items()
        ]
        body = json.dumps(entries).encode()
        self._send(request, 200, {"Content-Type": "application/json"}, body)

    def _file(
        self,
        request: http.server.BaseHTTPRequestHandler,
        repo: str,
        file: File,
        asked: Mapping[str, str],
    ) -> None:
        if request.command == "GET" and file.statuses:
            self._send(request, file.statuses.pop(0), {})
            return
        body = file.body if file.sent is None else file.sent
        etag = f'"{file.etag}"'
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.get("range", ""))
        first = int(span[1]) if span and asked.get("if-range") in {None, etag} else 0
        last = min(int(span[2]), len(body) - 1) if span and span[2] else len(body) - 1
        headers = {"ETag": etag, "X-Repo-Commit": self.commit(repo), "Accept-Ranges": "bytes"}
        if file.lfs:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(len(body))}
        if file.xet:
            headers |= {
                "X-Xet-Hash": "0" * 64,
                "Link": f'<{self.url}/nothing/here>; rel="xet-auth"',
            }
        if span and asked.get("if-range") in {None, etag}:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            status = 206
        else:
            status, last = 200, len(body) - 1
        request.send_response(status)
        headers["Content-Length"] = str(last + 1 - first)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            drop = file.drops.pop(0) if file.drops else None
            self._write(request, body[: last + 1], first, drop, file.pause_s)

    def _write(
        self,
        request: http.server.BaseHTTPRequestHandler,
        body: bytes,
        first: int,
        drop: int | None,
        pause_s: float,
    ) -> None:
        end = len(body) if drop is None else min(drop, len(body))
        for at in range(first, end, 1 << 16):
            request.wfile.write(body[at : min(end, at + (1 << 16))])
            if pause_s:
                request.wfile.flush()
                time.sleep(pause_s)
        request.wfile.flush()
        if end < len(body):
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)

    def _send(
        self,
        request: http.server.BaseHTTPRequestHandler,
        status: int,
        headers: Mapping[str, str],
        body: bytes = b"",
        drop: int | None = None,
    ) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        self._write(request, body, 0, drop, 0.0)


def _is_asked_for(entry: object, asked: Mapping[str, str]) -> bool:
    said = entry if isinstance(entry, dict) else {}
    task, author = asked.get("pipeline_tag"), asked.get("author")
    of = str(said.get("id")).partition("/")[0]
    return task in {None, said.get("pipeline_tag")} and author in {None, of}


def _age(entry: object) -> tuple[str, str]:
    said = entry if isinstance(entry, dict) else {}
    return str(said.get("lastModified")), str(said.get("id"))


def _lfs(file: File) -> dict[str, object]:
    return {"sha256": file.sha256, "size": len(file.body), "pointerSize": 130}


def running() -> Iterator[Hub]:
    """A hub, as a fixture wants it."""
    hub = Hub()
    yield hub
    hub.close()
