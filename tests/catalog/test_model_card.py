from __future__ import annotations

import time
from typing import NoReturn

import pytest

from catalog.errors import IntegrityError, UnsafeError, UsageError
from catalog.model_card import fields, metadata, summary

CARD = """---
license: other
license_name: acme-1.0
license_link: https://acme.example/license
language: no
tags: [insects]
pipeline_tag: image-classification
base_model: [timm/resnet50.a1_in1k]
base_model_relation: finetune
---
<!-- made by a tool -->
# A title

Tells ants
from bees.
"""


def refuse(field: str, wrong: str) -> NoReturn:
    raise UsageError(f"{field}: {wrong}")


def test_a_card_says_fields() -> None:
    found = fields(metadata(CARD), complain=refuse)
    assert found["task"] == "image-classification"
    assert found["languages"] == ("no",)
    assert found["license"].raw == "acme-1.0"
    assert found["license"].url == "https://acme.example/license"
    assert (found["base_model"], found["relation"]) == ("hf/timm/resnet50.a1_in1k", "finetune")
    assert summary(CARD) == "Tells ants from bees."
    assert fields(metadata(CARD.replace("\n", "\r\n")), complain=refuse) == found


@pytest.mark.parametrize(
    "text", ["", "# no metadata", "---\na: 1\n", "---\n- a\n---\n", "---\na: [\n---"]
)
def test_what_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        metadata(text)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("pipeline_tag: image-clasification", "pipeline_tag"),
        ("tags: {a: b}", "tags"),
        ("tags: [[a]]", r"tags\[0\]"),
        ("language: 5", "language"),
        ("base_model: a/b\nbase_model_relation: twin", "base_model_relation"),
        ("model-index: x", "model-index"),
        ("model-index: [{results: [{task: {type: t}, dataset: {}}]}]", r"results\[0\]\.dataset"),
    ],
)
def test_the_field_that_is_wrong_is_named(line: str, field: str) -> None:
    with pytest.raises(UsageError, match=field):
        fields(metadata(f"---\n{line}\n---\n"), complain=refuse)


BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "yaml",
    [BOMB, "a: &a [*a]", "a: " + "[" * 5000, "a: " + "1:" * 5000 + "1", f"a: 0x{'f' * 100_000}"],
)
def test_metadata_that_would_exhaust_the_machine_are_refused(yaml: str) -> None:
    began = time.monotonic()
    with pytest.raises((UnsafeError, UsageError)):
        metadata(f"---\n{yaml}\n---\n")
    assert time.monotonic() - began < 5


def test_yaml_makes_no_objects() -> None:
    with pytest.raises((UsageError, IntegrityError)):
        metadata("---\na: !!python/object/apply:os.system [true]\n---\n")
