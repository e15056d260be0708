from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from catalog.checks import check
from catalog.document import document
from catalog.errors import UsageError
from catalog.hf_record import HUGGING_FACE, address_of, modified, record_of, source_of

SHA = "a" * 40
ENTRY: dict[str, Any] = {
    "id": "acme/bert",
    "sha": SHA,
    "lastModified": "2025-01-02T03:04:05.000Z",
    "pipeline_tag": "text-classification",
    "library_name": "transformers",
    "tags": ["license:mit", "arxiv:1810.04805", "sentiment", "base_model:finetune:acme/base"],
    "cardData": {"license": "mit", "language": ["en", False], "datasets": "imdb"},
    "config": {"architectures": ["BertForSequenceClassification"], "model_type": "bert"},
    "safetensors": {"parameters": {"F32": 1000, "I64": 0}, "total": 1000},
    "siblings": [
        {"rfilename": "model.safetensors", "lfs": {"sha256": "b" * 64, "size": 4321}},
        {"rfilename": "model.fp16.safetensors"},
        {"rfilename": "onnx/model.onnx"},
        {"rfilename": "pytorch_model.bin", "size": 5000},
        {"rfilename": "optimizer.pt"},
        {"rfilename": "README.md"},
    ],
}


def test_an_entry_becomes_a_record() -> None:
    entry = {**ENTRY, "safetensors": {"parameters": {"F32": 1000}}, "gated": "auto"}
    entry["cardData"] = {**entry["cardData"], "base_model": "acme/base"}
    record = record_of(entry, HUGGING_FACE, uid_of="known/{}".format)
    assert (record.uid, record.hf_hub_id) == ("hf/acme/bert", "acme/bert")
    assert record.origin_url == "https://huggingface.co/acme/bert"
    assert (record.task, record.modality) == ("text-classification", "text")
    assert (record.framework, record.family) == ("transformers", "bert")
    assert record.architecture == "BertForSequenceClassification"
    assert record.tags == ("sentiment",)
    assert record.paper_ids == ("1810.04805",)
    assert record.languages == ("en", "no")
    assert record.license is not None
    assert record.license.spdx == "MIT"
    assert (record.base_model, record.relation) == ("known/acme/base", "finetune")
    assert [(d.id, d.role) for d in record.source_datasets] == [("imdb", "finetune")]
    assert record.params == 1000
    assert [a.path for a in record.artifacts] == [
        *("model.fp16.safetensors", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx"),
    ]
    found = {a.path: a for a in record.artifacts}["model.safetensors"]
    assert found.urls == (f"hf:acme/bert@{SHA}!model.safetensors",)
    assert (found.size_bytes, found.safe, found.status) == (4321, True, "gated")
    assert found.digest is not None
    assert record.provenance[0].date == "2025-01-02"
    assert record.provenance[0].path == SHA


def test_a_record_of_another_hub_leads_back_to_it() -> None:
    record = record_of(ENTRY, "https://hub.example.com", source="hub.example.com")
    assert (record.uid, record.hf_hub_id) == ("hub.example.com/acme/bert", None)
    assert record.artifacts[0].urls[0].startswith(f"hub+https://hub.example.com/acme/bert@{SHA}!")
    assert address_of("https://host/with/path", "a/b") == "hf:a/b"
    assert source_of("http://Hub.example.com:8080") == "hub.example.com-8080"
    for wrong in ("hub.example.com", "https://", "https://a@b", "https://host/path", "ftp://x"):
        with pytest.raises(UsageError):
            source_of(wrong)


def test_packed_weights_do_not_say_how_many_parameters() -> None:
    assert record_of(ENTRY, HUGGING_FACE).params is None  # a count of 0, and one of integers


def test_times_sort_as_text() -> None:
    times = ["2025-01-01T00:00:00Z", "2025-01-01T00:00:00.500Z", "2025-01-01T00:00:01Z"]
    said = [str(modified({"lastModified": time})) for time in times]
    assert said == sorted(said)
    for wrong in (None, 5, "yesterday", "2025-01-01", "2025-01-01T00:00:00+01:00"):
        assert modified({"lastModified": wrong}) is None
    assert modified("text") is None


@pytest.mark.parametrize("entry", [None, 5, "text", [], {}, {"id": 5}, {"id": "a/../b"}])
def test_what_names_no_repository_is_refused(entry: object) -> None:
    with pytest.raises(UsageError, match="id"):
        record_of(entry, HUGGING_FACE)


HOSTILE: list[Any] = [
    *(None, True, 0, -1, 2**63, 10**40, 1e308, math.nan, math.inf, "", " ", "x" * 10_000),
    *("../../etc/passwd", "a\x1b[31mb", "a\0b", "\u202e", [], {}, [[]], [{}], {"a": []}),
    *([None, 5, {"type": 5}], ["../x", "/x", "a//b", "C:/x"], {"parameters": {"F32": 10**30}}),
    [{"rfilename": "../x.bin"}, {"rfilename": 5}, {"rfilename": "x.bin", "size": 10**30}],
    [{"name": "m", "results": [{"task": {"type": "t"}, "dataset": {"type": "d", "name": "d"},
      "metrics": [{"type": "\x1b", "value": 1}, {"type": "acc", "value": 10**400},
                  {"type": "***", "value": 1}, {"type": "f1", "value": "9" * 500}]}]}],
    {"architectures": [{}], "model_type": "x" * 999},
]  # fmt: skip


@pytest.mark.parametrize("field", [*ENTRY, "cardData.", "model-index", "gated", "disabled"])
def test_a_record_is_sound_whatever_the_hub_says(field: str) -> None:
    names = (
        *("license", "license_name", "license_link", "language", "datasets", "tags", "base_model"),
        *("pipeline_tag", "library_name", "model-index", "base_model_relation"),
    )
    for value in HOSTILE:
        said = {field: value} if field != "cardData." else {"cardData": dict.fromkeys(names, value)}
        try:
            record = record_of({**ENTRY, **said}, HUGGING_FACE)
        except UsageError:
            assert field in {"id", "disabled"}
            continue
        check(record)
        document(record)


def test_an_enormous_card_is_cut() -> None:
    card = {
        "tags": [f"tag{n}" for n in range(10_000)],
        "model-index": [
            {"results": [{"task": {"type": "t"}, "dataset": {"name": f"d{n}"},
             "metrics": [{"type": f"m{k}", "value": k} for k in range(50)]}]}
            for n in range(2000)
        ],
    }  # fmt: skip
    files = [{"rfilename": f"{n}.safetensors"} for n in range(1000)]
    record = record_of({**ENTRY, "cardData": card, "siblings": files}, HUGGING_FACE)
    assert len(record.evals) == 100
    assert len(record.artifacts) == 50
    assert all(len(list(group)) <= 4 for _, group in itertools.groupby(record.evals, _dataset))


def _dataset(item: Any) -> str:
    return str(item.dataset)
