from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap

import pytest

from catalog.errors import IntegrityError, StorageError
from catalog.record import Digest
from hub_client.store import Store


def test_bytes_are_kept_under_their_hash_and_found_again(store, artifact):
    wanted = artifact(b"weights")
    assert store.find(wanted) is None
    path = store.add([b"wei", b"ghts"], wanted, "file:///w")
    assert path == store.blob(hashlib.sha256(b"weights").hexdigest())
    assert path.read_bytes() == b"weights"
    assert store.find(wanted) == path


@pytest.mark.parametrize("change", [b"wEights", b"weight", b"weights!", b""])
def test_a_damaged_blob_is_not_found_and_gives_way_to_the_right_one(store, artifact, change):
    wanted = artifact(b"weights")
    path = store.add([b"weights"], wanted, "file:///w")
    path.write_bytes(change)
    assert store.find(wanted) is None
    assert store.add([b"weights"], wanted, "file:///w").read_bytes() == b"weights"


def test_wrong_bytes_are_refused_and_leave_nothing(store, artifact, nothing_left_in):
    with pytest.raises(IntegrityError, match=hashlib.sha256(b"heights").hexdigest()):
        store.add([b"heights"], artifact(b"weights"), "file:///w")
    git = Digest(algorithm="git-sha1", value=hashlib.sha1(b"blob 7\0weights").hexdigest())
    with pytest.raises(IntegrityError, match="git sha1"):
        store.add([b"heights"], artifact(b"weights", digest=git, size_bytes=None), "file:///w")
    nothing_left_in(store)


def test_a_failure_half_way_leaves_nothing(store, artifact, nothing_left_in):
    def broken():
        yield b"wei"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.add(broken(), artifact(b"weights"), "file:///w")
    nothing_left_in(store)


@pytest.mark.parametrize(
    "digest",
    [
        Digest(algorithm="sha256", value=hashlib.sha256(b"weights").hexdigest()[:8], prefix=True),
        Digest(algorithm="md5", value=hashlib.md5(b"weights").hexdigest()),
        Digest(algorithm="sha384", value=hashlib.sha384(b"weights").hexdigest()),
        Digest(algorithm="git-sha1", value=hashlib.sha1(b"blob 7\0weights").hexdigest()),
        None,
    ],
)
def test_a_file_is_found_by_whatever_is_known_of_it(store, artifact, digest):
    wanted = artifact(b"weights", digest=digest)
    path = store.add([b"weights"], wanted, "https://example.org/w")
    assert store.find(wanted, "https://example.org/w") == path
    path.write_bytes(b"WEIGHTS")
    assert store.find(wanted, "https://example.org/w") is None


def test_a_digest_that_is_no_hash_finds_nothing_outside_the_store(store, artifact):
    store.add([b"weights"], artifact(b"weights"), "file:///w")
    for value in ("../../../etc/passwd", "*", ""):
        wanted = artifact(b"weights", digest=Digest(algorithm="sha256", value=value, prefix=True))
        assert store.find(wanted) is None


def test_keys_of_any_kind_have_locks_of_their_own(store):
    keys = ["a/b", "a-b", "../x", "https://me:secret@host/w", "ä" * 300]
    names = set()
    for key in keys:
        with store.lock(key):
            names |= {path.name for path in (store.home / "locks").iterdir()}
    assert len(names) == len(keys)
    assert not any("secret" in name for name in names)
    assert list((store.home / "locks").iterdir()) == []  # none is left behind


def test_a_lock_keeps_another_process_out(store, tmp_path):
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from hub_client.store import Store
        with Store(Path(sys.argv[1])).lock("k"):
            print("in", flush=True)
        """
    )
    with store.lock("k"):
        other = subprocess.Popen(
            [sys.executable, "-c", program, str(store.home)], stdout=subprocess.PIPE, text=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=0.7)
    assert other.communicate(timeout=20)[0] == "in\n"


def test_a_home_that_cannot_be_written_is_said_so(tmp_path, artifact):
    (tmp_path / "file").write_text("no folder")
    store = Store(tmp_path / "file" / "home")
    assert store.find(artifact(b"weights")) is None
    with pytest.raises(StorageError, match="cannot be written") as caught:
        store.add([b"weights"], artifact(b"weights"), "file:///w")
    assert "TLHUB_HOME" in caught.value.hint
