"""The store under TLHUB_HOME: files by the hash of their content, safe for many processes.

blobs/sha256/ab/<hex>   a whole, verified file
refs/<algorithm>/<hex>  the SHA-256 of the file whose hash in another algorithm is this
refs/url/<hex>          the SHA-256 of what a URL without a digest gave
models/                 converted model folders
tmp/                    partial files, each with a sidecar
locks/                  a file for each key that is owned at the moment
running/                markers of the processes that use it (`hub_client.usage`)
lockfiles/              where `tlhub.lock` files are (`hub_client.lockfile`)
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from catalog.disk import check_space, flush_all, reading, writing
from catalog.errors import IntegrityError
from catalog.record import Artifact
from hub_client.digests import Hasher, hash_file
from hub_client.locks import Locks, holding
from hub_client.partial import move_partial, outdated, own_path, remove_partial
from hub_client.progress import Progress, silent
from hub_client.usage import owning, use

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """Content-addressed files in one folder; nothing is created before it is needed."""

    home: Path
    locks: Locks = Locks.flock

    @property
    def models(self) -> Path:
        """The folder of converted models."""
        return self.home / "models"

    @property
    def tmp(self) -> Path:
        """The folder of partial files, on the disk of the blobs."""
        return self.home / "tmp"

    def blob(self, sha256: str) -> Path:
        """Where the file of this hash is, or would be."""
        return self.home / "blobs" / "sha256" / sha256[:2] / sha256

    def find(self, artifact: Artifact, url: str | None = None) -> Path | None:
        """The file of this artifact, every byte hashed again; None if it is not here or damaged.

        Without a digest the artifact is what ``url`` gave the first time.
        """
        for sha256 in self._candidates(artifact, url):
            path = self.blob(sha256)
            if not path.is_file() or not use(self.home, path):
                continue
            if artifact.size_bytes is not None and path.stat().st_size != artifact.size_bytes:
                log.warning("%s has not the %d bytes it should have", path, artifact.size_bytes)
                continue
            with reading(path):
                hasher = hash_file(path, artifact.digest)
            if hasher.sha256 == sha256 and hasher.matches:
                return path
            log.warning("%s is damaged: its sha256 is %s", path, hasher.sha256)
        return None

    def adopt(self, file: Path, sha256: str, artifact: Artifact, url: str) -> Path:
        """Move a whole, verified, flushed file from `tmp` to its place; a damaged one gives way."""
        return self.adopt_all([(file, sha256, artifact, url)])[artifact.path]

    def adopt_all(self, files: Iterable[tuple[Path, str, Artifact, str]]) -> dict[str, Path]:
        """As `adopt`, many at once, by the path of their artifacts."""
        places: dict[str, Path] = {}
        refs: list[tuple[Path, str]] = []
        for file, sha256, artifact, url in files:
            path = places[artifact.path] = self.blob(sha256)
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                move_partial(file, path)
            use(self.home, path)  # so that it is not pruned while this process needs it
            ref = self._ref(artifact, url)
            if ref is not None:
                refs.append((ref, sha256))
        with writing(self.home):
            flush_all(list({path.parent for path in places.values()}))
        for ref, sha256 in refs:
            with writing(ref):
                ref.parent.mkdir(parents=True, exist_ok=True)
                fresh = own_path(self.tmp)  # where it is swept if we are killed
                self.tmp.mkdir(parents=True, exist_ok=True)
                fresh.write_text(sha256, encoding="ascii")
                fresh.replace(ref)
        return places

    def check_space(self, needed_bytes: int) -> None:
        """Raise a `StorageError` where so many bytes more do not fit."""
        with writing(self.tmp):
            self.tmp.mkdir(parents=True, exist_ok=True)
            check_space(self.tmp, needed_bytes)

    def add(
        self,
        chunks: Iterable[bytes],
        artifact: Artifact,
        url: str,
        *,
        progress: Progress = silent,
    ) -> Path:
        """Write bytes that are at hand (a member of an archive, a local file) as a blob.

        Raises:
            IntegrityError: they are not the bytes of the artifact; nothing is kept.
            StorageError: they cannot be written; nothing is kept.
        """
        key = artifact.digest.value if artifact.digest is not None else url
        git = artifact.digest is not None and artifact.digest.algorithm == "git-sha1"
        hasher = Hasher(None if git else artifact.digest)
        with self.partial(f"add-{key}") as path:
            try:
                with writing(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    file = path.open("wb")
                with contextlib.closing(file):
                    for chunk in chunks:
                        with writing(path):
                            file.write(chunk)
                        hasher.update(chunk)
                        progress(artifact.path, hasher.size_bytes, artifact.size_bytes)
                    with writing(path):
                        file.flush()
                        os.fsync(file.fileno())
                    if git:  # its hash begins with the size
                        with reading(path):
                            hasher = hash_file(path, artifact.digest)
                    wrong_size = artifact.size_bytes not in {None, hasher.size_bytes}
                    if wrong_size or not hasher.matches:
                        size = f", {artifact.size_bytes} bytes" if artifact.size_bytes else ""
                        raise IntegrityError(
                            f"{artifact.path} from {url}: {hasher.mismatch()}{size} wanted; "
                            "nothing was kept",
                            hint="the source was changed or tampered with; report it to its "
                            "publisher",
                        )
                return self.adopt(path, hasher.sha256, artifact, url)
            finally:
                remove_partial(path)

    @contextlib.contextmanager
    def partial(self, key: str) -> Iterator[Path]:
        """The one place for the partial file of ``key``, owned until the end of the block."""
        with self.lock(key):
            yield self.tmp / f"{file_name(key)}.part"

    def drop_outdated(self, brought: Callable[[str], bool]) -> None:
        """Remove partials of URLs whose files are here by now, unless somebody is at them."""
        for part in outdated(self.tmp, brought):
            lock = self.home / "locks" / f"{part.name.removesuffix('.part')}.lock"
            if self.locks is not Locks.soft:
                with contextlib.suppress(OSError), owning(lock) as free:
                    if free:
                        remove_partial(part)
                        lock.unlink()

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Keep every other process out of ``key``; waits for as long as another one is in."""
        with holding(self.home / "locks" / f"{file_name(key)}.lock", self.locks):
            yield

    def _candidates(self, artifact: Artifact, url: str | None) -> list[str]:
        digest = artifact.digest
        if digest is not None and digest.algorithm == "sha256":
            value = digest.value.lower()
            if not re.fullmatch(r"[0-9a-f]{2,64}", value):
                return []
            if not digest.prefix:
                return [value]
            return sorted(p.name for p in self.blob(value).parent.glob(f"{value}*"))
        ref = self._ref(artifact, url)
        try:
            text = ref.read_text(encoding="ascii") if ref is not None else ""
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [text] if re.fullmatch(r"[0-9a-f]{64}", text) else []

    def _ref(self, artifact: Artifact, url: str | None) -> Path | None:
        """Where the SHA-256 is noted of a file that is not asked for by it."""
        digest = artifact.digest
        if digest is None:
            if url is None:
                return None
            return self.home / "refs" / "url" / hashlib.sha256(url.encode()).hexdigest()
        if digest.algorithm == "sha256":
            return None
        return self.home / "refs" / digest.algorithm / file_name(digest.value)


def file_name(key: str) -> str:
    """A file name for any key: readable, and distinct for distinct keys."""
    readable = re.sub(r"[^\w.=-]+", "-", key.rpartition("@")[2])[:48].strip("-.")
    return f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
