"""What the operating system says while we write, in words a user can act on."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from catalog.errors import StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError` while ``path`` is written into a `StorageError`."""
    try:
        with filling(path):
            yield
    except OSError as error:
        raise StorageError(
            f"{error.filename or path} cannot be written: {error.strerror or error}",
            hint="choose a folder that can be written (TLHUB_HOME is where models are kept)",
        ) from error


@contextlib.contextmanager
def filling(path: Path) -> Iterator[None]:
    """Turn a full disk while ``path`` is written into a `StorageError`, and nothing else."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageError(
            f"no space left to write {path}: {error.strerror}",
            hint="free some space, or use another disk (TLHUB_HOME is where models are kept)",
        ) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose bytes become the file at ``path`` when the block ends well.

    After any failure, kill -9 included, ``path`` is what it was before.

    Raises:
        StorageError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    with writing(path):
        try:
            with fresh.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(path)
        except OSError as error:
            if error.filename == str(fresh):  # a name that means nothing to anybody
                error.filename = str(path)
            raise
        finally:
            fresh.unlink(missing_ok=True)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an `OSError` while our own file ``path`` is read into a `StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="look at its permissions and at the disk, or remove it and run this again",
        ) from error


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise a `StorageError` where ``needed_bytes`` do not fit on the disk of ``folder``."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise StorageError(
            f"{folder} has {free / 1e6:.1f} MB free, {needed_bytes / 1e6:.1f} MB are needed",
            hint="free some space, or set TLHUB_HOME to a folder on another disk",
        )


def flush(path: Path) -> None:
    """Bring a file or the entries of a folder to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a directory to flush it
        return
    # Windows flushes only what is open for writing.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_all(paths: Sequence[Path]) -> None:
    """Bring many files or folders of one file system to the disk.

    Linux: syncfs(2), one call for all of them, which says if a write went wrong since Linux 5.8.
    """
    if len(paths) > 8 and sys.platform == "linux":
        import ctypes

        descriptor = os.open(paths[0], os.O_RDONLY)
        try:
            library = ctypes.CDLL(None, use_errno=True)
            if library.syncfs(descriptor) == 0:
                return
            code = ctypes.get_errno()
            if code != errno.ENOSYS:
                raise OSError(code, os.strerror(code), str(paths[0]))
        finally:
            os.close(descriptor)
    for path in paths:
        flush(path)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or its file system cannot.

    Linux: renameat2(2) with RENAME_EXCHANGE; macOS: renamex_np(2) with RENAME_SWAP.
    """
    if sys.platform == "win32":
        return False
    import ctypes  # here: the search index imports this module at every start

    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        return bool(library.renamex_np(*names, 2) == 0)
    if not hasattr(library, "renameat2"):
        return False
    here = -100  # AT_FDCWD
    return bool(library.renameat2(here, names[0], here, names[1], 2) == 0)
