"""The input size that a configuration of OpenMMLab prepares its images to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from catalog.harvesters.openmmlab_configs import Config

Size = tuple[int, int]

# Transform -> the arguments that say the size it gives; these write width before height.
_RESIZES = ("scale", "img_scale", "size", "input_size")
_TRANSFORMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Resize", "RResize", "LetterResize", "YOLOv5KeepRatioResize"), _RESIZES),
    **dict.fromkeys(("TopdownAffine", "BottomupResize", "MultiScaleFlipAug"), _RESIZES),
    **dict.fromkeys(("CenterCrop", "EfficientNetCenterCrop"), ("crop_size",)),
}
_CROPS: dict[str, tuple[str, ...]] = {"RandomResizedCrop": ("scale", "size")}


def size_of_config(config: Config) -> Size | None:
    """Height and width that images are brought to before the model is tested on them.

    Of a transformer made for one size that size, and of a segmenter, which is tested on whole
    images, the crops that it was trained on; so too where a model is only there to start others.
    """
    model = config.get("model")
    if isinstance(model, dict) and "decode_head" in model:
        prepared = config.get("data_preprocessor")
        said = prepared.get("size") if isinstance(prepared, dict) else None
        return _size(said or config.get("crop_size"), upright=True)
    found = _fixed(model)
    for name in () if found else ("test_pipeline", "val_pipeline"):
        for step in _steps(config.get(name) or _pipeline(config, name.partition("_")[0])):
            found = _step(step, _TRANSFORMS) or found
        if found:
            return found
    for step in _steps(config.get("train_pipeline")):
        found = found or _step(step, _CROPS)
    return found


def _fixed(model: Any) -> Size | None:
    backbone = model.get("backbone") if isinstance(model, dict) else None
    return _size(backbone.get("img_size"), upright=True) if isinstance(backbone, dict) else None


def _pipeline(config: Config, part: str) -> Any:
    older = config.get("data")
    loader = config.get(f"{part}_dataloader") or (isinstance(older, dict) and older.get(part))
    data = loader.get("dataset", loader) if isinstance(loader, dict) else None
    return data.get("pipeline") if isinstance(data, dict) else None


def _steps(pipeline: Any) -> Iterator[dict[str, Any]]:
    for step in pipeline if isinstance(pipeline, list | tuple) else ():
        if isinstance(step, dict):
            yield step
            inner = step.get("transforms")
            for each in inner if isinstance(inner, list | tuple) else ():
                # Several views of an image, each with steps of its own.
                nested = each if isinstance(each, list | tuple) else [each]
                yield from (item for item in nested if isinstance(item, dict))


def _step(step: dict[str, Any], transforms: dict[str, tuple[str, ...]]) -> Size | None:
    kind = str(step.get("type")).rpartition(".")[2]
    for name in transforms.get(kind, ()):
        if found := _size(step.get(name), upright=name == "crop_size"):
            return found
    return None


def _size(said: Any, *, upright: bool) -> Size | None:
    """A side or two of them; ``upright``: the height is written first."""
    pair = (said, said) if isinstance(said, int) else said
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    first, second = pair
    if not isinstance(first, int) or not isinstance(second, int) or min(first, second) < 16:
        return None
    return (first, second) if upright else (second, first)
