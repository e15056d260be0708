"""What a model card says in its metadata -> fields of a record.

A card is a `README.md` that begins with YAML between two lines `---`, as Hugging Face hubs read
it; the hubs' API gives the same metadata as `cardData`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from catalog.errors import IntegrityError, UnsafeError, UsageError
from catalog.harvesters.datasets import dataset_of_hub
from catalog.licenses import license_of
from catalog.model_index import Complain, evaluations
from catalog.record import License, Role, SourceDataset
from catalog.tasks import TASKS

_LONGEST = 200  # characters of a word
_MOST = 100  # values of a list
_FRONT = re.compile(r"﻿?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_RELATIONS = ("finetune", "quantized", "adapter")
# Tags of the hub that say what a field says too, or where it runs.
_NOISE = re.compile(
    r"[a-z_]+:.*|.*_compatible|(?:pytorch|safetensors|tf|jax|onnx|model-index|has_space|autotrain)"
)


def metadata(text: str) -> dict[str, Any]:
    """The metadata at the head of a card.

    Raises:
        UsageError: there is none, or it is no YAML.
        UnsafeError: it stands for more than a card can have to say.
    """
    found = _FRONT.match(text)
    if found is None:
        raise UsageError(
            "the card has no metadata: it does not begin with YAML between two lines `---`",
            hint="https://huggingface.co/docs/hub/model-cards says what goes there",
        )
    from catalog.harvesters import yamls  # here: most cards come as JSON

    try:
        said = yamls.load(found[1], "the metadata of the card")
    except UnsafeError:
        raise
    except IntegrityError as error:
        raise UsageError(error.message) from error
    if not isinstance(said, dict):
        raise UsageError(f"the metadata of the card is not fields but {said!r:.60}")
    return said


def fields(
    card: Mapping[str, Any],
    tags: tuple[str, ...] = (),
    *,
    complain: Complain,
    uid_of: Callable[[str], str] = "hf/{}".format,
) -> dict[str, Any]:
    """Fields of a record out of a card's metadata and of the hub's ``tags``.

    What cannot be understood is left out after ``complain`` was told the field. ``uid_of`` gives
    the uid of a repository on the hub.
    """
    said = [*tags, *_words(card, "tags", complain)]
    task = _task(card, complain)
    framework = word(card.get("library_name"))
    languages = _words(card, "language", complain)
    shown_elsewhere = {task, framework, *languages, "default"}  # `default` is the catalog's own
    bases = tuple(dict.fromkeys(_words(card, "base_model", complain)))
    relation = _relation(card, said, complain) if bases else None
    # What was trained further was trained on these; what was not, from the start.
    role: Role = "finetune" if relation in {"finetune", "adapter"} else "pretrain"
    return {
        "task": task,
        "modality": TASKS.get(task) if task else None,
        "framework": framework,
        "tags": tuple(
            dict.fromkeys(t for t in said if t not in shown_elsewhere and not _NOISE.fullmatch(t))
        )[:_MOST],
        "paper_ids": tuple(
            dict.fromkeys(m[1] for t in said if (m := re.fullmatch(r"arxiv:(\d{4}\.\d{4,5})", t)))
        ),
        "languages": tuple(dict.fromkeys(languages)),
        "source_datasets": tuple(
            SourceDataset(id=name, role=role)
            for name in dict.fromkeys(map(dataset_of_hub, _words(card, "datasets", complain)))
            if name
        ),
        "base_model": uid_of(bases[0]) if len(bases) == 1 else None,  # a merge has no one base
        "relation": relation,
        "license": _license(card, complain),
        "evals": evaluations(card.get("model-index"), complain),
    }


def word(value: Any) -> str | None:
    """A short text without control characters; None for anything else."""
    if not isinstance(value, str):
        return None
    plain = value.strip()
    return plain if plain.isprintable() and 0 < len(plain) <= _LONGEST else None


def summary(text: str) -> str | None:
    """The first paragraph of a card under its metadata, on one line."""
    body = text[found.end() :] if (found := _FRONT.match(text)) else text
    for paragraph in re.split(r"\n\s*\n", re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)):
        plain = " ".join(paragraph.split())
        if plain and plain.isprintable() and plain[0] not in "#<>|!`[-*=":
            return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1].rstrip()}…"
    return None


def _words(card: Mapping[str, Any], name: str, complain: Complain) -> list[str]:
    """A field that is one text or a list of them."""
    value = card.get(name)
    if value is None:
        return []
    if value is False and name == "language":  # as YAML reads Norwegian's `no`
        return ["no"]
    if not isinstance(value, str | list):
        complain(name, f"expected text or a list of texts, got {value!r:.60}")
        return []
    found = []
    for i, item in enumerate(value[:_MOST] if isinstance(value, list) else [value]):
        plain = "no" if item is False and name == "language" else word(item)
        if plain is None:
            complain(f"{name}[{i}]", f"expected a short text, got {item!r:.60}")
        else:
            found.append(plain)
    return found


def _task(card: Mapping[str, Any], complain: Complain) -> str | None:
    task = card.get("pipeline_tag")
    if task is None:
        return None
    if not isinstance(task, str) or task not in TASKS:
        from difflib import get_close_matches

        close = get_close_matches(str(task), TASKS, 1)
        near = f"; did you mean {close[0]}?" if close else ""
        complain("pipeline_tag", f"{task!r:.60} is no task{near}")
        return None
    return task


def _relation(card: Mapping[str, Any], tags: list[str], complain: Complain) -> str | None:
    """How it was made from its base: as the card says, or as the hub does in a tag."""
    said = card.get("base_model_relation")
    if said is not None and said not in (*_RELATIONS, "merge"):
        wanted = ", ".join(_RELATIONS)
        complain("base_model_relation", f"expected one of {wanted}, got {said!r:.60}")
    if said in _RELATIONS:
        return str(said)
    for relation in _RELATIONS:
        if any(tag.startswith(f"base_model:{relation}:") for tag in tags):
            return relation
    return None


def _license(card: Mapping[str, Any], complain: Complain) -> License | None:
    """The license that the card states of the weights it describes."""
    names = _words(card, "license", complain)
    if len(names) != 1:
        return None if not names else License(scope="weights", raw=", ".join(names))
    link, name = word(card.get("license_link")), word(card.get("license_name"))
    raw = name if names[0].lower() == "other" and name else names[0]
    found = license_of(raw, "weights")
    if found is None or found.url or link is None or not link.startswith("https://"):
        return found
    return msgspec.structs.replace(found, url=link)
