"""The simple repository API: which files a package index, a page or a folder offers.

Sources: PEP 503 (HTML), PEP 691 (JSON); https://packaging.python.org/specifications/simple-repository-api
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urldefrag, urljoin, urlsplit

import msgspec
from packaging.utils import (
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import Version

from catalog.errors import NetworkError, NotFoundError, UsageError
from catalog.record import UNREADABLE
from hub_client.network import Http, redact, split_url
from hub_client.sources.file import path_of

_JSON = "application/vnd.pypi.simple.v1+json"
_HTML = "application/vnd.pypi.simple.v1+html"
_ACCEPT = f"{_JSON}, {_HTML};q=0.2, text/html;q=0.1"
_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True)
class Link:
    """One file that an index offers."""

    filename: str
    url: str  # without fragment
    sha256: str | None = None

    @property
    def wheel(self) -> tuple[NormalizedName, Version] | None:
        """The project and version of a wheel; None for what is no wheel."""
        try:
            name, version, _, _ = parse_wheel_filename(self.filename)
        except InvalidWheelFilename:
            return None
        return name, version


def project_links(index_url: str, project: str, http: Http) -> list[Link]:
    """What an index offers of a project; nothing where it does not know it.

    Raises:
        NetworkError, AccessError: the index cannot be asked.
    """
    try:
        return page_links(f"{index_url}/{canonicalize_name(project)}/", http)
    except NotFoundError:
        return []


def page_links(url: str, http: Http) -> list[Link]:
    """What the page or folder at ``url`` links to.

    Raises:
        NotFoundError: there is none.
        NetworkError, AccessError: it cannot be read.
    """
    if urlsplit(url).scheme == "file":
        return _local_links(path_of(url), url)
    if url.endswith(".whl"):
        return [_link(url, url)]
    content, kind, where = http.read(url, {"Accept": _ACCEPT}, limit_bytes=_LIMIT_BYTES)
    if kind == _JSON:
        links = parse_json(content, where)
    elif kind in {_HTML, "text/html", "application/xhtml+xml", ""}:
        links = parse_html(content, where)
    else:
        raise NetworkError(
            f"{redact(url)} is no package index: it answered with {kind}",
            hint="look at the index URL in `pip config debug`",
        )
    # A page from the network has no say over the files of this machine.
    return [link for link in links if urlsplit(link.url).scheme in {"http", "https"}]


def parse_json(content: bytes, base: str) -> list[Link]:
    """The links of a PEP 691 page."""
    try:
        page = msgspec.json.decode(content, type=_Page)
    except UNREADABLE as error:
        raise NetworkError(f"{redact(base)} is no package index page: {error}") from error
    if page.meta.get("api-version", "1.0").partition(".")[0] != "1":
        raise NetworkError(f"{redact(base)} speaks an unknown version of the index API")
    links = (
        Link(item.filename, _absolute(item.url, base)[0], item.hashes.get("sha256"))
        for item in page.files
    )
    return [link for link in links if link.url]


def parse_html(content: bytes, base: str) -> list[Link]:
    """The links of a PEP 503 page, or of any page with anchors."""
    parser = _Anchors(base)
    parser.feed(content.decode("utf-8", errors="replace"))
    parser.close()
    return [link for href in parser.hrefs if (link := _link(href, parser.base)).url]


def _local_links(path: Path, url: str) -> list[Link]:
    if path.is_dir():
        page = path / "index.html"
        if page.is_file():
            return parse_html(page.read_bytes(), page.as_uri())
        return [Link(file.name, file.as_uri()) for file in sorted(path.glob("*.whl"))]
    if path.is_file():
        if path.suffix == ".whl":
            return [Link(path.name, url)]
        return parse_html(path.read_bytes(), url)
    raise NotFoundError(f"there is no {path}")


def _link(href: str, base: str) -> Link:
    url, fragment = _absolute(href, base)
    name = unquote(posixpath.basename(urlsplit(url).path))
    return Link(name, url, parse_qs(fragment).get("sha256", [None])[0])


def _absolute(href: str, base: str) -> tuple[str, str]:
    """A link as URL and fragment; empty for one that makes no sense."""
    try:
        url, fragment = urldefrag(urljoin(base, href))
        split_url(url)
    except (ValueError, UsageError):
        return "", ""
    return url, fragment


class _File(msgspec.Struct):
    filename: str
    url: str
    hashes: dict[str, str]


class _Page(msgspec.Struct):
    files: list[_File]
    meta: dict[str, Any] = {}


class _Anchors(HTMLParser):
    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.hrefs: list[str] = []
        self._based = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if not href:
            return
        if tag == "base" and not self._based:
            self.base, self._based = _absolute(href, self.base)[0] or self.base, True
        elif tag == "a":
            self.hrefs.append(href)
