"""`s3://bucket/key`, `gs://bucket/key`, `az://container/key`: files and prefixes in object stores.

`obstore` speaks to them, with the credentials, endpoint and region that each cloud's own tools
take from the environment (AWS_*, GOOGLE_*, AZURE_*). A prefix stands for all objects under it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from catalog.disk import check_space
from catalog.errors import (
    AccessError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    OfflineError,
    TlhubError,
    UnsafeError,
    UsageError,
)
from hub_client.archives import leaves_folder
from hub_client.digests import Hasher
from hub_client.network import split_url
from hub_client.partial import Origin, Partial
from hub_client.patience import Patience, Transient
from hub_client.sources.single import single, stated_digest, wish_for
from hub_client.sources.source import Job, Place, Wanted

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

_CHUNK_BYTES = 1 << 20
_NOT_FOUND, _DENIED = 404, {401, 403}
# Of a whole request, which is 30 s unless told; an endpoint without TLS is the user's own word.
_OPTIONS = {"timeout": "12 hours", "connect_timeout": "15 seconds", "allow_http": True}
_STATUS = re.compile(r"status(?: code)?: (\d{3})")


class ObjectSource:
    """Objects of the buckets that URLs name."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._buckets: dict[str, ObjectStore] = {}

    def resolve(self, url: str, *, offline: bool = False) -> Place:
        """The object, or all objects under the prefix."""
        clean = url.partition("#")[0]
        _, key = _split(clean)
        if offline:
            raise OfflineError(
                f"what is at {clean} only the network can tell, and it was ruled out",
                hint="run it once without --offline",
            )
        stated = stated_digest(url)
        found = Patience(tries=3).run(lambda: self._list(clean, key))
        if len(found) == 1 and found[0]["path"] == key:
            return Place(url, (single(key, clean, stated, found[0]["size"]),))
        if stated is not None:
            raise UsageError(f"{clean} is a folder, and has no digest")
        root = clean.rstrip("/")
        prefix = f"{key.rstrip('/')}/" if key else ""
        artifacts = []
        for item in found:
            name = item["path"].removeprefix(prefix)
            if leaves_folder(name) or "\\" in name:
                raise UnsafeError(f"{root} holds {name!r}, which lies outside of it")
            artifact = single(name, f"{root}/{name}", None, item["size"])
            artifacts.append(msgspec.structs.replace(artifact, path=name))
        if not artifacts:
            raise NotFoundError(f"there is nothing at {clean}", hint="look at bucket and key")
        return Place(clean, tuple(artifacts))

    def find(self, wanted: Wanted) -> Path | None:
        """The file in the store."""
        return self._job.store.find(wanted.artifact, wanted.url)

    def group(self, url: str) -> str:
        """The URL itself."""
        return url

    def bring(self, wanted: Sequence[Wanted]) -> Mapping[str, Path | TlhubError]:
        """Download into the store what another process has not brought by now."""
        return {item.artifact.path: self._bring(item) for item in wanted}

    def close(self) -> None:
        """`obstore` keeps its connections to itself."""

    def _bring(self, item: Wanted) -> Path:
        artifact, store = item.artifact, self._job.store
        key = artifact.digest.value if artifact.digest is not None else item.url
        with store.partial(key) as path:
            here = self.find(item)
            if here is not None:
                return here
            part = Partial(path, wish_for(artifact, item.url).hasher())
            part.resume(item.url.partition("#")[0])
            try:
                Patience().run(lambda: self._pull(item, part), reached=lambda: part.size_bytes)
                hasher = part.hashed()
                _refuse_other(item, hasher)
                part.finish()
            except IntegrityError:
                part.discard()
                raise
            finally:
                part.close()
            return store.adopt(path, hasher.sha256, artifact, item.url)

    def _pull(self, item: Wanted, part: Partial) -> None:
        """The rest of the object, or all of it where it is not the one we began."""
        url = item.url.partition("#")[0]
        _, key = _split(url)
        store = self._store(url)
        import obstore

        with _explained(url):
            meta = obstore.head(store, key)
            origin = Origin(url=url, etag=meta["e_tag"], size_bytes=meta["size"])
            if part.origin is None or (part.origin.etag, part.origin.size_bytes) != (
                origin.etag,
                origin.size_bytes,
            ):
                part.restart(origin)
            check_space(part.path.parent, meta["size"] - part.size_bytes)
            at = part.size_bytes
            if at == meta["size"]:
                return
            options: Any = {"range": {"offset": at}}
            if origin.etag:
                options["if_match"] = origin.etag
            for chunk in obstore.get(store, key, options=options).stream(_CHUNK_BYTES):
                part.write(at, memoryview(chunk), len(chunk))
                at += len(chunk)
                self._job.progress(item.artifact.path, at, meta["size"])
            if at != meta["size"]:
                raise Transient(NetworkError(f"{url} ended after {at} bytes"))

    def _list(self, url: str, key: str) -> list[ObjectMeta]:
        store = self._store(url)
        import obstore

        with _explained(url):
            if key and not key.endswith("/"):
                try:
                    return [obstore.head(store, key)]
                except FileNotFoundError:
                    pass
            prefix = f"{key.rstrip('/')}/" if key else None
            found = [item for chunk in obstore.list(store, prefix) for item in chunk]
        return sorted((i for i in found if not i["path"].endswith("/")), key=lambda i: i["path"])

    def _store(self, url: str) -> ObjectStore:
        bucket, _ = _split(url)
        if bucket not in self._buckets:
            try:
                from obstore.store import from_url
            except ImportError:
                raise UsageError(
                    f"{url}: object stores need a package that is not installed",
                    hint="pip install 'tlhub[object-stores]'",
                ) from None
            options: Any = _OPTIONS
            with _explained(url):
                self._buckets[bucket] = from_url(bucket, client_options=options)
        return self._buckets[bucket]


def _refuse_other(item: Wanted, hasher: Hasher) -> None:
    if not hasher.matches or item.artifact.size_bytes not in {None, hasher.size_bytes}:
        raise IntegrityError(
            f"{item.artifact.path} from {item.url}: {hasher.mismatch()}; nothing was kept",
            hint="the object was changed or damaged",
        )


def _split(url: str) -> tuple[str, str]:
    parts = split_url(url)
    if not parts.netloc:
        raise UsageError(f"{url} names no bucket", hint=f"write {parts.scheme}://bucket/key")
    return f"{parts.scheme}://{parts.netloc}", url.split("/", 3)[3] if url.count("/") > 2 else ""


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Say what `obstore` raises in our own errors."""
    from obstore import exceptions as theirs

    try:
        yield
    except (theirs.BaseError, FileNotFoundError) as error:
        said = str(error).partition("\n")[0]
        found = _STATUS.search(said)
        status = int(found[1]) if found else None
        if isinstance(error, FileNotFoundError | theirs.NotFoundError) or status == _NOT_FOUND:
            raise NotFoundError(f"there is nothing at {url}") from error
        denied = isinstance(error, theirs.PermissionDeniedError | theirs.UnauthenticatedError)
        if denied or status in _DENIED:
            raise AccessError(
                f"{url} is not given to us", hint="look at the credentials in the environment"
            ) from error
        if isinstance(error, theirs.UnknownConfigurationKeyError):
            raise UsageError(f"{url}: {said}") from error
        raise Transient(
            NetworkError(f"{url} could not be had: {said}", hint="look at the network connection"),
            tries=3,
        ) from error
