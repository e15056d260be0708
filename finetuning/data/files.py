"""The files of a folder or an archive, by name, as readers see them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from catalog.errors import DataError
from finetuning.data.dataset import Skipped, Stored, bytes_of, printable

Content = Path | Stored


@dataclass(frozen=True)
class Files:
    """Plain files that are not hidden, sorted; their names have `/` between their parts."""

    root: Path  # the folder, or the archive
    found: Mapping[str, Content]
    folders: frozenset[str]
    skipped: tuple[Skipped, ...] = ()

    def top(self) -> tuple[list[str], list[str]]:
        """The names of the folders and of the files that lie in no folder."""
        above = {name.split("/", 1)[0] for name in self.found if "/" in name}
        folders = above | {name for name in self.folders if "/" not in name}
        return sorted(folders), [name for name in self.found if "/" not in name]

    def inside(self) -> Files:
        """The same without the folders that hold all of it, as archives often have one."""
        folders, files = self.top()
        if len(folders) != 1 or files:
            return self
        prefix = folders[0] + "/"
        below = replace(
            self,
            found={name.removeprefix(prefix): item for name, item in self.found.items()},
            folders=frozenset(
                name.removeprefix(prefix) for name in self.folders if name.startswith(prefix)
            ),
        )
        return below.inside()


def of_folder(root: Path) -> Files:
    """What lies under ``root``; links are followed, each folder is entered once.

    Raises:
        DataError: there is no such folder, or one in it cannot be listed.
    """
    if not root.is_dir():
        seen = "is a file" if root.exists() else "does not exist"
        raise DataError(
            f"the data folder {root} {seen}",
            hint="give a folder of class folders, a table or an archive",
        )
    found: dict[str, Content] = {}
    folders: set[str] = set()
    skipped: list[Skipped] = []
    entered: set[tuple[int, int]] = set()
    todo = [("", root)]
    with reading(root):
        while todo:
            prefix, folder = todo.pop()
            entered.add(_identity(folder))
            for entry in _entries(folder):
                name = prefix + entry.name
                if hidden(name):
                    skipped.append(Skipped(printable(name), "hidden"))
                elif entry.is_file():
                    found[name] = Path(entry.path)
                elif not entry.is_dir():
                    skipped.append(Skipped(printable(name), "not a regular file"))
                elif entry.is_symlink() and _identity(Path(entry.path)) in entered:
                    skipped.append(Skipped(printable(name), "a link to a folder that is here"))
                else:
                    folders.add(name)
                    todo.append((name + "/", Path(entry.path)))
    return Files(root, ordered(found), frozenset(folders), tuple(skipped))


def ordered(found: Mapping[str, Content]) -> dict[str, Content]:
    """Folder by folder, in the order of their names."""
    return dict(sorted(found.items(), key=lambda item: item[0].split("/")))


def hidden(name: str) -> bool:
    """Whether a file of this name is no data: a dot file, or what macOS puts into archives."""
    last = name.rsplit("/", 1)[-1]
    return last.startswith(".") or last == "__MACOSX"


def suffix(name: str) -> str:
    """The ending of a name in lower case, with its dot."""
    return PurePosixPath(name).suffix.lower()


def read_bytes(content: Content) -> bytes:
    """All bytes of a file, wherever it is.

    Raises:
        NotFoundError, DataError: it cannot be read.
    """
    return bytes_of(content) if isinstance(content, Path) else content.read()


@contextmanager
def reading(root: Path) -> Iterator[None]:
    """Turn an `OSError` while data are listed into a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or root} cannot be read: {error.strerror or error}",
            hint="check who may read it",
        ) from error


def _entries(folder: Path) -> Iterable[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
