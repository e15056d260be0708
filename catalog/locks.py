"""Lock files for moments, of the kind that the disk they are on can do.

Here since every layer has some: the index, the store, model folders.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

_NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def lock_file(
    path: Path, *, timeout_s: float = -1, poll_s: float = 0.05, mode: int = 0o644
) -> BaseFileLock:
    """A lock at ``path``, whose folder exists: the system's, or on a disk without a marker file.

    A marker is taken over when its process is gone, if that was on this machine.
    """
    from filelock import FileLock, SoftFileLock

    kind = FileLock if _can_flock(path.parent) else SoftFileLock
    return kind(path, timeout=timeout_s, poll_interval=poll_s, mode=mode)


@functools.cache
def _can_flock(folder: Path) -> bool:
    """Whether the disk of ``folder`` has locks; tried with a file that is nobody else's."""
    if sys.platform == "win32":
        return True
    import fcntl

    probe = folder / f".{os.urandom(8).hex()}.probe"
    try:
        descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return True  # whoever takes the lock will be told
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_FLOCK
    else:
        return True
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            probe.unlink()
