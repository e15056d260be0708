"""Settings: a flag over the environment over the settings file over the default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.errors import UsageError

# Documented in docs/reference/settings.md, which a test holds against this table.
ENVIRONMENT = {"home": "TLHUB_HOME", "offline": "TLHUB_OFFLINE", "config": "TLHUB_CONFIG"}
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True)
class Settings:
    """Where things are kept and whether the network may be used."""

    home: Path
    offline: bool

    @property
    def index(self) -> Path:
        """Folder of the search index, which can always be rebuilt."""
        return self.home / "index"

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
        return cls(home=Path(home).expanduser().absolute(), offline=offline)


def config_file(environ: Mapping[str, str]) -> Path:
    """Where the settings file is looked for; it need not exist."""
    named = environ.get(ENVIRONMENT["config"])
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_config_dir("tlhub", appauthor=False)) / "config.toml"


def _default_home() -> str:
    import platformdirs

    return platformdirs.user_cache_dir("tlhub", appauthor=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the settings file {path} is not TOML: {error}", hint="mend it, or remove it"
        ) from error
    except OSError as error:
        raise UsageError(f"the settings file {path} cannot be read: {error.strerror}") from error
    known = {"home": str, "offline": bool}
    for name, value in values.items():
        if name not in known:
            raise UsageError(
                f"unknown setting {name!r} in {path}", hint=f"known are: {', '.join(known)}"
            )
        if not isinstance(value, known[name]):
            raise UsageError(f"setting {name!r} in {path} must be a {known[name].__name__}")
    return values


def _flag(name: str, value: str) -> bool:
    text = value.strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise UsageError(f"{name}={value!r} is neither yes nor no", hint="use 1 or 0")
