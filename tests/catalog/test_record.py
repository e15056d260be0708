from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from catalog import record as records
from catalog.errors import UsageError
from catalog.record import Artifact, Evaluation, ModelRecord, decode, encode

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "record.md"


def test_the_reference_documents_every_field_and_no_other() -> None:
    structs = {
        name: cls.__struct_fields__
        for name, cls in vars(records).items()
        if isinstance(cls, type) and issubclass(cls, msgspec.Struct)
    }
    documented = {
        section.split("\n", 1)[0].strip(): tuple(re.findall(r"^\| `(\w+)` \| \S", section, re.M))
        for section in REFERENCE.read_text(encoding="utf-8").split("\n## ")[1:]
    }
    # Order matters too: the page is read beside the code.
    assert {n: sorted(f) for n, f in documented.items()} == {
        n: sorted(f) for n, f in structs.items()
    }
    assert documented["ModelRecord"] == structs["ModelRecord"]


def test_the_same_record_is_the_same_bytes_and_what_is_unknown_is_absent() -> None:
    record = ModelRecord(uid="a/b", params=5)
    assert encode(record) == b'{"uid":"a/b","params":5}'
    assert decode(encode(record)) == record


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('{"uid":"a/b","params":0}', "$.params"),
        ('{"uid":"a/b","gmacs":-1}', "$.gmacs"),
        ('{"uid":"a/b","modality":"smell"}', "$.modality"),
        ('{"params":5}', "uid"),
        (
            '{"uid":"a/b","artifacts":[{"path":"f","format":"x","urls":[],"opset":"x"}]}',
            "$.artifacts[0].opset",
        ),
        ("no json", "not a model record"),
    ],
)
def test_what_does_not_validate_is_refused_naming_the_field(line: str, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        decode(line)
    assert field in caught.value.message


def test_size_counts_the_first_format_once_and_top1_is_that_of_imagenet() -> None:
    def file(format_: str, exact: int | None, about: int | None) -> Artifact:
        return Artifact(path="f", format=format_, urls=(), size_bytes=exact, about_bytes=about)

    def top1(dataset: str, value: float) -> Evaluation:
        return Evaluation(task_type="t", dataset=dataset, metric_type="top1", value=value)

    record = ModelRecord(
        uid="a/b",
        artifacts=(file("safetensors", 10, 11), file("safetensors", None, 5), file("pt", 99, None)),
        evals=(top1("cifar10", 99.0), top1("imagenet-1k", 75.1), top1("imagenet-1k", 80.0)),
    )
    assert record.size_bytes == 15
    assert record.top1 == 75.1
    assert ModelRecord(uid="a/b", artifacts=(file("pt", None, None),)).size_bytes is None
