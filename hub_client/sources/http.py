"""`https://…` and `http://…`: files on any web server, checked against the record's digest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from hub_client.network import Http
from hub_client.sources.source import Job, Wanted
from hub_client.transfer import Wish, download


class HttpSource:
    """Files by their URL, one transfer each."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @cached_property
    def _http(self) -> Http:
        return Http()

    def find(self, wanted: Wanted) -> Path | None:
        """The file in the store."""
        return self._job.store.find(wanted.artifact, wanted.url)

    def group(self, url: str) -> str:
        """The URL itself."""
        return url

    def bring(self, wanted: Sequence[Wanted]) -> dict[str, Path]:
        """Download into the store what another process has not brought by now."""
        return {item.artifact.path: self._bring(item) for item in wanted}

    def _bring(self, item: Wanted) -> Path:
        artifact, store = item.artifact, self._job.store
        key = artifact.digest.value if artifact.digest is not None else item.url
        with store.partial(key) as partial:
            path = self.find(item)
            if path is not None:
                return path
            wish = Wish(
                url=item.url,
                label=artifact.path,
                digest=artifact.digest,
                size_bytes=artifact.size_bytes,
            )
            got = download(wish, partial, self._http, progress=self._job.progress)
            return store.adopt(partial, got.sha256, artifact, item.url)

    def close(self) -> None:
        """Close the connections, if any were opened."""
        if "_http" in self.__dict__:
            self._http.close()
