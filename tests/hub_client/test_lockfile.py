from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import msgspec
import pytest

from catalog.errors import StorageError, UsageError
from hub_client import lockfile
from hub_client.lockfile import LockedFile, LockedModel, LockFile

SHA = hashlib.sha256(b"weights").hexdigest()


def model(uid="acme/net", path="w.safetensors", **more):
    file = LockedFile(
        path=path, size_bytes=7, sha256=SHA, format="safetensors", urls=("https://a.example/w",)
    )
    fields = {"uid": uid, "source": "https://a.example", "file": (file,), **more}
    return LockedModel(**fields)


def test_the_same_set_is_the_same_text_whatever_the_order(tmp_path):
    one, two = model("b/x", 'o"dd\\ näme.bin'), model("a/x", revision="1.0")
    texts = {
        lockfile.encode(LockFile(version=1, model=models)) for models in [(one, two), (two, one)]
    }
    (text,) = texts
    assert text.decode().count("[[model.file]]") == 2  # a line for each thing that can change
    lockfile.write(LockFile(version=1, model=(one, two)), tmp_path / "new" / "tlhub.lock")
    assert lockfile.read(tmp_path / "new" / "tlhub.lock").model == (two, one)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["tlhub.lock"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"path": "../../.ssh/authorized_keys"}, "file[0].path"),
        ({"path": "/etc/passwd"}, "file[0].path"),
        ({"path": "a\nb"}, "file[0].path"),
        ({"path": "C:\\x"}, "file[0].path"),
        ({"path": "."}, "file[0].path"),
        ({"path": "a//b"}, "file[0].path"),
        ({"path": "a/" + "b" * 300}, "file[0].path"),
        ({"sha256": "0" * 63}, "sha256"),
        ({"sha256": 5}, "sha256"),
        ({"size_bytes": -1}, "size_bytes"),
        ({"size_bytes": 1 << 60}, "size_bytes"),
        ({"size_bytes": True}, "size_bytes"),
        ({"urls": "https://a.example/w"}, "urls"),
        ({"urls": ["https://a.example/\nw"]}, "urls"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_field_that_is_wrong_is_named(change, named):
    import tomli_w

    data = msgspec.json.decode(msgspec.json.encode(LockFile(version=1, model=(model(),))))
    data["model"][0]["file"][0] |= change
    with pytest.raises(UsageError) as caught:
        lockfile.parse(tomli_w.dumps(data).encode(), "tlhub.lock")
    assert named in caught.value.message
    assert "tlhub.lock" in caught.value.message


def test_a_repository_may_have_names_with_blanks(tmp_path):
    url = f"hf:acme/net@{'2' * 40}!my card.md"
    card = msgspec.structs.replace(model().file[0], path="my card.md", urls=(url,))
    lockfile.write(LockFile(version=1, model=(model(file=(card,)),)), tmp_path / "tlhub.lock")
    assert lockfile.read(tmp_path / "tlhub.lock").model[0].file == (card,)


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    path = tmp_path / "tlhub.lock"
    lockfile.write(LockFile(version=1, model=(model(),)), path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"file\[0\]\.path"):
        lockfile.write(LockFile(version=1, model=(model(path="my\ncard.md"),)), path)
    assert path.read_bytes() == before


def test_a_file_in_a_file_is_refused():
    one = model().file[0]
    inside = msgspec.structs.replace(one, path=f"{one.path}/x")
    text = lockfile.encode(
        LockFile(version=1, model=(msgspec.structs.replace(model(), file=(one, inside)),))
    )
    with pytest.raises(UsageError, match="lies in what is a file"):
        lockfile.parse(text, "tlhub.lock")


@pytest.mark.parametrize(
    "text",
    [
        b"version = 2\n",
        b"version = 'x'\n",
        b"\xff\xfe",
        b"version = 1\nmodel = [" + b"[" * 5000,
        b"version = 1\n[[model]]\nuid = 'a/b'\nsource = 'x'\nfile = []\n",
        lockfile.encode(LockFile(version=1, model=(model(), model()))),
    ],
)
def test_what_is_no_lock_file_is_refused(text):
    with pytest.raises(UsageError):
        lockfile.parse(text, "tlhub.lock")


def test_a_lock_file_is_remembered_until_it_is_deleted_but_not_while_its_disk_is_away(tmp_path):
    home, folder = tmp_path / "home", tmp_path / "disk" / "project"
    path = folder / "tlhub.lock"
    lockfile.write(LockFile(version=1, model=(model(),)), path)
    lockfile.remember(home, path)
    assert lockfile.known(home)[path].sha256s == {SHA}
    folder.rename(tmp_path / "elsewhere")
    assert lockfile.known(home)[path].sha256s == {SHA}
    (tmp_path / "elsewhere").rename(folder)
    path.unlink()
    assert lockfile.known(home) == {}
    folder.rmdir()
    assert lockfile.known(home) == {}


def test_a_lock_file_where_nobody_may_look_still_holds(tmp_path, monkeypatch):
    home, path = tmp_path / "home", tmp_path / "theirs" / "tlhub.lock"
    lockfile.write(LockFile(version=1, model=(model(),)), path)
    lockfile.remember(home, path)
    stat = Path.stat

    def refusing(self, **more):
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return stat(self, **more)

    with monkeypatch.context() as patched:  # root may look anywhere
        patched.setattr(Path, "stat", refusing)
        assert lockfile.known(home)[path].sha256s == {SHA}
        with pytest.raises(StorageError, match="Permission denied"):
            lockfile.read(path)
    path.unlink()
    assert lockfile.known(home) == {}


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("hf:acme/net@" + "2" * 40 + "!w.bin", ("hf:acme/net", "2" * 40)),
        ("pypi:net==1.0!a/w.bin#sha256=ab", ("pypi:net", "1.0")),
        ("https://me:pw@a.example/x/w.bin?token=1", ("https://a.example", None)),
        ("s3://bucket/w.bin", ("s3://bucket", None)),
        ("file:///x/w.bin", ("file://", None)),
    ],
)
def test_the_source_is_told_by_the_url(url, source):
    assert lockfile.origin([url]) == source
