"""Where this machine's pip looks for packages, and how it gets there.

pip is asked which configuration files count (`pip config debug`); they and the `PIP_*` variables
are read in the order of precedence that pip documents.
Source: https://pip.pypa.io/en/stable/topics/configuration/
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from catalog.errors import TlhubError

_KINDS = ("global", "user", "site", "env")  # of files, the later over the earlier
_SECTIONS = ("global", "install", "download")
_FILE_LINE = re.compile(r"(.+), exists: True")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://|file:")


@dataclass(frozen=True)
class PipConfig:
    """What of pip's configuration says where files come from."""

    index_urls: tuple[str, ...]
    find_links: tuple[str, ...] = ()  # URLs; of a folder, a page or a file
    proxy: str | None = None
    cert: Path | None = None
    client_cert: Path | None = None
    trusted_hosts: tuple[str, ...] = ()
    timeout_s: float = 15.0


def read_pip_config() -> PipConfig:
    """The configuration that `pip install` would use here.

    Raises:
        TlhubError: pip or its configuration is broken; the message has pip's own words.
    """
    return from_values(_values(_config_files(), os.environ), os.environ)


def from_values(values: Mapping[str, str], environment: Mapping[str, str]) -> PipConfig:
    """The configuration from pip's option names and their values."""
    bundle = environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
    cert = values.get("cert") or bundle
    indexes = [values.get("index-url") or values.get("pypi-url") or default_index()]
    indexes += values.get("extra-index-url", "").split()
    if values.get("no-index", "").lower() in {"1", "true", "yes", "on", "t", "y"}:
        indexes = []
    client_cert = values.get("client-cert")
    try:
        timeout_s = float(values.get("timeout") or values.get("default-timeout") or 15)
    except ValueError as error:
        raise TlhubError(
            f"pip's timeout is no number: {error}", hint="see `pip config debug`"
        ) from error
    return PipConfig(
        index_urls=tuple(_as_url(index).rstrip("/") for index in indexes),
        find_links=tuple(_as_url(link) for link in values.get("find-links", "").split()),
        proxy=values.get("proxy") or None,
        cert=Path(cert).expanduser() if cert else None,
        client_cert=Path(client_cert).expanduser() if client_cert else None,
        trusted_hosts=tuple(values.get("trusted-host", "").split()),
        timeout_s=timeout_s,
    )


def default_index() -> str:
    """The index that pip asks where nothing is configured; only pip itself knows it."""
    from pip._internal.models.index import PyPI

    return str(PyPI.simple_url)


def _config_files() -> list[Path]:
    if os.environ.get("PIP_CONFIG_FILE") == os.devnull:
        return []  # pip then loads none, though it still lists them
    command = [sys.executable, "-P", "-m", "pip", "config", "debug"]
    env = {**os.environ, "PYTHONIOENCODING": "utf-8", "PIP_NO_COLOR": "1"}
    done = subprocess.run(  # noqa: S603 -- our own interpreter, fixed arguments
        command, capture_output=True, text=True, encoding="utf-8", env=env, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise TlhubError(
            f"pip's configuration cannot be read: {said[-1] if said else done.returncode}",
            hint="see `python -m pip config debug`; pip comes with `python -m ensurepip`",
        )
    files: dict[str, list[Path]] = {kind: [] for kind in _KINDS}
    kind = ""
    for line in done.stdout.splitlines():
        if line and not line[0].isspace() and line.endswith(":"):
            kind = line[:-1]
        elif kind in files and (found := _FILE_LINE.fullmatch(line.strip())):
            files[kind].append(Path(found[1]))
    return [file for kind in _KINDS for file in files[kind]]


def _values(files: Iterable[Path], environment: Mapping[str, str]) -> dict[str, str]:
    """Options by their name in pip; empty ones count as absent, as in pip."""
    sections: dict[str, dict[str, str]] = {name: {} for name in _SECTIONS}
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise TlhubError(f"pip's {file} cannot be read: {error}") from error
        for section in _SECTIONS:
            if parser.has_section(section):
                items = ((_option(name), value) for name, value in parser.items(section))
                sections[section] |= {name: value for name, value in items if value}
    merged: dict[str, str] = {}
    for section in _SECTIONS:
        merged |= sections[section]
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            merged[_option(name.removeprefix("PIP_"))] = value
    return merged


def _option(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _as_url(place: str) -> str:
    if _URL.match(place):
        return place
    return Path(place).expanduser().absolute().as_uri()
