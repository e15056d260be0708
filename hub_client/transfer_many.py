"""Many files at once: a few threads share the connections, and one flush does for many files."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from catalog.disk import flush_all, writing
from catalog.errors import StorageError, TlhubError
from hub_client.network import Http, StoppedError
from hub_client.partial import remove_partial
from hub_client.patience import Patience
from hub_client.progress import Progress, silent
from hub_client.transfer import Received, Wish, download, download_small

_FLUSHED_TOGETHER, _FLUSH_S = 1024, 1.0  # files at most, and time between two flushes
_LOOK_S = 0.1
_LEAVE_S = 2.0  # for threads to end; only one that waits for a connection to be made needs more

Outcome = tuple[Wish, Received | TlhubError]
"""What came of a wish."""


class _Job:
    """What the threads share."""

    def __init__(self, wishes: Sequence[tuple[Wish, Path]], http: Http, patience: Patience) -> None:
        self.http, self.patience = http, patience
        self.waiting: queue.SimpleQueue[tuple[Wish, Path]] = queue.SimpleQueue()
        for pair in wishes:
            self.waiting.put(pair)
        self.done: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
        self.stopped = False
        self.under_way: dict[int, int] = {}  # bytes of the file each thread is at
        self.sizes = {id(wish): wish.size_bytes for wish, _ in wishes}  # as they become known

    def work(self) -> None:
        """Fetch one file after the other."""
        me = threading.get_ident()
        wish: Wish | None = None

        def tell(_label: str, done: int, total: int | None) -> None:
            if self.stopped:
                raise StoppedError
            self.under_way[me] = done
            self.sizes[id(wish)] = total

        while not self.stopped:
            try:
                wish, path = self.waiting.get_nowait()
                self.done.put((wish, self._fetch(wish, path, tell)))
            except (queue.Empty, StoppedError):
                return
            except BaseException as error:
                self.done.put(error)
                return
            finally:
                self.under_way[me] = 0

    def next(self) -> Outcome | None:
        """What came of another wish; None where nothing did for a moment."""
        try:
            outcome = self.done.get(timeout=_LOOK_S)
        except queue.Empty:
            return None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _fetch(self, wish: Wish, path: Path, tell: Progress) -> Received | TlhubError:
        try:
            if wish.small:
                with self.http.lanes:
                    return download_small(wish, path, self.http, patience=self.patience)
            return download(wish, path, self.http, progress=tell, patience=self.patience)
        except StorageError:
            raise
        except TlhubError as error:
            return error


def download_many(
    wishes: Sequence[tuple[Wish, Path]],
    http: Http,
    *,
    progress: Progress = silent,
    patience: Patience | None = None,
) -> Iterator[Outcome]:
    """Bring each wish to the path beside it; what came of each, in any order, as it is ready.

    The paths are the caller's own and on one file system. A file that is yielded is verified and
    flushed, and waits at its path for its new name. One that fails does not stop the others.
    ``progress`` is told of all files as one, in the caller's thread.

    Raises:
        StorageError: there is no room for more; what was yielded before is whole.
    """
    if not wishes:
        return
    job = _Job(wishes, http, patience or Patience())
    count = min(http.connections, len(wishes))
    threads = [threading.Thread(target=job.work, name="pull", daemon=True) for _ in range(count)]
    label = f"{len(wishes)} files" if len(wishes) > 1 else wishes[0][0].label
    total = _Total(job, label, progress)
    for thread in threads:
        thread.start()
    batch: list[tuple[Wish, Received]] = []
    left, flushed_at = len(wishes), time.monotonic()
    try:
        while left:
            outcome = job.next()
            if outcome is not None:
                left -= 1
                total.add(outcome)
                wish, result = outcome
                if wish.small and isinstance(result, Received):
                    batch.append((wish, result))
                else:
                    yield outcome
            total.tell()
            due = time.monotonic() > flushed_at + _FLUSH_S
            if outcome is None or due or len(batch) >= _FLUSHED_TOGETHER or not left:
                yield from _flushed(batch)
                flushed_at = time.monotonic()
        total.tell(last=True)
    except BaseException:  # Ctrl-C, a full disk: nobody waits for what is under way
        http.stop()
        raise
    finally:
        job.stopped = True
        for thread in threads:
            thread.join(_LEAVE_S)
        for _, received in batch:
            remove_partial(received.path)


def _flushed(batch: list[tuple[Wish, Received]]) -> Iterator[Outcome]:
    """All of ``batch``, which is emptied, once it is on the disk."""
    if batch:
        with writing(batch[0][1].path):
            flush_all([received.path for _, received in batch])
    while batch:
        yield batch.pop()


class _Total:
    """The sum of all files, told now and then."""

    def __init__(self, job: _Job, label: str, progress: Progress) -> None:
        self._job, self._label, self._progress = job, label, progress
        self._done = self._told = 0
        self._tell_at = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count a file that is done; one that failed counts as nothing."""
        wish, result = outcome
        size = result.size_bytes if isinstance(result, Received) else 0
        self._job.sizes[id(wish)] = size
        self._done += size

    def tell(self, *, last: bool = False) -> None:
        """Say how far all of it is; never less than before."""
        now = time.monotonic()
        if now < self._tell_at and not last:
            return
        self._tell_at = now + _LOOK_S
        sizes = list(self._job.sizes.values())
        total = None if None in sizes else sum(size or 0 for size in sizes)
        under_way = 0 if last else sum(list(self._job.under_way.values()))
        self._told = max(self._told, self._done + under_way)
        self._progress(self._label, self._told, total)
