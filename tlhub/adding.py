"""One's own models in the catalog: put in and taken out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catalog.checks import check, check_uid
from catalog.errors import NotFoundError, UsageError
from catalog.overlay import Overlay
from catalog.record import ModelRecord
from tlhub.descriptions import Reader, named
from tlhub.progress import Progress, silent
from tlhub.settings import Settings
from tlhub.shipped import Shipped


@dataclass(frozen=True)
class Added:
    """The uids that were added, and how many of them are new or changed."""

    uids: tuple[str, ...]
    new: int
    changed: int
    unchanged: int


def add(
    *sources: str | Path,
    uid: str | None = None,
    force: bool = False,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Added:
    """What became of the models of ``sources`` in the user's own catalog: all or none are added.

    A source is a folder that `tlhub.pull` or `tlhub.finetune` made; a folder of weights with a
    model card, or a card; a file of records (a JSON object, a list of them, or one a line); the
    URL of such a file; or a repository, `hf:owner/name`. ``uid`` is for the one model there is;
    with ``force`` it may be one that ships with tlhub, and is shown in its place.

    Raises:
        UsageError: a field does not validate, which the message names; or there is no uid, or it
            ships with tlhub.
        NotFoundError, AccessError, NetworkError, OfflineError: a source cannot be read.
        UnsafeError: a source leads out of its folder, or is made to exhaust the machine.
        IntegrityError: a model folder is not whole.
        StorageError: the catalog cannot be written.
    """
    settings = settings or Settings.load()
    if uid is not None:
        check_uid(uid)
    shipped = Shipped.read()
    reader = Reader(uid, shipped, settings, progress)
    records: dict[str, ModelRecord] = {}
    for source in sources:
        for where, record in reader.read(str(source)):
            with named(where):
                check(record)
                if record.uid in records:
                    raise UsageError(f"uid: {record.uid} is there twice")
                if not force:
                    _refuse_shipped(record, shipped)
            records[record.uid] = record
    if uid is not None and len(records) != 1:
        raise UsageError(f"{uid} cannot name {len(records)} models", hint="leave out the uid")
    changes = Overlay.open(settings.own_catalog).put(records.values(), "own")
    return Added(tuple(records), changes.new, changes.changed, changes.unchanged)


def remove(*uids: str, settings: Settings | None = None) -> None:
    """Take records out of the user's own catalog: all of them or none.

    Raises:
        NotFoundError: it does not have one.
        StorageError, IntegrityError: it cannot be written or is damaged.
    """
    overlay = Overlay.open((settings or Settings.load()).own_catalog)
    for uid in uids:
        if overlay.origin(uid) is None:
            raise NotFoundError(
                f"your catalog has no {uid}",
                hint="only what was added or synced can be removed; what ships with tlhub cannot",
            )
    for uid in uids:
        overlay.remove(uid)


def _refuse_shipped(record: ModelRecord, shipped: Shipped) -> None:
    there = shipped.uids.get(record.uid.lower())
    if there is None and record.uid == f"hf/{record.hf_hub_id}":
        there = shipped.repositories.get(str(record.hf_hub_id).lower())
    if there is not None:
        raise UsageError(
            f"uid: these weights ship with tlhub already, as {there}"
            if there.lower() != record.uid.lower()
            else f"uid: {there} ships with tlhub already",
            hint="choose another with --uid, or --force to see yours in its place",
        )
