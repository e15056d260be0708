"""TorchGeo: every member of its weights enums, with the `meta` it carries, read as source."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from catalog.errors import TlhubError
from catalog.families import family_of, tags_of
from catalog.harvesters.datasets import dataset_id
from catalog.harvesters.entries import Facts, arxiv_ids, each, project_license, record
from catalog.harvesters.literals import constants, literal, parse
from catalog.harvesters.package import Package
from catalog.harvesters.timm import prefix_of
from catalog.licenses import license_of
from catalog.record import Artifact, License, ModelRecord, SourceDataset

if TYPE_CHECKING:
    from catalog.harvesters.counting import Counts

log = logging.getLogger(__name__)

Member = tuple[str, str, str, ast.Call, dict[str, Any], dict[str, ast.expr]]


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each set of weights of the wheel of `torchgeo`."""
    wheel = Package.open(package)
    license_ = project_license(wheel)
    yield from each(_members(wheel), lambda entry: _record(wheel, entry, license_), wheel.source)


def _members(wheel: Package) -> Iterator[tuple[str, Member]]:
    for path in wheel.matching("torchgeo/models/*.py"):
        try:
            module = parse(wheel, path)
        except TlhubError as error:
            log.warning("%s: %s", wheel.source, error)
            continue
        names = constants(module)
        values = {
            target.id: node.value
            for node in module.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for owner in module.body:
            if not isinstance(owner, ast.ClassDef) or not owner.name.endswith("_Weights"):
                continue
            for node in owner.body:
                match node:
                    case ast.Assign(
                        targets=[ast.Name(id=name)],
                        value=ast.Call(func=ast.Name(id="Weights")) as call,
                    ):
                        where = f"{path}, {owner.name}.{name}"
                        yield where, (path, owner.name, name, call, names, values)


def _record(wheel: Package, entry: Member, project: License | None) -> ModelRecord:
    path, owner, name, call, names, values = entry
    arguments = {item.arg: item.value for item in call.keywords if item.arg}
    url = literal(arguments["url"], names)
    meta = _meta(arguments["meta"], names)
    size = _input_size(arguments.get("transforms"), values, meta)
    task = _task(meta, name, owner)
    architecture = _architecture(owner, meta)
    family = _family(architecture)
    method = meta.get("ssl_method")
    tags = {*tags_of(family, architecture.lower())}
    if method:
        tags |= {"self-supervised", str(method)}
    if owner.startswith("Aurora"):
        tags.add("weather")
    elif "CITYSCAPES" not in name:
        tags.add("remote-sensing")
    counted = _counted(architecture, size or _any_size(architecture, meta))
    sets = str(meta.get("dataset") or "").partition(" - ")[0]
    data = [dataset_id(item.removesuffix(" Dataset")) for item in sets.split(", ") if item]
    classes = meta.get("num_classes")
    return record(
        f"torchgeo/{owner}.{name}",
        Facts(
            wheel.source,
            path,
            {
                "framework": "torchgeo",
                "architecture": architecture,
                "origin_url": meta.get("repo"),
                "paper_ids": arxiv_ids(str(meta.get("publication") or "")),
                "num_classes": classes if isinstance(classes, int) else None,
                "source_datasets": tuple(SourceDataset(id=i, role="pretrain") for i in data),
                "license": license_of(meta.get("license"), "weights"),
                "artifacts": (_artifact(url),),
            },
        ),
        Facts(
            wheel.source,
            path,
            {
                "task": task,
                "modality": "image",
                "family": family,
                "tags": tuple(sorted(tags)),
                "input_size": size,
                "params": counted and counted.params,
                "gmacs": counted.gmacs if counted and size else None,
                "gmacs_at": size if counted and counted.gmacs else None,
                "license": project,
            },
            derived=True,
        ),
    )


def _meta(node: ast.expr, names: dict[str, Any]) -> dict[str, Any]:
    """The entries that are literals; a dict may stand on another by ``|``."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _meta(node.left, names) | _meta(node.right, names)
    if isinstance(node, ast.Name):
        found = names.get(node.id)
        return found if isinstance(found, dict) else {}
    if not isinstance(node, ast.Dict):
        raise TypeError(f"meta is no dict: {ast.unparse(node)[:80]}")
    known: dict[str, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        try:
            if key is not None:
                known[literal(key, names)] = literal(value, names)
        except ValueError:
            continue
    return known


def _architecture(owner: str, meta: dict[str, Any]) -> str:
    """As `meta` says, but for ResNets: it calls those of ResNet-152 `resnet50`."""
    name = owner.removesuffix("_Weights")
    said = meta.get("model")
    return name.lower() if re.match(r"ResNet|CROMA", name) or not said else str(said)


def _family(architecture: str) -> str:
    name = architecture.lower().replace("u-net", "unet")
    return "aurora" if name.startswith("aurora") else family_of(re.sub(r"[^a-z0-9]+", "_", name))


def _any_size(architecture: str, meta: dict[str, Any]) -> tuple[Any, ...]:
    """Convolutions have the same parameters at every size, transformers those of their own."""
    own = architecture.startswith("resnet") or architecture.endswith("_224")
    sides = (224, 224) if own else (None, None)
    return (meta.get("in_chans"), *sides)


@cache
def _counted(architecture: str, size: tuple[Any, ...]) -> Counts | None:
    """Of the backbone without a head, where the architecture is one of timm's."""
    import timm

    if not timm.is_model(architecture) or not all(isinstance(side, int) for side in size):
        return None
    from catalog.harvesters.counting import CountCache

    fits: dict[str, Any] = {"img_size": size[1:]} if architecture.startswith("vit_") else {}
    return CountCache(None).get(
        f"{architecture} at {size}",
        lambda: timm.create_model(architecture, in_chans=size[0], num_classes=0, **fits),
        size,
    )


def _artifact(url: str) -> Artifact:
    """The file, by the repository and the revision that its URL names."""
    path = PurePosixPath(url)
    urls = [url]
    if match := re.fullmatch(
        r"https://(?:hf\.co|huggingface\.co)/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", url
    ):
        urls.insert(0, f"hf:{match[1]}@{match[2]}!{match[3]}")
    return Artifact(
        path=path.name,
        format="pytorch",
        urls=tuple(urls),
        digest=prefix_of(path),
        safe=False,
    )


def _task(meta: dict[str, Any], name: str, owner: str) -> str | None:
    if owner.startswith("Aurora"):
        return None  # weather
    dataset = str(meta.get("dataset") or "")
    if owner.startswith("Unet") or "segmentation" in dataset or "SEMSEG" in name:
        return "image-segmentation"
    return "image-feature-extraction"


def _input_size(
    node: ast.expr | None, values: dict[str, ast.expr], meta: dict[str, Any]
) -> tuple[int, ...] | None:
    """The channels of the images and the last size that the transforms resize or crop to."""
    channels = meta.get("in_chans")
    if isinstance(node, ast.Name):
        node = values.get(node.id)
    if node is None or not isinstance(channels, int):
        return None
    side: tuple[int, ...] | None = None
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
    for call in sorted(calls, key=lambda n: (n.lineno, n.col_offset)):
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in (
            "CenterCrop",
            "Resize",
        ):
            continue
        arguments = [*call.args, *(k.value for k in call.keywords if k.arg == "size")]
        try:
            value = literal(arguments[0])
        except (IndexError, ValueError):
            continue
        if isinstance(value, int):
            side = (value, value)
        elif isinstance(value, tuple | list) and len(value) == 2:
            side = tuple(value)
    if side is None and isinstance(meta.get("img_size"), int):
        side = (meta["img_size"],) * 2
    return (channels, *side) if side else None
