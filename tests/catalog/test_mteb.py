"""mteb's model metas, on some of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.errors import IntegrityError
from catalog.harvesters import mteb
from catalog.record import ModelRecord

SHARED = 'LANGUAGES = ["eng-Latn", "deu-Latn", "ace-Latn"]\nDATA = {"NQ", "NQ-PL"}\n'
MODELS = """
from mteb.models.model_implementations.shared import LANGUAGES, DATA
COMMON = dict(open_weights=True, license="mit")
CITATION = "@misc{x, eprint={2402.01234}}"
small = ModelMeta(
    loader=Wrapper,
    name="toys/e5-toy",
    reference="https://huggingface.co/toys/e5-toy",
    n_parameters=int(1.5 * 1e6),
    embed_dim=[64, 256, 128],
    max_tokens=512,
    languages=LANGUAGES + ["python-Code"],
    framework=["PyTorch", "Sentence Transformers"],
    training_datasets=DATA | {"NanoNQRetrieval", "HotpotQA"},
    adapted_from="toys/base",
    citation=CITATION,
    **COMMON,
)
twin = ModelMeta(name="toys/e5-toy", **COMMON)
picture = ModelMeta(name="toys/dinov2-toy-224", modalities=["image"], max_tokens=np.inf,
    reference="https://huggingface.co/else/where", open_weights=True, license="not specified")
ranker = ModelMeta(name="toys/rank", model_type=["cross-encoder"], n_parameters=unknown(), **COMMON)
closed = ModelMeta(name="toys/closed (dim=2)", open_weights=False)
counting = ModelMeta(name="mteb/baseline-counts", open_weights=True)
broken = ModelMeta(name="toys/../../etc", open_weights=True)
wordy = ModelMeta(name="toys/wordy", n_parameters="many", **COMMON)
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    (tmp_path / "mteb-9.9.dist-info").mkdir()
    (tmp_path / "mteb-9.9.dist-info/METADATA").write_text(
        "Name: mteb\nVersion: 9.9\nLicense-Expression: Apache-2.0\n"
    )
    (tmp_path / mteb.ISO_CODES).parent.mkdir(parents=True)
    (tmp_path / mteb.ISO_CODES).write_text('{"en": "eng", "de": "deu"}')
    folder = tmp_path / mteb.FOLDER
    folder.mkdir(parents=True)
    (folder / "shared.py").write_text(SHARED)
    (folder / "toys.py").write_text(MODELS)
    (folder / "latin.py").write_bytes(b"# \xe9")
    return tmp_path


def harvested(wheel: Path) -> dict[str, ModelRecord]:
    return {record.uid: record for record in mteb.harvest(wheel)}


def test_models_with_open_weights_are_records(wheel: Path) -> None:
    assert list(harvested(wheel)) == [
        "mteb/toys/e5-toy",
        "mteb/toys/dinov2-toy-224",
        "mteb/toys/rank",
    ]


def test_what_a_meta_says(wheel: Path) -> None:
    record = harvested(wheel)["mteb/toys/e5-toy"]
    assert (record.task, record.framework) == ("sentence-similarity", "sentence-transformers")
    assert (record.params, record.embed_dim, record.input_size) == (1_500_000, 256, (512,))
    assert record.hf_hub_id == "toys/e5-toy"
    assert record.languages == ("ace", "de", "en")
    assert [d.id for d in record.source_datasets] == ["hotpotqa", "nq"]  # no variants of one
    assert record.paper_ids == ("2402.01234",)
    assert record.base_model == "toys/base"
    assert record.license is not None
    assert (record.license.spdx, record.license.scope) == ("MIT", "weights")


def test_a_reference_elsewhere_is_no_repository_and_no_license_is_none(wheel: Path) -> None:
    record = harvested(wheel)["mteb/toys/dinov2-toy-224"]
    assert record.hf_hub_id is None
    assert (record.task, record.modality) == ("image-feature-extraction", "image")
    assert record.input_size == (3, 224, 224)
    assert "input_size" in record.provenance[1].fields
    assert record.license is None  # that of mteb says nothing of weights by others


def test_what_cannot_be_told_is_absent(wheel: Path) -> None:
    record = harvested(wheel)["mteb/toys/rank"]
    assert record.task == "text-ranking"
    assert record.params is None


def test_broken_metas_and_files_are_named(wheel: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        harvested(wheel)
    for words in ("a second time", "toys/../../etc", "many", "latin.py"):
        assert words in caplog.text


def test_without_its_table_of_languages_the_package_is_refused(wheel: Path) -> None:
    (wheel / mteb.ISO_CODES).write_text("[]")
    with pytest.raises(IntegrityError, match="iso_639"):
        harvested(wheel)
