from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from terminal import TLHUB, Run


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TLHUB_HOME that the whole session shares, so that a real model is pulled once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def tlhub(home: Path) -> Run:
    """Run the real command in a process of its own: ``tlhub("pull", uid, env={...})``."""

    def run(
        *arguments: str | Path, env: dict[str, str] | None = None, **options: object
    ) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "TLHUB_HOME": str(home), "NO_COLOR": "1", **(env or {})}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [TLHUB, *map(str, arguments)],
            **{"capture_output": True, "text": True, "check": False, "timeout": 300, **options},
            env=environ,
        )

    return run
