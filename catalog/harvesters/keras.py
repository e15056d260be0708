"""keras.applications: the files with a classifier, their digests and URLs from Keras' source.

`src/applications/*.py` is read as data. Which weights a builder has is in the table below, put
together by hand from that source; URL, digest and preprocessing come from the package read. The
files without the top layer are the same weights again and make no records of their own.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from catalog.errors import TlhubError
from catalog.families import family_of, tags_of
from catalog.harvesters.modules import Call, Module, Modules
from catalog.harvesters.package import Package
from catalog.licenses import license_of
from catalog.record import Artifact, Digest, Evaluation, ModelRecord, Provenance, SourceDataset

log = logging.getLogger(__name__)

FOLDER = "keras/src/applications"
_TF = "weights_tf_dim_ordering_tf_kernels"
_MODES = {
    "tf": "RGB scaled to -1..1",
    "torch": "RGB scaled to 0..1, then normalized with ImageNet's mean and deviation",
    "caffe": "BGR in 0..255, minus ImageNet's mean",
}


@dataclass(frozen=True)
class _Model:
    name: str
    module: str  # of the builder
    file: str  # the last part of the URL
    side: int
    paper: str
    key: str | None = None  # in WEIGHTS_HASHES
    home: str = ""  # the module that loads the weights, where it is another
    alpha: float = 1.0
    row: str = ""  # of the table in the docstring

    @property
    def source(self) -> str:
        return f"{FOLDER}/{self.home or self.module}.py"


def _models() -> Iterator[_Model]:
    yield _Model("Xception", "xception", f"xception_{_TF}.h5", 299, "1610.02357")
    for depth in (16, 19):
        yield _Model(f"VGG{depth}", f"vgg{depth}", f"vgg{depth}_{_TF}.h5", 224, "1409.1556")
    yield _Model("InceptionV3", "inception_v3", f"inception_v3_{_TF}.h5", 299, "1512.00567")
    file = f"inception_resnet_v2_{_TF}.h5"
    yield _Model("InceptionResNetV2", "inception_resnet_v2", file, 299, "1602.07261")
    for depth in (121, 169, 201):
        file = f"densenet{depth}_{_TF}.h5"
        yield _Model(f"DenseNet{depth}", "densenet", file, 224, "1608.06993")
    yield _Model("NASNetMobile", "nasnet", "NASNet-mobile.h5", 224, "1707.07012")
    yield _Model("NASNetLarge", "nasnet", "NASNet-large.h5", 331, "1707.07012")
    for depth in (50, 101, 152):
        for suffix, module, paper in (
            ("", "resnet", "1512.03385"),
            ("V2", "resnet_v2", "1603.05027"),
        ):
            name = f"ResNet{depth}{suffix}"
            key = name.lower()
            yield _Model(name, module, f"{key}_{_TF}.h5", 224, paper, key, home="resnet")
    yield from _mobilenets()
    for number, side in enumerate((224, 240, 260, 300, 380, 456, 528, 600)):
        name, file = f"EfficientNetB{number}", f"efficientnetb{number}.h5"
        yield _Model(name, "efficientnet", file, side, "1905.11946", f"b{number}")
    sides = {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "-s": 384, "-m": 480, "-l": 480}
    for key, side in sides.items():
        size = key.removeprefix("-")
        name, file = f"EfficientNetV2{size.upper()}", f"efficientnetv2-{size}.h5"
        yield _Model(name, "efficientnet_v2", file, side, "2104.00298", key)
    for size in ("Tiny", "Small", "Base", "Large", "XLarge"):
        key = f"convnext_{size.lower()}"
        yield _Model(f"ConvNeXt{size}", "convnext", f"{key}.h5", 224, "2201.03545", key)


def _mobilenets() -> Iterator[_Model]:
    for alpha, text in ((1.0, "1_0"), (0.75, "7_5"), (0.5, "5_0"), (0.25, "2_5")):
        for side in (224, 192, 160, 128):
            name = "MobileNet" if (alpha, side) == (1.0, 224) else f"MobileNet_{alpha}_{side}"
            file = f"mobilenet_{text}_{side}_tf.h5"
            yield _Model(name, "mobilenet", file, side, "1704.04861", alpha=alpha)
    for alpha in (1.0, 1.4, 1.3, 0.75, 0.5, 0.35):
        for side in (224, 192, 160, 128, 96) if alpha <= 1 else (224,):
            name = "MobileNetV2" if (alpha, side) == (1.0, 224) else f"MobileNetV2_{alpha}_{side}"
            file = f"mobilenet_v2_{_TF}_{alpha}_{side}.h5"
            yield _Model(name, "mobilenet_v2", file, side, "1801.04381", alpha=alpha)
    for size in ("large", "small"):
        for kind, alpha in (("", 1.0), ("", 0.75), ("minimalistic_", 1.0)):
            plain = not kind and alpha == 1.0
            name = f"MobileNetV3{size.title()}" + ("" if plain else f"_{kind}{alpha}_224")
            key = f"{size}_{kind}224_{alpha}_float"
            file = f"weights_mobilenet_v3_{key}.h5"
            row = f"mobilenet_v3_{size}_{kind}{alpha}_224"
            yield _Model(name, "mobilenet_v3", file, 224, "1905.02244", key, alpha=alpha, row=row)


def harvest(package: Path) -> Iterator[ModelRecord]:
    """A record for each set of ImageNet weights with its classifier.

    Args:
        package: the wheel of Keras 3, or the folder it is unpacked in.

    Raises:
        TlhubError: the package cannot be read.
    """
    wheel = Package.open(package)
    modules = Modules(wheel)
    for model in _models():
        try:
            yield _record(wheel, modules, model)
        except (TlhubError, LookupError, TypeError) as error:
            log.warning("%s: no weights of %s (%r)", model.source, model.name, error)


def _record(wheel: Package, modules: Modules, model: _Model) -> ModelRecord:
    source = modules.module(model.source)
    url, digest = _file(source, model)
    size = (3, model.side, model.side)
    table = _table(source).get(model.row)
    family = "nasnet" if model.module == "nasnet" else family_of(model.name)
    told = ("params", "gmacs", "evals") if table else ()
    return ModelRecord(
        uid=f"keras/{model.name}",
        task="image-classification",
        modality="image",
        framework="keras",
        architecture=model.name.partition("_")[0],
        family=family,
        description=_description(modules.module(f"{FOLDER}/{model.module}.py"), model),
        tags=tags_of(family, model.name.lower()),
        paper_ids=(model.paper,),
        source_datasets=(SourceDataset(id="imagenet-1k", role="pretrain"),),
        num_classes=1000,
        label_set="imagenet-1k",
        params=round(table[1] * 1e6) if table else None,
        gmacs=table[0] / 1000 if table else None,
        gmacs_at=size if table else None,
        input_size=size,
        license=license_of(wheel.license, "project"),
        evals=(
            Evaluation(
                task_type="image-classification",
                dataset="imagenet-1k",
                split="validation",
                metric_type="top1",
                value=table[2],
                unit="%",
                eval_input_size=size,
            ),
        )
        if table
        else (),
        artifacts=(
            Artifact(
                path=url.rpartition("/")[2],
                format="keras",
                precision="fp32",
                urls=(url,),
                digest=digest,
                safe=True,  # an HDF5 file of arrays
            ),
        ),
        provenance=(
            Provenance(
                fields=(
                    *("task", "framework", "architecture", "paper_ids", "source_datasets"),
                    *("num_classes", "input_size", "license", "artifacts", *told),
                ),
                source=wheel.source,
                path=model.source,
            ),
            Provenance(
                fields=("modality", "family", "tags", "label_set"),
                source=wheel.source,
                derived=True,
            ),
        ),
    )


def _file(source: Module, model: _Model) -> tuple[str, Digest | None]:
    if model.key is not None:
        value = source.get("WEIGHTS_HASHES")[model.key][0]
        return _base(source) + model.file, _digest(value)
    for call in _downloads(source):
        url = call.arguments[1]
        if isinstance(url, str) and url.endswith(f"/{model.file}"):
            return url, _digest(call.keywords["file_hash"])
    if any("file_hash" in call.keywords for call in _downloads(source)):
        raise LookupError(f"no URL ends in {model.file}")
    return _base(source) + model.file, None  # MobileNet and MobileNetV2 publish no digest


def _base(source: Module) -> str:
    name = next((name for name in source.names if name.startswith("BASE_WEIGHT")), "BASE_WEIGHTS")
    found = source.get(name) if name in source.names else None
    if not isinstance(found, str) or not found.startswith("https://"):
        raise LookupError(f"{name} is {found!r}")
    return found


def _digest(value: object) -> Digest:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", value):
        raise LookupError(f"{value!r} is no digest")
    return Digest(algorithm="md5" if len(value) == 32 else "sha256", value=value)


def _downloads(source: Module) -> Iterator[Call]:
    """The calls of `get_file`; names set just before one, in the same block, are known to it."""
    for node in ast.walk(source.tree):
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            local: dict[str, object] = {}
            for statement in block if isinstance(block, list) else ():
                match statement:
                    case ast.Assign(targets=[ast.Name(id=name)], value=value):
                        local[name] = source.value(value, local)
                        found = local[name]
                        if isinstance(found, Call) and found.function == "file_utils.get_file":
                            yield found


def _description(builder: Module, model: _Model) -> str:
    calls = builder.calls("imagenet_utils.preprocess_input")
    modes = [_MODES[call.keywords["mode"]] for call in calls if call.keywords.get("mode") in _MODES]
    width = f" of width {model.alpha}" if model.alpha != 1 else ""
    name = model.name.partition("_")[0]
    takes = modes[0] if modes else "RGB in 0..255, scaled inside the model"
    return f"{name}{width} with ImageNet weights. Its input is {takes}."


def _table(source: Module) -> dict[str, tuple[float, float, float]]:
    """The rows of MobileNetV3's docstring: 1e6 MACs, 1e6 parameters, top-1 in percent."""
    text = source.get("BASE_DOCSTRING")
    pattern = r"\| (\S+)\s*\|\s*([\d.]+)\s*\|\s*([\d.]+)\s*\|\s*([\d.]+)\s*\|"
    rows = re.findall(pattern, text) if isinstance(text, str) else []
    return {name: (float(macs), float(params), float(top1)) for name, macs, params, top1 in rows}
