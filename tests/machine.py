"""A machine of its own for the real command: caches, a project folder, a loopback hub."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from small_hub import SmallHub

from terminal import TLHUB

DAY_S = 86400


class Machine:
    """A TLHUB_HOME and a Hugging Face cache of its own, and the command in them."""

    def __init__(self, folder: Path, hub: SmallHub) -> None:
        self.folder, self.home = folder, folder / "home"
        self.cwd, self.publisher = folder / "project", folder / "publisher"
        self.cwd.mkdir(parents=True, exist_ok=True)
        unwanted = {"TLHUB_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "TLHUB_CONFIG"}
        self.env = {k: v for k, v in os.environ.items() if k not in unwanted} | {
            "TLHUB_HOME": str(self.home),
            "HF_HOME": str(folder / "hf"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "NO_COLOR": "1",
        }

    def __call__(self, *arguments: object, code: int = 0) -> str:
        done = subprocess.run(
            [TLHUB, *map(str, arguments)],
            env=self.env, cwd=self.cwd, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    def json(self, *arguments: object) -> dict[str, Any]:
        return json.loads(self(*arguments, "--json"))

    def python(self, program: str) -> subprocess.Popen[str]:
        """A process that says `ready` and then waits, unless it ends before."""
        head = "import os, sys, time; from pathlib import Path\n"
        head += "from tlhub.settings import Settings; settings = Settings.load()\n"
        code = head + textwrap.dedent(program)
        return subprocess.Popen(
            [sys.executable, "-c", code],
            env=self.env, cwd=self.cwd, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def put(self, days: float = 0, **bodies: bytes) -> list[Path]:
        """Pull files as they are, by their names; they were used so many days ago."""
        urls = []
        for name, body in bodies.items():
            file = self.publisher / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(body)
            urls.append(f"{file.as_uri()}#sha256={hashlib.sha256(body).hexdigest()}")
        folders = [Path(p) for p in self("pull", *urls, "--format", "original", "-q").split()]
        for path in (*folders, *map(self.blob, bodies.values())):
            self.age(path, days)
        return folders

    def age(self, path: Path, days: float) -> None:
        stamp = time.time() - days * DAY_S
        os.utime(path, (stamp, stamp))

    def blob(self, body: bytes) -> Path:
        sha256 = hashlib.sha256(body).hexdigest()
        return self.home / "blobs" / "sha256" / sha256[:2] / sha256

    def whole(self) -> None:
        """Every blob is what its name says, and every model folder is complete."""
        from converters.folder import ModelFolder

        for blob in (self.home / "blobs").rglob("*"):
            if blob.is_file():
                assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        for folder in (self.home / "models").glob("[!.]*"):
            ModelFolder.open(folder).verify()
