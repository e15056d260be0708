"""`preprocessor_config.json` of transformers: what it does to a photo, in its old and new layouts.

Read without the library. What a file leaves out, the class that it names has as its default; what
cannot be said by a `Preprocess` is refused with the reason.

Sources: transformers' `image_processing_backends.py` and `models/*/image_processing_*.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor
from typing import Any

from catalog.errors import ConversionError
from catalog.record import Preprocess

_HALF = (0.5, 0.5, 0.5)
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_NAMES = {2: "bilinear", 3: "bicubic"}  # of Pillow's filters
_OTHERS = {0: "nearest", 1: "lanczos", 4: "box", 5: "hamming"}
_LARGEST_SIDE = 4096
_WARPED_FROM = 384  # ConvNeXt crops nothing from this side on
_CONVNEXT = "ConvNextImageProcessor"

Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class _Defaults:
    """What a class of transformers does unless a file says otherwise."""

    size: int
    square: bool = True  # a size that is one number is of both sides, not of the shorter
    resample: int = 3
    crop: bool = False
    mean: tuple[float, ...] = _HALF
    std: tuple[float, ...] = _HALF


CLASSES = {
    "BeitImageProcessor": _Defaults(224),
    "BitImageProcessor": _Defaults(224, square=False, crop=True, mean=_CLIP[0], std=_CLIP[1]),
    "CLIPImageProcessor": _Defaults(224, square=False, crop=True, mean=_CLIP[0], std=_CLIP[1]),
    _CONVNEXT: _Defaults(384, square=False),
    "DeiTImageProcessor": _Defaults(256, crop=True),
    "MobileNetV2ImageProcessor": _Defaults(256, square=False, resample=2, crop=True),
    "SiglipImageProcessor": _Defaults(224, square=False),
    "ViTImageProcessor": _Defaults(224, resample=2),
}
# That of SigLIP counts one number as the shorter side, though by itself it is of both.
_SQUARE_BY_ITSELF = ("SiglipImageProcessor",)
_CROP = 224
_CROP_PCT = 224 / 256


@dataclass(frozen=True)
class ImageProcessor:
    """What is done to a photo, every choice spelled out."""

    name: str  # of its class in transformers
    options: Mapping[str, Any] = field(default_factory=dict)  # by its arguments, all checked

    @classmethod
    def of(cls, said: Mapping[str, Any], own: str) -> ImageProcessor:
        """As a file says; where it names no class, it is of the model's ``own``.

        Raises:
            ConversionError: the class is not known, or what it says makes no sense; the message is
                half a sentence.
        """
        name = _name(said, own)
        default = CLASSES[name]
        by_itself: dict[str, int] = _square(default.size)
        if not default.square and name not in _SQUARE_BY_ITSELF:
            by_itself = {"shortest_edge": default.size}
        options: dict[str, Any] = {
            "do_resize": _flag(said, "do_resize", default=True),
            "size": _size(said.get("size"), "size", by_itself, square=default.square),
            "resample": _given(said, "resample", default.resample),
            "do_center_crop": _flag(said, "do_center_crop", default=default.crop),
            "crop_size": _size(said.get("crop_size"), "crop_size", _square(_CROP), square=True),
            "do_rescale": _flag(said, "do_rescale", default=True),
            "rescale_factor": _number(said, "rescale_factor", 1 / 255),
            "do_normalize": _flag(said, "do_normalize", default=True),
            "image_mean": _channels(said, "image_mean", default.mean),
            "image_std": _channels(said, "image_std", default.std),
        }
        if name == _CONVNEXT:
            options["crop_pct"] = _number(said, "crop_pct", _CROP_PCT)
        for key in ("do_pad", "do_flip_channel_order", "use_square_size"):
            if said.get(key):
                raise ConversionError(
                    f"its photos are prepared with {key}, not done in a graph yet"
                )
        return cls(name, options)

    def recipe(self) -> tuple[Preprocess, Size]:
        """The same as a record says it, and (height, width) of the tensor that it makes.

        Raises:
            ConversionError: a graph cannot do it; the message is half a sentence.
        """
        if not self.options["do_resize"]:
            raise ConversionError("its photos are not resized, so that they have no one size")
        resample = self.options["resample"]
        if resample not in _NAMES:
            known = _OTHERS.get(resample, repr(resample)) if isinstance(resample, int) else resample
            raise ConversionError(f"its photos are resized by {known}, not done exactly in a graph")
        mode, resized, crop = self._resizing()
        pct = _crop_pct(resized, crop, mode)
        mean, std = self._normalization()
        how = Preprocess(
            mean=mean,
            std=std,
            interpolation=_NAMES[resample],  # type: ignore[arg-type]
            crop_pct=pct,
            resize_mode=mode,  # type: ignore[arg-type]
            crop_offset="rounded" if (mode, pct) == ("squash", 1.0) else "floor",
        )
        return how, crop

    def _resizing(self) -> tuple[str, Size, Size]:
        """How sides are resized, to what, and what is cut out of that."""
        size = self.options["size"]
        crop = self.options["crop_size"] if self.options["do_center_crop"] else None
        cut = (crop["height"], crop["width"]) if crop is not None else None
        if self.name == _CONVNEXT:
            return self._like_convnext(size, cut)
        if {*size} == {"height", "width"}:
            whole = (size["height"], size["width"])
            return "squash", whole, cut or whole
        if {*size} != {"shortest_edge"}:
            raise ConversionError(f"its photos are resized to {', '.join(size)}, not done yet")
        if cut is None:
            raise ConversionError(
                "its photos keep their proportions and are not cropped, so that they have no one "
                "size"
            )
        if cut[0] != cut[1]:
            raise ConversionError(f"its photos are resized by a side and cropped to {cut}")
        return "shortest", (size["shortest_edge"],) * 2, cut

    def _like_convnext(self, size: Mapping[str, int], cut: Size | None) -> tuple[str, Size, Size]:
        if {*size} != {"shortest_edge"}:
            raise ConversionError(f"its {_CONVNEXT} wants a shortest_edge, not {', '.join(size)}")
        side = size["shortest_edge"]
        if cut not in {None, (side, side)}:
            raise ConversionError(f"its photos are cropped twice, to {side} and {cut}")
        if side >= _WARPED_FROM:
            return "squash", (side, side), (side, side)
        pct = self.options["crop_pct"]
        if not 0 < pct <= 1:
            raise ConversionError(f"its crop_pct is {pct}, not in (0, 1]")
        return "shortest", (int(side / pct),) * 2, (side, side)

    def _normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of values in 0..1, whatever range the network's own are of."""
        mean, std = (0.0,) * 3, (1.0,) * 3
        if self.options["do_normalize"]:
            mean, std = self.options["image_mean"], self.options["image_std"]
        range_ = 255 * self.options["rescale_factor"] if self.options["do_rescale"] else 255.0
        if abs(range_ - 1) < 1e-6:  # 0.00392156862745098 and its like
            return mean, std
        return tuple(m / range_ for m in mean), tuple(s / range_ for s in std)


def _name(said: Mapping[str, Any], own: str) -> str:
    if said.get("auto_map"):
        raise ConversionError("its photos are prepared by code of its own (`auto_map`), never run")
    name = said.get("image_processor_type") or said.get("feature_extractor_type")
    if name is None:
        return own
    if not isinstance(name, str):
        raise ConversionError(f"its image processor makes no sense: {name!r}")
    plain = name.replace("FeatureExtractor", "ImageProcessor")
    plain = plain.removesuffix("Fast").removesuffix("Pil")
    if plain not in CLASSES:
        raise ConversionError(f"its image processor, {name}, is not known yet")
    return plain


def _crop_pct(resized: Size, crop: Size, mode: str) -> float:
    """The fraction that a record has for a crop out of what was resized."""
    if resized == crop:
        return 1.0
    if any(part > whole for part, whole in zip(crop, resized, strict=True)):
        raise ConversionError(f"its photos are padded, from {resized} to {crop}: not done yet")
    for pct in {c / r for c, r in zip(crop, resized, strict=True)}:
        if all(floor(c / pct + 1e-6) == r for c, r in zip(crop, resized, strict=True)):
            return pct
    raise ConversionError(f"its photos are resized ({mode}) to {resized} and cropped to {crop}")


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _size(said: Any, key: str, default: dict[str, int], *, square: bool) -> dict[str, int]:
    """A size in its new layout, of one number, two, or names."""
    if said is None:
        return default
    if isinstance(said, list) and len(said) == 2:
        said = {"height": said[0], "width": said[1]}
    elif isinstance(said, int) and not isinstance(said, bool):
        said = _square(said) if square else {"shortest_edge": said}
    if isinstance(said, dict):
        said = {name: value for name, value in said.items() if value is not None}
    numbers = said.values() if isinstance(said, dict) else [None]
    whole = all(isinstance(n, int) and 0 < n <= _LARGEST_SIDE for n in numbers)
    if not said or not whole:
        raise ConversionError(f"its {key} makes no sense: {said!r}")
    if key == "crop_size" and {*said} != {"height", "width"}:
        raise ConversionError(f"its {key} is no height and width: {said!r}")
    return dict(said)


def _given(said: Mapping[str, Any], key: str, default: Any) -> Any:
    value = said.get(key)
    return default if value is None else value


def _flag(said: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = _given(said, key, default)
    if not isinstance(value, bool):
        raise ConversionError(f"its {key} makes no sense: {value!r}")
    return value


def _number(said: Mapping[str, Any], key: str, default: float) -> float:
    value = _given(said, key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ConversionError(f"its {key} makes no sense: {value!r}")
    return float(value)


def _channels(said: Mapping[str, Any], key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """A number for each of three channels."""
    value = _given(said, key, list(default))
    if isinstance(value, int | float):
        value = [value] * 3
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(isinstance(n, int | float) and abs(n) <= 1000 for n in value)
        or (key == "image_std" and not all(value))
    ):
        raise ConversionError(f"its {key} makes no sense: {value!r}")
    return tuple(map(float, value))
