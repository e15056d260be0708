"""A few lines to copy: how to use a model with tlhub, or with the library it comes from."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from catalog.errors import NotFoundError
from catalog.record import ModelRecord
from converters.registry import FRAMEWORKS
from tlhub.api import weights_of

_KERAS = re.compile(
    r"(?P<name>[A-Za-z]\w*?)(?:(?P<mini>_minimalistic)?_(?P<alpha>\d\.\d+)_(?P<side>\d+))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Snippet:
    """Code that works as it stands once what the title names is installed."""

    title: str
    code: str


def of(record: ModelRecord) -> tuple[Snippet, ...]:
    """Ways to use the weights of ``record``, from every home of theirs that we know the ways of."""
    found = list(_ours(record)) if can_pull(record) else []
    for uid in (record.uid, *record.also):
        source, _, name = uid.partition("/")
        if source in _LIBRARIES and (snippet := _LIBRARIES[source](name)):
            found.append(snippet)
    if record.framework == "sentence-transformers" and record.hf_hub_id:
        found.append(_sentence_transformers(record.hf_hub_id))
    return tuple(found)


def can_pull(record: ModelRecord) -> bool:
    """Whether `tlhub pull` knows how to convert it, as far as the record tells."""
    try:
        weights_of(record)
    except NotFoundError:
        return False
    classifier = record.task == "image-classification" and record.architecture is not None
    return record.framework in FRAMEWORKS and classifier and bool(record.num_classes)


def _ours(record: ModelRecord) -> Iterator[Snippet]:
    uid = shlex.quote(record.uid)
    yield Snippet("tlhub", f"tlhub pull {uid}\ntlhub predict {uid} photo.jpg")
    yield Snippet(
        "Python",
        f"import tlhub\n\nmodel = tlhub.load({_quoted(record.uid)})\n"
        'print(model.predict(["photo.jpg"]))',
    )
    yield Snippet(
        "ONNX Runtime, with the model.onnx that `tlhub pull` makes",
        "import numpy, onnxruntime, PIL.Image\n\n"
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        'photo = numpy.asarray(PIL.Image.open("photo.jpg").convert("RGB"))[None]\n'
        '(probabilities,) = session.run(["probabilities"], {"image": photo})',
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _timm(name: str) -> Snippet:
    return Snippet(
        "timm", f"import timm\n\nmodel = timm.create_model({_quoted(name)}, pretrained=True)"
    )


def _torchvision(name: str) -> Snippet:
    builder, _, weights = name.partition(".")
    call = f"torchvision.models.get_model({_quoted(builder)}, weights={_quoted(weights)})"
    return Snippet("torchvision", f"import torchvision\n\nmodel = {call}")


def _open_clip(name: str) -> Snippet:
    architecture, _, tag = name.partition("/")
    made = "model, _, preprocess = open_clip.create_model_and_transforms("
    call = f"{made}{_quoted(architecture)}, pretrained={_quoted(tag)})"
    tokenizer = f"tokenizer = open_clip.get_tokenizer({_quoted(architecture)})"
    return Snippet("open_clip", f"import open_clip\n\n{call}\n{tokenizer}")


def _sentence_transformers(hub_id: str) -> Snippet:
    return Snippet(
        "sentence-transformers",
        "from sentence_transformers import SentenceTransformer\n\n"
        f'embeddings = SentenceTransformer({_quoted(hub_id)}).encode(["a sentence"])',
    )


def _keras(name: str) -> Snippet | None:
    match = _KERAS.fullmatch(name)
    if match is None:
        return None
    options = 'weights="imagenet"'
    if match["side"]:
        options += f", alpha={match['alpha']}, input_shape=({match['side']}, {match['side']}, 3)"
        options += ", minimalistic=True" if match["mini"] else ""
    call = f"keras.applications.{match['name']}({options})"
    return Snippet("Keras", f"import keras\n\nmodel = {call}")


def _keras_hub(name: str) -> Snippet:
    call = f"keras_hub.models.Backbone.from_preset({_quoted(name)})"
    return Snippet("KerasHub", f"import keras_hub\n\nbackbone = {call}")


_LIBRARIES: dict[str, Callable[[str], Snippet | None]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "open_clip": _open_clip,
    "keras": _keras,
    "keras-hub": _keras_hub,
}
