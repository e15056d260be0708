"""Owners keep each other out, whatever the disk can do."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from catalog.errors import StorageError
from catalog.locks import lock_file
from hub_client import locks, usage
from hub_client.locks import Locks, holding
from tlhub import keeping, pulling
from tlhub.settings import Settings

PROGRAM = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from hub_client.locks import Locks, holding
    with holding(Path(sys.argv[1]), Locks(sys.argv[2])):
        print("in", flush=True)
        time.sleep(float(sys.argv[3]))
    """
)


def owner(path, how: Locks, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(path), how, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", [Locks.flock, Locks.soft])
def test_one_at_a_time_and_nothing_is_left(tmp_path, how):
    path, inside, most = tmp_path / "locks" / "k", [0], [0]

    def work():
        for _ in range(3):
            with holding(path, how):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.005)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("how", [Locks.flock, Locks.soft])
def test_another_process_waits_until_the_owner_is_done(tmp_path, how):
    path = tmp_path / "k"
    with holding(path, how):
        other = owner(path, how, 0)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=0.6)
    assert other.communicate(timeout=20)[0] == "in\n"


@pytest.mark.parametrize("how", [Locks.flock, Locks.soft])
def test_what_a_killed_owner_held_is_free_again(tmp_path, monkeypatch, how):
    monkeypatch.setattr(locks, "_DEAD_S", 0.3)
    path = tmp_path / "k"
    dead = owner(path, how, 60)
    assert dead.stdout.readline() == "in\n"
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    with holding(path, how):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_soft_owner_that_is_alive_is_never_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_DEAD_S", 0.4)
    monkeypatch.setattr(locks, "_BEAT_S", 0.05)
    path, events = tmp_path / "k", []

    def wait():
        with holding(path, Locks.soft):
            events.append("other")

    with holding(path, Locks.soft):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(1.0)
        events.append("owner")
    thread.join()
    assert events == ["owner", "other"]


def test_none_keeps_nobody_out(tmp_path):
    with holding(tmp_path / "k", Locks.none), holding(tmp_path / "k", Locks.none):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks_is_enough_where_owner_files_are_asked_for(
    tmp_path, monkeypatch, code
):
    def flock(*_):
        raise OSError(code, "no locks")

    monkeypatch.setattr("fcntl.flock", flock)
    (tmp_path / "w.bin").write_bytes(b"abc")
    settings = Settings(home=tmp_path / "home", offline=False, locks="soft")
    options = pulling.Options(format="original")
    folder = pulling.pull(pulling.plan((tmp_path / "w.bin").as_uri(), settings, options), settings)
    folder.verify()
    usage.join(settings.home)
    other = settings.home / "running" / "1.other"
    with lock_file(other):
        assert not usage.is_free(other)
    assert usage.is_free(other)
    assert keeping.rm([folder.manifest.uid], settings).removed
    assert not folder.path.exists()


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"), holding(tmp_path / "file" / "k"):
        pass
