"""The Hugging Face cache of one repository, as `huggingface_hub` lays it out.

blobs/<etag>               the files, by SHA-256 (LFS) or by git's SHA-1
snapshots/<commit>/<path>  links to them; copies where links cannot be made
refs/<revision>            the commit a branch or tag pointed at
../.locks/<repo>/<etag>    held while a blob is made, by them and by us
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from catalog.disk import flush, replacing, writing
from catalog.locks import lock_file
from hub_client.partial import move_partial, outdated, remove_partial
from hub_client.usage import owning

PARTIAL = "tlhub-part"  # what is added to the name of a blob that is on its way


@dataclass(frozen=True)
class RepoCache:
    """One repository in the cache at ``root``; nothing is created before it is needed."""

    root: Path
    repo: str

    @cached_property
    def folder(self) -> Path:
        """Where all of it is."""
        return self.root / "--".join(("models", *self.repo.split("/")))

    @cached_property
    def blobs(self) -> Path:
        """The folder of the files themselves."""
        return self.folder / "blobs"

    def pointer(self, commit: str, path: str) -> Path:
        """Where a file is at a commit."""
        return self.folder / "snapshots" / commit / path

    def commit_of(self, revision: str) -> str | None:
        """The commit that a branch or tag pointed at when it was last asked."""
        with contextlib.suppress(OSError):
            return (self.folder / "refs" / revision).read_text(encoding="ascii").strip() or None
        return None

    def entries(self, commit: str) -> list[tuple[str, str, int]]:
        """Path, etag and size in bytes of what is here of a commit, but for copies."""
        top = self.folder / "snapshots" / commit
        files = sorted(path for path in top.rglob("*") if path.is_file())
        return [
            (path.relative_to(top).as_posix(), path.readlink().name, path.stat().st_size)
            for path in files
            if path.is_symlink()
        ]

    def prepare(self) -> None:
        """Make the folders, and mark the cache for what makes backups, as `huggingface_hub` does.

        Source: https://bford.info/cachedir/
        """
        with writing(self.blobs):
            self.blobs.mkdir(parents=True, exist_ok=True)
            tag = self.root / "CACHEDIR.TAG"
            if not tag.exists():
                tag.write_text("Signature: 8a477f597d28d172789f06886806bc55\n", encoding="ascii")

    @contextlib.contextmanager
    def locked(self, etags: Iterable[str]) -> Iterator[None]:
        """Keep `huggingface_hub` and other processes of ours from making these blobs."""
        folder = self.root / ".locks" / self.folder.name
        with contextlib.ExitStack() as held:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                for etag in sorted(set(etags)):  # in one order, so that no two wait for each other
                    held.enter_context(lock_file(folder / f"{etag}.lock", mode=0o664))
            yield

    def drop_outdated(self, brought: Callable[[str], bool]) -> None:
        """Remove partials of URLs whose files are here by now, unless somebody is at them."""
        for part in outdated(self.blobs, brought):
            etag = part.name.removesuffix(f".{PARTIAL}")
            lock = self.root / ".locks" / self.folder.name / f"{etag}.lock"
            with contextlib.suppress(OSError, NotImplementedError), owning(lock) as free:
                if free:
                    remove_partial(part)

    def adopt(self, file: Path, etag: str) -> Path:
        """Move a verified, flushed file from ``blobs`` to its name."""
        blob = self.blobs / etag
        with writing(blob):
            move_partial(file, blob)
        return blob

    def point(self, commit: str, path: str, etag: str) -> Path:
        """The file at a commit, linked to its blob; a copy where links cannot be made."""
        blob, pointer = self.blobs / etag, self.pointer(commit, path)
        target = "../" * (2 + path.count("/")) + f"blobs/{etag}"
        with writing(pointer):
            pointer.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            pointer.symlink_to(target)
            return pointer
        with contextlib.suppress(OSError):
            if str(pointer.readlink()) == target:
                return pointer
        with writing(pointer):
            fresh = pointer.with_name(f".{pointer.name[:200]}.{os.urandom(6).hex()}")
            try:
                try:
                    fresh.symlink_to(target)
                except OSError:  # Windows, and some file systems
                    shutil.copyfile(blob, fresh)
                    flush(fresh)
                fresh.replace(pointer)
            finally:
                fresh.unlink(missing_ok=True)
        return pointer

    def settle(self) -> None:
        """Bring the names of the blobs to the disk."""
        with writing(self.blobs):
            flush(self.blobs)

    def note(self, revision: str, commit: str) -> None:
        """Remember what a branch or tag points at, so that it is found offline by its name."""
        if revision == commit or self.commit_of(revision) == commit:
            return
        ref = self.folder / "refs" / revision
        with writing(ref):
            ref.parent.mkdir(parents=True, exist_ok=True)
        with replacing(ref) as stream:
            stream.write(commit.encode("ascii"))
