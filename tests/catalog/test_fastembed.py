"""fastembed's descriptions, on some of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.harvesters import fastembed
from catalog.record import ModelRecord

TEXT = """
models = [
    DenseModelDescription(
        model="toys/e5-toy",
        dim=384,
        description=("Text embeddings, Unimodal (text), English, 512 input tokens truncation, "
            "Prefixes for queries/documents: necessary, 2023 year."),
        license="mit",
        size_in_GB=0.067,
        sources=ModelSource(hf="Else/e5-toy-onnx-Q"),
        model_file="model_optimized.onnx",
    ),
    DenseModelDescription(
        model="toys/clip-toy", dim=8, description="Text embeddings", license="apache-2.0",
        size_in_GB=0.1, sources=ModelSource(hf="toys/clip-toy"), model_file="onnx/text_model.onnx",
        additional_files=["onnx/text_model.onnx_data"],
    ),
    DenseModelDescription(model="no name", description="", license="mit", size_in_GB=1,
        sources=ModelSource(hf="a/b"), model_file="model.onnx"),
]
def own(model: str) -> None:
    DenseModelDescription(model=model, dim=1)
"""
SPARSE = """
models = [
    SparseModelDescription(model="toys/counts", vocab_size=0, description="", license="mit",
        size_in_GB=0.01, sources=ModelSource(hf="toys/counts"), model_file="mock.file"),
]
"""


@pytest.fixture
def found(tmp_path: Path) -> dict[str, ModelRecord]:
    (tmp_path / "fastembed-9.9.dist-info").mkdir()
    (tmp_path / "fastembed-9.9.dist-info/METADATA").write_text("Name: fastembed\nVersion: 9.9\n")
    for name, text in (("text", TEXT.encode()), ("sparse", SPARSE.encode()), ("image", b"\xe9")):
        folder = tmp_path / f"fastembed/{name}"
        folder.mkdir(parents=True)
        (folder / "some.py").write_bytes(text)
    return {record.uid: record for record in fastembed.harvest(tmp_path)}


def test_a_description_is_a_record(found: dict[str, ModelRecord]) -> None:
    assert list(found) == ["fastembed/toys/e5-toy", "fastembed/toys/clip-toy/text"]
    record = found["fastembed/toys/e5-toy"]
    assert (record.task, record.family) == ("sentence-similarity", "e5")
    assert (record.input_size, record.embed_dim, record.languages) == ((512,), 384, ("en",))
    assert record.size_bytes == 67_000_000
    assert (record.base_model, record.relation) == ("toys/e5-toy", "quantized")
    assert record.license is not None
    assert (record.license.spdx, record.license.scope) == ("MIT", "weights")
    assert record.artifacts[0].urls == ("hf:Else/e5-toy-onnx-Q@main!model_optimized.onnx",)


def test_half_of_a_repository_is_not_taken_for_the_whole(found: dict[str, ModelRecord]) -> None:
    record = found["fastembed/toys/clip-toy/text"]
    assert record.hf_hub_id is None
    assert [file.format for file in record.artifacts] == ["onnx", "onnx"]
    assert record.size_bytes is None  # published for the two files together


def test_broken_descriptions_and_files_are_named(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    with caplog.at_level(logging.WARNING):
        request.getfixturevalue("found")
    assert "no name" in caplog.text
    assert "image/some.py" in caplog.text
