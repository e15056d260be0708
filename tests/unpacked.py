"""Wheels as they lie unpacked, made up for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def unpacked(
    folder: Path, name: str, files: Mapping[str, str | bytes], license_: str | None = None
) -> Path:
    """``folder``, now with the metadata of distribution ``name`` 1.0 and ``files``."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    if license_:
        metadata += f"License-Expression: {license_}\n"
    for path, content in {f"{name}-1.0.dist-info/METADATA": metadata, **files}.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
