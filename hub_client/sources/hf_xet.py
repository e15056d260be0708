"""Large files by Xet, which only `hf_xet` speaks, where a hub offers that; HTTP is what is left."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import huggingface_hub as hub
from huggingface_hub import constants

from catalog.errors import AccessError, StorageError
from hub_client.network import Http
from hub_client.progress import Progress
from hub_client.sources.hf_errors import RepoFile, explained, file_url
from hub_client.sources.hf_listing import headers_of

log = logging.getLogger(__name__)

_XET_BYTES = 16 << 20  # below, asking for it costs more than it can save


def by_xet(
    file: RepoFile,
    size_bytes: int,
    *,
    endpoint: str,
    token: str | None,
    cache: Path,
    progress: Progress,
    http: Http,
) -> None:
    """Bring one file at a commit into the cache, if its hub offers Xet; it is not yet verified.

    Raises:
        AccessError, StorageError: it must not be had, or cannot be written.
    """
    if size_bytes < _XET_BYTES or not _has_xet():
        return
    try:
        said = http.head(file_url(endpoint, file), private=headers_of(token))
        if constants.HUGGINGFACE_HEADER_X_XET_HASH not in said.headers:
            return
        with explained(file):
            hub.hf_hub_download(
                file.repo,
                file.path,
                revision=file.revision,
                cache_dir=cache,
                endpoint=endpoint,
                token=token or False,
                tqdm_class=_bar(progress, file.path),
            )
    except (StorageError, AccessError):
        raise
    except Exception as error:  # hf_xet raises its own; HTTP will say what is wrong
        log.warning("%s does not come by Xet, trying HTTP: %s", file.path, error)


def _has_xet() -> bool:
    return not constants.HF_HUB_DISABLE_XET and importlib.util.find_spec("hf_xet") is not None


def _bar(progress: Progress, label: str) -> type[Any]:
    """A class in the place of `huggingface_hub`'s progress bar: it tells us, and shows nothing."""
    from huggingface_hub.utils import tqdm as hub_bar  # type: ignore[attr-defined]

    class Bar(hub_bar):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._seen = int(kwargs.get("initial") or 0)
            self._total = kwargs.get("total")
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            self._seen += int(n or 0)
            progress(label, self._seen, self._total)
            return None

    return Bar
