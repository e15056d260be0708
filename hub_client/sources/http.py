"""`https://…` and `http://…`: files on any web server, checked against the record's digest.

`https://…/file.zip!member` is a file inside an archive there; a `#sha256=` is then that of the
archive, otherwise that of the file.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from catalog.errors import TlhubError, UsageError
from hub_client.archives import Archive
from hub_client.network import Http, origin_of, split_credentials, split_url
from hub_client.partial import own_path, remove_partial, sweep
from hub_client.sources.single import single, stated_digest, wish_for
from hub_client.sources.source import Job, Place, Wanted
from hub_client.transfer import Wish, download
from hub_client.transfer_many import download_many

_ZIP = re.compile(r"(?P<zip>https?://[^!#]+\.zip)!(?P<member>[^#]+)(#(?P<rest>.*))?")


class HttpSource:
    """Files by their URL, and members of zip archives by theirs."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @cached_property
    def _http(self) -> Http:
        return Http()

    def resolve(self, url: str, *, offline: bool = False) -> Place:  # noqa: ARG002 -- asks nobody
        """The one file that the URL names."""
        member = _ZIP.fullmatch(url)
        name = member["member"] if member else unquote(split_url(url).path)
        artifact = single(name, url, None if member else stated_digest(url))
        return Place(url, (artifact,))

    def find(self, wanted: Wanted) -> Path | None:
        """The file in the store."""
        return self._job.store.find(wanted.artifact, wanted.url)

    def group(self, url: str) -> str:
        """The server, or the archive."""
        member = _ZIP.fullmatch(url)
        return f"{member['zip']}#{member['rest']}" if member else origin_of(url)

    def bring(self, wanted: Sequence[Wanted]) -> Mapping[str, Path | TlhubError]:
        """Download into the store what another process has not brought by now."""
        if _ZIP.fullmatch(wanted[0].url):
            return self._unpack(wanted)
        store = self._job.store
        sweep(store.tmp)
        answers: dict[str, Path | TlhubError] = {}
        todo: dict[str, list[Wanted]] = {}  # files of the same content come once
        for item in wanted:
            digest = item.artifact.digest
            todo.setdefault(digest.value if digest else item.url, []).append(item)
        wishes: list[tuple[Wish, Path]] = []
        keys: dict[Path, str] = {}
        with contextlib.ExitStack() as locks:
            for key in sorted(todo):  # in one order, so that no two wait for each other
                first = todo[key][0]
                wish = wish_for(first.artifact, first.url)
                if wish.small:
                    partial = own_path(store.tmp)
                else:
                    partial = locks.enter_context(store.partial(key))
                    path = self.find(first)
                    if path is not None:
                        answers |= dict.fromkeys((item.artifact.path for item in todo[key]), path)
                        continue
                keys[partial] = key
                wishes.append((wish, partial))
            places = {id(wish): partial for wish, partial in wishes}
            for wish, got in download_many(wishes, self._http, progress=self._job.progress):
                items = todo[keys[places[id(wish)]]]
                end: Path | TlhubError
                if isinstance(got, TlhubError):
                    end = got
                else:
                    end = store.adopt(got.path, got.sha256, items[0].artifact, items[0].url)
                answers |= dict.fromkeys((item.artifact.path for item in items), end)
        here = [i for i in wanted if isinstance(answers.get(i.artifact.path), Path)]
        store.drop_outdated({split_credentials(item.url)[0] for item in here}.__contains__)
        return answers

    def close(self) -> None:
        """Close the connections, if any were opened."""
        if "_http" in self.__dict__:
            self._http.close()

    def _unpack(self, wanted: Sequence[Wanted]) -> Mapping[str, Path]:
        """Members of one archive, which is removed when they are out."""
        store = self._job.store
        member = _ZIP.fullmatch(wanted[0].url)
        url = member["zip"] if member else ""
        with store.partial(wanted[0].url.partition("!")[0]) as partial:
            paths = {item.artifact.path: self.find(item) for item in wanted}
            rest = [item for item in wanted if paths[item.artifact.path] is None]
            if rest:
                wish = Wish(
                    url=url,
                    label=Path(urlsplit(url).path).name,
                    digest=stated_digest(wanted[0].url),
                    spare_bytes=sum(item.artifact.size_bytes or 0 for item in rest),
                )
                got = download(wish, partial, self._http, progress=self._job.progress)
                try:
                    with Archive(got.path, wish.label) as archive:
                        for item in rest:
                            name = unquote(_member(item.url))
                            chunks = archive.read(name, item.artifact.size_bytes)
                            path = store.add(chunks, item.artifact, item.url)
                            paths[item.artifact.path] = path
                finally:
                    remove_partial(got.path)
        return {name: path for name, path in paths.items() if path is not None}


def _member(url: str) -> str:
    found = _ZIP.fullmatch(url)
    if found is None:
        raise UsageError(f"{url} is no member of an archive")
    return found["member"]
