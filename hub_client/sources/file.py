"""`file:///…`: files and folders of this machine, copied into the store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.request import url2pathname

import msgspec

from catalog.errors import AccessError, NotFoundError, UnsafeError, UsageError
from catalog.record import Artifact
from hub_client.network import split_url
from hub_client.sources.single import single, stated_digest
from hub_client.sources.source import Job, Place, Wanted

_CHUNK_BYTES = 1 << 20


class FileSource:
    """Files by their path."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def resolve(self, url: str, *, offline: bool = False) -> Place:  # noqa: ARG002 -- it is here
        """The file, or all files of the folder but for hidden ones."""
        path = path_of(url).absolute()
        if not path.is_dir():
            with user_file(path):
                size = path.stat().st_size
            stated = stated_digest(url)
            return Place(path.as_uri(), (single(path.name, path.as_uri(), stated, size),))
        with user_file(path):
            found = [_inside(path, file) for file in _plain_files(path)]
        if not found:
            raise NotFoundError(f"{path} holds no files")
        return Place(path.as_uri(), tuple(found))

    def find(self, wanted: Wanted) -> Path | None:
        """The file in the store; without a digest the original is read again each time."""
        if wanted.artifact.digest is None:
            return None
        return self._job.store.find(wanted.artifact, wanted.url)

    def group(self, url: str) -> str:
        """The URL itself."""
        return url

    def bring(self, wanted: Sequence[Wanted]) -> dict[str, Path]:
        """Copy into the store."""
        return {item.artifact.path: self._bring(item) for item in wanted}

    def _bring(self, item: Wanted) -> Path:
        path, store = path_of(item.url), self._job.store
        with user_file(path):
            store.check_space(path.stat().st_size)
        return store.add(chunks_of(path), item.artifact, item.url, progress=self._job.progress)

    def close(self) -> None:
        """Nothing is open."""


def _plain_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )


def _inside(folder: Path, file: Path) -> Artifact:
    name = file.relative_to(folder).as_posix()
    if "\\" in name:
        raise UnsafeError(f"{file} has a name that other systems read as a path")
    artifact = single(file.name, file.as_uri(), None, file.stat().st_size)
    return msgspec.structs.replace(artifact, path=name)


def path_of(url: str) -> Path:
    """The path a `file:` URL names.

    Raises:
        UsageError: it names another machine.
    """
    parts = split_url(url)
    if parts.netloc not in {"", "localhost"} and os.name != "nt":
        raise UsageError(
            f"{url} names the machine {parts.netloc}", hint=f"write file:///{parts.netloc}/..."
        )
    return Path(url2pathname(parts.path))


@contextlib.contextmanager
def user_file(path: Path) -> Iterator[None]:
    """Say what is wrong with a file of the user that cannot be read.

    Raises:
        NotFoundError: it is not there, or no file.
        AccessError: it may not be read.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no file {path}") from error
    except PermissionError as error:
        raise AccessError(f"{path} cannot be read: {error.strerror}") from error


def chunks_of(path: Path) -> Iterator[bytes]:
    """The bytes of a local file, a piece at a time."""
    with user_file(path), path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
