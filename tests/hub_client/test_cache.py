from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import pytest

from hub_client import cache, usage


@pytest.fixture
def old(store, artifact):
    """Makes a blob that was last used ten days ago."""

    def make(body=b"weights"):
        path = store.add([body], artifact(body), "file:///w")
        long_ago = time.time() - 10 * 86400
        os.utime(path, (long_ago, long_ago))
        return path

    return make


@pytest.fixture
def other(store):
    """Another process that does what it is told with the store, until it is killed."""
    begun = []

    def run(program):
        head = "import sys, time; from pathlib import Path; from hub_client.store import Store\n"
        head += f"store = Store(Path({str(store.home)!r}))\n"
        code = head + textwrap.dedent(program) + "\nprint('ready', flush=True); time.sleep(60)"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in begun:
        process.kill()
        process.communicate()


def item_of(store, path):
    (found,) = [item for item in cache.blobs(store) if item.path == path]
    return found


def test_a_blob_that_is_found_is_stamped_as_used(store, artifact, old):
    path = old()
    assert store.find(artifact(b"weights")) == path
    assert time.time() - path.stat().st_mtime < 60


def test_what_another_process_uses_is_not_removed_until_it_is_killed(store, old, other):
    path = old()
    item = item_of(store, path)
    process = other(
        f"""
        from catalog.record import Artifact, Digest
        digest = Digest(algorithm="sha256", value={path.name!r})
        assert store.find(Artifact(path="w", format="x", urls=(), digest=digest))
        """
    )
    assert not cache.remove(store, item)  # used since it was listed
    assert not cache.remove(store, item_of(store, path))
    assert [p.pid for p in usage.running(store.home)] == [process.pid]
    process.kill()
    process.wait()
    assert cache.remove(store, item_of(store, path))
    assert not path.exists()
    assert usage.running(store.home) == []


def test_what_another_process_fetched_is_its_own_however_old(store, artifact, other):
    other(
        """
        import os
        from catalog.record import Artifact
        made = store.tmp / "x.part"
        made.parent.mkdir(parents=True)
        made.write_bytes(b"weights")
        os.utime(made, (0, 0))  # as a transfer that another process finished
        store.adopt(made, "0" * 64, Artifact(path="w", format="x", urls=()), "https://a.example/w")
        """
    )
    (item,) = cache.blobs(store)
    assert not cache.remove(store, item)


def test_what_another_process_did_not_use_is_removed_beside_it(store, old, other):
    path = old()
    other("from hub_client import usage; usage.join(store.home)")
    assert cache.remove(store, item_of(store, path))


def test_a_process_that_ends_takes_its_marker_with_it(store):
    code = (
        "import sys, pathlib; from hub_client import usage; usage.join(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(store.home)], check=True)
    assert list((store.home / "running").iterdir()) == []


def test_a_partial_is_left_to_its_owner_and_to_who_may_resume_it(store, artifact, other):
    with store.partial("mine") as path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
        assert list(cache.leftovers(store, ())) == []
    assert [item.path for item in cache.leftovers(store, ())] == [path]
    os.utime(path)
    assert list(cache.leftovers(store, ())) == []
    assert [item.path for item in cache.leftovers(store, (), idle_s=0)] == [path]


def test_a_folder_goes_in_one_step(store, tmp_path):
    folder = store.models / "m"
    (folder / "deep").mkdir(parents=True)
    for n in range(2000):
        (folder / "deep" / str(n)).write_bytes(b"x" * 100)
    (item,) = cache.folders("model", store.models)
    assert item.size_bytes == 200_000
    code = textwrap.dedent(
        f"""
        import os, shutil
        from pathlib import Path
        from hub_client import cache
        from hub_client.store import Store
        store = Store(Path({str(store.home)!r}))
        real, seen = os.unlink, []
        def unlink(*a, **k):  # dies half way
            seen.append(a)
            if len(seen) == 1000: os.kill(os.getpid(), 9)
            return real(*a, **k)
        os.unlink = unlink
        (item,) = cache.folders("model", store.models)
        cache.remove(store, item)
        """
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert not folder.exists()
    assert list(cache.folders("model", store.models)) == []
    (left,) = cache.leftovers(store, [store.models])
    assert 0 < left.size_bytes < 200_000
    assert cache.remove(store, left)
    assert list(store.models.iterdir()) == []


def test_notes_on_blobs_that_are_gone_are_forgotten(store, artifact, old):
    wanted = artifact(b"weights", digest=None)
    store.add([b"weights"], wanted, "https://example.org/w")
    assert cache.forget_refs(store) == 0
    assert cache.hashes(store, artifact(b"weights", "https://example.org/w", digest=None))
    (path,) = [item.path for item in cache.blobs(store)]
    path.unlink()
    assert cache.forget_refs(store) == 1
