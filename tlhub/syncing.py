"""The models of a Hugging Face hub in the user's own catalog, newest change first.

A sync ends where the last one that ended had begun. Where it is stopped, by whatever, the next one
goes on: the place is kept in one transaction with the records that were read up to it.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from catalog.errors import NetworkError, NotFoundError, OfflineError, UsageError
from catalog.hf_record import (
    HUGGING_FACE,
    WANTED,
    modified,
    record_of,
    repository_of,
    source_of,
)
from catalog.overlay import Overlay
from catalog.record import ModelRecord
from catalog.tasks import TASKS
from tlhub.progress import Event, Progress, silent
from tlhub.settings import Settings
from tlhub.shipped import Shipped

if TYPE_CHECKING:
    from hub_client.sources.hf_models import Page

log = logging.getLogger(__name__)

_AUTHOR = re.compile(r"[\w.-]{1,100}", re.ASCII)
_SAID = 5  # entries left out that the log names as a warning; there may be thousands


@dataclass(frozen=True)
class Synced:
    """What a sync read from ``hub``, and what became of it in the catalog.

    ``known`` ships with tlhub under another uid, ``skipped`` cannot be a model.
    """

    hub: str
    pages: int = 0
    read: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    known: int = 0
    skipped: int = 0


class _Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far the sync of a selection is; times as of `catalog.hf_record.modified`."""

    known: str = ""  # all that changed before is in the catalog
    newest: str = ""  # what `known` becomes when this sync ends
    next: str | None = None  # the page to go on at; None: it has ended
    read: int = 0  # entries, of a sync that is to end after so many


def sync(
    hub: str = "hf",
    *,
    task: str | None = None,
    author: str | None = None,
    limit: int | None = None,
    mirror: bool = False,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Synced:
    """What came of reading the models of ``hub`` that changed since the last time.

    ``hub`` is `hf`, the hub that `HF_ENDPOINT` names, whose models are `hf/owner/name` in the
    catalog; or the address of another, whose models are `host/owner/name`, and which is not told
    the token. With ``mirror`` the first is taken for huggingface.co. ``limit`` is for the models
    that changed last. What ships with tlhub under another uid is left out.

    Raises:
        OfflineError: the network was ruled out.
        NetworkError, AccessError, NotFoundError: the hub cannot be asked; the next sync goes on.
        UsageError: the hub is none, another than the one the catalog has under `hf`, or a
            condition makes no sense.
        StorageError, IntegrityError: the catalog cannot be written or is damaged.
    """
    settings = settings or Settings.load()
    _check(task, author, limit)
    if settings.offline:
        raise OfflineError(
            "a sync needs the network, which was ruled out", hint="run it without --offline"
        )
    from hub_client.sources.hf_models import ModelPages

    elsewhere = None if hub == "hf" else hub.removeprefix("hub+").rstrip("/")
    source = "hf" if elsewhere is None else source_of(elsewhere)
    pages = ModelPages(
        WANTED,
        endpoint=elsewhere,
        task=task,
        author=author,
        waiting=lambda wait_s: progress(Event(f"waiting {wait_s:.0f} s, as the hub asks")),
    )
    endpoint = HUGGING_FACE if mirror and elsewhere is None else pages.endpoint
    overlay = Overlay.open(settings.own_catalog)
    shipped = Shipped.read()
    _prepare(overlay, shipped, source, endpoint)
    run = _Run(
        overlay=overlay,
        shipped=shipped,
        source=source,
        endpoint=endpoint,
        name=f"sync {source} task={task or ''} author={author or ''} limit={limit or ''}",
        limit=limit,
        progress=progress,
    )
    while run.follow(pages.first, pages.page):  # it went on: what changed since that one began?
        pass
    return Synced(pages.endpoint, **run.counts)


def _check(task: str | None, author: str | None, limit: int | None) -> None:
    if task is not None and task not in TASKS:
        from catalog.query import unknown

        raise unknown("task", task, TASKS)
    if author is not None and not _AUTHOR.fullmatch(author):
        raise UsageError(
            f"author {author!r:.80} is no name of a user or an organization",
            hint="name the first part of owner/name",
        )
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} leaves nothing", hint="at least 1")


def _prepare(overlay: Overlay, shipped: Shipped, source: str, endpoint: str) -> None:
    """See that no other hub's models are under these uids, and none that ship by now.

    Raises:
        UsageError: there are some; or the hub has no address that a model could be pulled from.
    """
    if endpoint != HUGGING_FACE:
        try:
            own = source_of(endpoint)
        except UsageError as error:
            raise UsageError(
                f"{endpoint} is not a host alone: its models have no address of their own",
                hint="--mirror where it is a mirror of huggingface.co",
            ) from error
        if source == own and any(uid.startswith(f"{source}/") for uid in shipped.uids):
            raise UsageError(f"models named {source}/ ship with tlhub, and are of no hub")
    had = overlay.cursor(f"hub {source}") or endpoint
    if had != endpoint:
        raise UsageError(
            f"the models named {source}/ in your catalog are those of {had}, not of {endpoint}",
            hint=f"--from {endpoint} keeps these beside them; --mirror where HF_ENDPOINT is a "
            "mirror of huggingface.co",
        )
    if source == "hf":
        for uid in list(overlay.uids("hf")):
            if uid.startswith("hf/") and uid[3:].lower() in shipped.repositories:
                overlay.remove(uid)


@dataclass
class _Run:
    """One sync of one selection of a hub's models."""

    overlay: Overlay
    shipped: Shipped
    source: str
    endpoint: str
    name: str
    limit: int | None
    progress: Progress
    counts: Counter[str] = field(default_factory=Counter)

    def follow(self, first: str, page_at: Callable[[str, int | None], Page]) -> bool:
        """Read page after page, each kept with the place behind it; whether it had been stopped.

        Raises:
            NetworkError, AccessError, NotFoundError: the hub does not answer, or without end.
        """
        kept = self.overlay.cursor(self.name)
        place = msgspec.json.decode(kept, type=_Place) if kept else _Place()
        resumed = place.next is not None
        asked: set[str] = set()
        while True:
            query = place.next or first
            if query in asked:
                raise NetworkError(f"{self.endpoint} leads from page to page in a circle")
            asked.add(query)
            try:
                page = page_at(query, self.limit and self.limit - place.read)
            except NotFoundError:
                if place.next is None or len(asked) > 1:
                    raise
                log.warning("%s forgot where the last sync stopped: it begins anew", self.endpoint)
                place = _Place(known=place.known)
                continue
            place = self._behind(page, place)
            self._keep(page.entries, place)
            if place.next is None:
                return resumed

    def _behind(self, page: Page, place: _Place) -> _Place:
        """The place behind a page."""
        times = [time for entry in page.entries if (time := modified(entry))]
        # A hub whose clock is wrong, or that lies, must not keep us from what comes later.
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:23]
        newest = place.newest or min(max(times, default=place.known), now)
        read = place.read + len(page.entries)
        sorted_ = times == sorted(times, reverse=True)  # a hub that does not is read to its end
        older = sorted_ and times and times[-1] < place.known
        if page.next is None or older or (self.limit and read >= self.limit):
            return _Place(known=newest)
        return _Place(known=place.known, newest=newest, next=page.next, read=read)

    def _keep(self, entries: Iterable[Any], place: _Place) -> None:
        cursors = {
            self.name: msgspec.json.encode(place).decode(),
            f"hub {self.source}": self.endpoint,
        }
        changes = self.overlay.put(self._records(entries), "hf", cursors=cursors)
        self.counts.update(pages=1, **asdict(changes))
        self.progress(Event(f"{self.counts['read']:,} models of {self.endpoint} read"))

    def _records(self, entries: Iterable[Any]) -> Iterator[ModelRecord]:
        for entry in entries:
            self.counts["read"] += 1
            try:
                repository = repository_of(entry)
                if self.source == "hf" and repository.lower() in self.shipped.repositories:
                    self.counts["known"] += 1
                    continue
                yield record_of(entry, self.endpoint, source=self.source, uid_of=self._uid_of)
            except UsageError as error:
                self.counts["skipped"] += 1
                level = logging.WARNING if self.counts["skipped"] <= _SAID else logging.INFO
                log.log(level, "left out: %s", error)

    def _uid_of(self, repository: str) -> str:
        uid = f"{self.source}/{repository}"
        return self.shipped.uid_of(repository) if self.source == "hf" else uid
