"""The demo's photos where there is no apt: a real `.deb` from a real server, unpacked in Python."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import pytest

from demo import stamps

ROOT = "./usr/share/tuxpaint/stamps"


def deb(files: dict[str, bytes]) -> bytes:
    """A Debian package: an `ar` archive of three members, the last a tar of the files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, body in files.items():
            entry = tarfile.TarInfo(f"{ROOT}/{name}")
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    packed = b"!<arch>\n"
    for name, body in parts.items():
        packed += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode()
        packed += body + b"\n" * (len(body) % 2)
    return packed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "www").mkdir()
    handler = partial(Quiet, directory=tmp_path / "www")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_without_apt_the_pinned_package_is_fetched_checked_and_unpacked(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = deb(
        {
            "animals/birds/crow.png": b"crow",
            "animals/cartoon/tux.png": b"cartoon",
            "animals/birds/crow_mirror.png": b"mirror",
            "food/apple.png": b"apple",
            "food/apple.txt": b"text",
            "hobbies/ball.png": b"another class",
        }
    )
    (tmp_path / "www" / "pinned").write_bytes(package)
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get there
    wanted, url = tmp_path / "data" / "stamps", f"{server}/pinned"
    with pytest.raises(SystemExit, match="not used"):
        stamps.provide(wanted, url=url, sha256="0" * 64)
    assert list((tmp_path / "data").iterdir()) == []
    sha256 = hashlib.sha256(package).hexdigest()
    stamps.provide(wanted, url=url, sha256=sha256)
    found = {p.relative_to(wanted).as_posix(): p.read_bytes() for p in wanted.rglob("*.png")}
    assert found == {"animals/birds_crow.png": b"crow", "food/apple.png": b"apple"}
    stamps.provide(wanted, url="http://127.0.0.1:9/not-asked-again")


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(b"<html>blocked</html>")
    with pytest.raises(SystemExit, match="not a Debian package"):
        stamps.unpack(tmp_path / "x.deb", tmp_path / "photos")
    assert stamps.is_photo(PurePosixPath("town/house.png"))
