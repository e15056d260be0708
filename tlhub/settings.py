"""Settings: a flag over the environment over the settings file over the default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import UsageError

if TYPE_CHECKING:
    from hub_client.store import Store

# Documented in docs/reference/settings.md, which a test holds against this table.
ENVIRONMENT = {
    "home": "TLHUB_HOME",
    "offline": "TLHUB_OFFLINE",
    "allow_licenses": "TLHUB_ALLOW_LICENSES",
    "commercial_only": "TLHUB_COMMERCIAL_ONLY",
    "mirrors": "TLHUB_MIRRORS",
    "locks": "TLHUB_LOCKS",
    "config": "TLHUB_CONFIG",
}
_LOCKS = ("flock", "soft", "none")
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True)
class Settings:
    """Where things are kept, whether the network may be used, and which licenses will do."""

    home: Path
    offline: bool
    allow_licenses: tuple[str, ...] = ()  # empty: all; what `tlhub.gate` makes of them
    commercial_only: bool = False
    mirrors: tuple[tuple[str, str], ...] = ()  # what `hub_client.mirrors` makes of them

    locks: str = "flock"  # a value of `hub_client.locks.Locks`

    @property
    def store(self) -> Store:
        """What was fetched, and where the next file will be."""
        from hub_client.locks import Locks
        from hub_client.store import Store

        return Store(self.home, Locks(self.locks))

    @property
    def measured(self) -> Path:
        """Folder of what was timed on this machine."""
        return self.home / "measured"

    @property
    def index(self) -> Path:
        """Folder of the search index, which can always be rebuilt."""
        return self.home / "index"

    @property
    def own_catalog(self) -> Path:
        """The user's own records: a file that `catalog.overlay.Overlay` makes when it is needed."""
        return self.home / "catalog.sqlite"

    @property
    def features(self) -> Path:
        """Folder of cached features, which can always be computed again."""
        return self.home / "features"

    @classmethod
    def load(
        cls,
        *,
        home: Path | str | None = None,
        offline: bool | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Settings from arguments, ``environ`` and the settings file, in this order.

        Raises:
            UsageError: the settings file or a value in it cannot be read.
        """
        file = _read(config_file(environ))
        home = home or environ.get(ENVIRONMENT["home"]) or file.get("home") or _default_home()
        if offline is None:
            said = [n for n in (ENVIRONMENT["offline"], "HF_HUB_OFFLINE") if n in environ]
            offline = _flag(said[0], environ[said[0]]) if said else file.get("offline", False)
        licenses = environ.get(ENVIRONMENT["allow_licenses"])
        commercial = environ.get(ENVIRONMENT["commercial_only"])
        return cls(
            home=Path(home).expanduser().absolute(),
            offline=offline,
            allow_licenses=tuple(
                file.get("allow_licenses", ())
                if licenses is None
                else (name.strip() for name in licenses.split(",") if name.strip())
            ),
            commercial_only=file.get("commercial_only", False)
            if commercial is None
            else _flag(ENVIRONMENT["commercial_only"], commercial),
            mirrors=_mirrors(environ.get(ENVIRONMENT["mirrors"]), file, environ),
            locks=_locks(environ.get(ENVIRONMENT["locks"]), file),
        )


def config_file(environ: Mapping[str, str]) -> Path:
    """Where the settings file is looked for; it need not exist."""
    named = environ.get(ENVIRONMENT["config"])
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_config_dir("tlhub", appauthor=False)) / "config.toml"


def _locks(said: str | None, file: Mapping[str, Any]) -> str:
    name, value = (ENVIRONMENT["locks"], said) if said else ("locks", file.get("locks", "flock"))
    if value not in _LOCKS:
        raise UsageError(f"{name}={value!r} is no way to lock", hint=f"use {', '.join(_LOCKS)}")
    return str(value)


def _mirrors(
    said: str | None, file: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    if said is None and "mirrors" not in file:
        return ()
    from hub_client.mirrors import parse_mirrors, read_mirrors

    if said is not None:
        return parse_mirrors(said, ENVIRONMENT["mirrors"])
    return read_mirrors(file["mirrors"], str(config_file(environ)))


def _default_home() -> str:
    import platformdirs

    return platformdirs.user_cache_dir("tlhub", appauthor=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"the settings file {path} cannot be read: {error.strerror}") from error
    import tomllib  # here: most have no such file, and every command starts with this module

    try:
        values = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the settings file {path} is not TOML: {error}", hint="mend it, or remove it"
        ) from error
    known = {"home": str, "offline": bool, "allow_licenses": list, "commercial_only": bool}
    known |= {"mirrors": dict, "locks": str}
    for name, value in values.items():
        if name not in known:
            raise UsageError(
                f"unknown setting {name!r} in {path}", hint=f"known are: {', '.join(known)}"
            )
        if not isinstance(value, known[name]):
            raise UsageError(f"setting {name!r} in {path} must be a {known[name].__name__}")
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            raise UsageError(f"setting {name!r} in {path} must be a list of str")
    return values


def _flag(name: str, value: str) -> bool:
    text = value.strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise UsageError(f"{name}={value!r} is neither yes nor no", hint="use 1 or 0")
