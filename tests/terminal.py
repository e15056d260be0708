"""The installed command as tests run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

TLHUB = Path(sys.executable).with_name("tlhub")
Run = Callable[..., subprocess.CompletedProcess[str]]
