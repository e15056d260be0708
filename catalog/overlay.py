"""The user's own catalog, beside the one that ships: one SQLite file of records.

It holds what `tlhub catalog sync` found and what `tlhub catalog add` was given. Whatever is
written, records and the place where a sync stopped, is one transaction: after kill -9 the file is
what it was before or after, never in between. It keeps a rollback journal and no write-ahead log,
which network homes and read-only ones cannot share.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from catalog.errors import IntegrityError, StorageError, UsageError
from catalog.record import ModelRecord, encode

if TYPE_CHECKING:
    import sqlite3  # imported where it is needed: every search looks whether there is an overlay

Origin = Literal["hf", "own"]

_APPLICATION = 0x746C6875  # "tlhu": tells our file from other SQLite files
_FORMAT = 1
_ID = "id"  # the cursor that tells one file from another
_WAIT_S = 30.0  # for another process to finish a transaction
_CHUNK = 1000
_TABLES = """
CREATE TABLE records (
    uid TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    origin TEXT NOT NULL,
    record BLOB
) WITHOUT ROWID;
CREATE INDEX records_by_version ON records (version, uid);
CREATE TABLE cursors (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_NAMED = "INSERT OR IGNORE INTO cursors VALUES (?, lower(hex(randomblob(8))))"


@dataclass(frozen=True)
class Changes:
    """How many records a `put` brought."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0


class Overlay:
    """The records in one file, each with the version at which it last changed.

    Raises (every method, where the file is there):
        IntegrityError: it is damaged, or no catalog of tlhub's.
        StorageError: it cannot be read or written, or another process does not let go of it.
        UsageError: it is of a newer tlhub.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> Overlay:
        """The overlay at ``path``; one that is not there is empty, and is made by a `put`."""
        return cls(path)

    @property
    def version(self) -> int:
        """It grows by every change; 0 where nothing was ever put."""
        with self._reading() as database:
            return _version(database) if database is not None else 0

    @property
    def id(self) -> str:
        """What no other file has; of one from an older tlhub its inode, until it is written."""
        return self.cursor(_ID) or f"{self.path.stat().st_ino:x}"

    def changes(self, since: int = 0) -> Iterator[tuple[str, bytes | None]]:
        """Uid and JSON (None: it was removed) of each record changed after version ``since``.

        What changes while one iterates may come with the next call instead.
        """
        latest, after = self.version, (since + 1, "")
        while rows := self._rows(
            "SELECT version, uid, record FROM records WHERE (version, uid) > (?, ?)"
            " AND version <= ? ORDER BY version, uid LIMIT ?",
            *(*after, latest, _CHUNK),
        ):
            for _, uid, record in rows:
                yield uid, record
            after = rows[-1][:2]

    def get(self, uid: str) -> bytes | None:
        """The JSON of a record; None where there is none."""
        found = self._rows("SELECT record FROM records WHERE uid = ?", uid)
        return found[0][0] if found else None

    def origin(self, uid: str) -> Origin | None:
        """Whether a record was synced or added; None where there is none."""
        found = self._rows("SELECT origin FROM records WHERE uid = ? AND record IS NOT NULL", uid)
        return found[0][0] if found else None

    def uids(self, origin: Origin | None = None) -> Iterator[str]:
        """The uids in their order, all or those of one origin."""
        return (uid for uid, _ in self._each(origin))

    def records(self) -> Iterator[bytes]:
        """The JSON of every record, in the order of their uids."""
        return (record for _, record in self._each(None))

    def cursor(self, name: str) -> str | None:
        """What was last kept under this name together with a `put`."""
        found = self._rows("SELECT value FROM cursors WHERE name = ?", name)
        return found[0][0] if found else None

    def put(
        self,
        records: Iterable[ModelRecord],
        origin: Origin,
        *,
        cursors: Mapping[str, str] = {},
    ) -> Changes:
        """Add or replace records, and keep ``cursors`` (values by name), all or nothing.

        What is the same already does not change. What a user added is not replaced by a sync.
        """
        rows = [(record.uid, encode(record)) for record in records]
        counts = {"new": 0, "changed": 0, "unchanged": 0}
        with self._writing() as database:
            version = _version(database) + 1
            for uid, record in rows:
                found = database.execute(
                    "SELECT record, origin FROM records WHERE uid = ?", (uid,)
                ).fetchone()
                had, whose = found or (None, origin)
                if had == record or (had is not None and (whose, origin) == ("own", "hf")):
                    counts["unchanged"] += 1
                    continue
                counts["new" if had is None else "changed"] += 1
                database.execute(
                    "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)",
                    (uid, version, origin, record),
                )
            for cursor in cursors.items():
                database.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", cursor)
        return Changes(**counts)

    def remove(self, uid: str) -> bool:
        """Take a record out; False where there is none."""
        if self.get(uid) is None:
            return False
        with self._writing() as database:
            done = database.execute(
                "UPDATE records SET record = NULL, version = ? WHERE uid = ?"
                " AND record IS NOT NULL",
                (_version(database) + 1, uid),
            )
            return done.rowcount == 1

    def _each(self, origin: Origin | None) -> Iterator[tuple[str, bytes]]:
        after = ""
        while rows := self._rows(
            "SELECT uid, record FROM records WHERE uid > ? AND record IS NOT NULL"
            " AND (? IS NULL OR origin = ?) ORDER BY uid LIMIT ?",
            *(after, origin, origin, _CHUNK),
        ):
            yield from rows
            after = rows[-1][0]

    def _rows(self, query: str, *values: object) -> list[Any]:
        """What a query finds, read in a short bite that keeps no writer waiting."""
        with self._reading() as database:
            return [] if database is None else database.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        if not self.path.exists():
            yield None
            return
        # Not `ro`: what a killed process left half-written is rolled back by who opens it next.
        with self._explained(), self._connected("rw") as database:
            yield database if _is_ours(database, self.path) else None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: committed when the block ends well, rolled back otherwise."""
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._connected("rwc") as database:
                database.execute("PRAGMA synchronous = FULL")
                database.execute("BEGIN IMMEDIATE")
                try:
                    if not _is_ours(database, self.path):
                        _create(database)
                    database.execute(_NAMED, (_ID,))
                    yield database
                except BaseException:
                    database.rollback()
                    raise
                database.commit()

    @contextlib.contextmanager
    def _connected(self, mode: str) -> Iterator[sqlite3.Connection]:
        import sqlite3

        with contextlib.closing(
            sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=_WAIT_S,
                isolation_level=None,
            )
        ) as database:
            yield database

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        import sqlite3

        try:
            yield
        except sqlite3.OperationalError as error:
            raise self._unusable(error, str(error)) from error
        except sqlite3.DatabaseError as error:
            raise IntegrityError(
                f"your catalog {self.path} is damaged: {error}",
                hint="move it away, then run `tlhub catalog sync` and `tlhub catalog add` again",
            ) from error
        except OSError as error:
            raise self._unusable(error, error.strerror or str(error)) from error

    def _unusable(self, error: Exception, said: str) -> StorageError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            hint = "another process writes to it; wait for it and try again"
        elif name == "SQLITE_FULL":
            hint = "free some space, or use another disk (TLHUB_HOME)"
        elif name == "SQLITE_READONLY_ROLLBACK":
            hint = "a process died while it wrote; open it once where it can be written"
        else:
            hint = "look at its permissions and at the disk, or set TLHUB_HOME to another folder"
        return StorageError(f"your catalog {self.path} cannot be used: {said}", hint=hint)


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT coalesce(max(version), 0) FROM records").fetchone()[0])


def _is_ours(database: sqlite3.Connection, path: Path) -> bool:
    """Whether the tables are there; False for a file that is still empty."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application == _APPLICATION and version == _FORMAT:
        return True
    if application == _APPLICATION:
        raise UsageError(f"your catalog {path} is of a newer tlhub", hint="upgrade tlhub")
    if application or version or database.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise IntegrityError(
            f"{path} is a database of another program, not a catalog of tlhub's",
            hint="move it away, or set TLHUB_HOME to another folder",
        )
    return False


def _create(database: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
    database.execute(f"PRAGMA user_version = {_FORMAT}")
