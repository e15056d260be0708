"""The models that OpenMMLab's metafiles list, one value for each file of weights."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote

from catalog.errors import TlhubError
from catalog.harvesters.openmmlab_names import unfit
from catalog.harvesters.package import Package

log = logging.getLogger(__name__)

_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Entry:
    """One file of weights in a metafile."""

    metafile: str
    model: dict[str, Any]
    collection: dict[str, Any]
    url: str
    name: str
    part: bool = False  # one of the several files of a tracker, say

    @property
    def label(self) -> str:
        """The name of the file without its date and hash."""
        return re.sub(r"[_-](?:20\d{6}_\d{6}-)?[0-9a-f]{8}$", "", stem(self.url) or "")

    @property
    def unfit(self) -> int:
        """How many words of the name speak neither of the address nor of the data tested on."""
        tested = [text_of(item.get("Dataset")) for item in results_of(self.model)]
        joined = [re.sub(r"[^A-Za-z\d]", "", item) for item in tested]
        return unfit(self.name, " ".join([self.url, *tested, *joined]))


def entries(package: Package) -> list[Entry]:
    """What the metafiles of a wheel list, each file once for each name that fits it."""
    return _owned(list(_entries(package)))


def _entries(package: Package) -> Iterator[Entry]:
    collections: dict[str, dict[str, Any]] = {}
    found: list[tuple[str, dict[str, Any]]] = []
    for path in package.names:
        if "/.mim/configs/" not in path or not path.endswith((".yml", ".yaml")):
            continue
        try:
            content = package.yaml(path)
        except TlhubError as error:
            log.warning("%s: %s", path, error)
            continue
        content = content if isinstance(content, dict) else {}
        for item in as_list(content.get("Collections")):
            if isinstance(item, dict) and isinstance(item.get("Name"), str):
                collections.setdefault(item["Name"], item)
        found += [(path, item) for item in as_list(content.get("Models"))]
    for path, model in found:
        if not isinstance(model, dict) or not isinstance(model.get("Name"), str):
            log.warning("%s: a model without a name: %.60s", path, text_of(model))
            continue
        name = model["Name"]
        belongs = model.get("In Collection", model.get("In Collections"))
        collection = collections.get(belongs, {}) if isinstance(belongs, str) else {}
        urls = [_url(item) for item in as_list(model.get("Weights"))]
        if None in urls:
            log.warning("%s: %s has no address of weights", path, name)
        for url in filter(None, urls):
            entry = Entry(path, model, collection, url, name)
            yield replace(entry, name=entry.label, part=True) if len(urls) > 1 else entry


def _owned(entries: list[Entry]) -> list[Entry]:
    """Each file once for each name that fits it, the entry that fits best first.

    Where several names of a package point at one file, those that speak of something else than
    the file's address does were pasted wrongly; the same name again adds its results.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.url, []).append(entry)
    kept: list[Entry] = []
    for group in groups.values():
        whole = [entry for entry in group if not entry.part] or group[:1]
        best = min(entry.unfit for entry in whole)
        named: dict[str, Entry] = {}
        for entry in whole:
            if entry.unfit > best:
                log.warning("%s: %s has the address of other weights", entry.metafile, entry.name)
            elif entry.name in named:
                first = named[entry.name]
                results = [*results_of(first.model), *results_of(entry.model)]
                named[entry.name] = replace(first, model={**first.model, "Results": results})
            else:
                named[entry.name] = entry
        kept += named.values()
    return sorted(kept, key=lambda entry: entry.unfit)


def as_list(value: Any) -> list[Any]:
    """What may be one value or a list of them."""
    return value if isinstance(value, list) else [] if value is None else [value]


def results_of(model: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of a model, of which one alone may stand without a list."""
    return [item for item in as_list(model.get("Results")) if isinstance(item, dict)]


def metadata_of(item: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a model or a collection."""
    found = item.get("Metadata", item.get("metadata"))
    return found if isinstance(found, dict) else {}


def text_of(value: Any) -> str:
    """A plain value as text, and nothing of a mapping or a list: aliases make those endless."""
    return str(value) if isinstance(value, str | int | float) else ""


def stem(path: Any) -> str | None:
    """The last part of a path or an address, without its ending."""
    return unquote(PurePosixPath(path).stem) if isinstance(path, str) else None


def _url(said: Any) -> str | None:
    """The address of a file or of a Hugging Face repository; None where there is none."""
    url = said.strip("()<> ") if isinstance(said, str) else ""
    return url if re.fullmatch(r"https://[^\s/]+/\S*[^/\s]", url) else None


def size_of(metadata: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of `Resolution: 224x224`, or those at which speed was measured."""
    timings = as_list(metadata.get("inference time (ms/im)"))
    timed = [item.get("resolution") for item in timings if isinstance(item, dict)]
    for said in (metadata.get("Resolution"), *timed):
        match = re.fullmatch(r"\(?(\d+)(?:x|, ?)(\d+)\)?", text_of(said))
        if match:
            height, width = sorted((int(match[1]), int(match[2])))
            return height, width
    return None


def count_of(metadata: dict[str, Any], keys: dict[str, str]) -> int | None:
    """The first of the figures, each with the unit its key implies: 25557032, `33.02M`, 6.5 M."""
    for key, unit in keys.items():
        match = re.fullmatch(r"([\d.]+) ?([KMGT]?)", text_of(metadata.get(key)))
        if match:
            count = float(match[1]) * _UNITS[match[2] or unit]
            return round(count) if count >= 1 else None
    return None


def papers_of(said: Any) -> tuple[str, ...]:
    """The arXiv identifiers in a `Paper`, which is an address, a mapping or a list of either."""
    found: list[str] = []
    for paper in as_list(said):
        url = paper.get("URL") if isinstance(paper, dict) else paper
        found += re.findall(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})", text_of(url))
    return tuple(dict.fromkeys(found))


def base_of(model: dict[str, Any]) -> tuple[str | None, Literal["quantized", "converted"] | None]:
    """What the weights were made of: a uid, a Hugging Face repository or a file's address."""
    whole = metadata_of(model).get("Float Model")
    config = whole.get("Config") if isinstance(whole, dict) else None
    if isinstance(config, str) and "::" in config:
        return f"{config.partition('::')[0]}/{stem(config)}", "quantized"
    origin = model.get("Converted From")
    weights = origin.get("Weights") if isinstance(origin, dict) else None
    url = weights.strip() if isinstance(weights, str) else ""
    repository = re.fullmatch(r"https://huggingface\.co/([^/]+/[^/]+)(?:/tree/main)?/?", url)
    if repository:
        return repository[1], "converted"
    if re.fullmatch(r"https://\S+\.(?:pth|pt|npz|pkl|pyth|bin|safetensors|tar)(?:\.tar)?", url):
        return url, "converted"
    return None, None
