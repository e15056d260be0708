"""spaCy's descriptions of pipelines, on ones of our own."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from catalog.harvesters import spacy

SHA = "0123456789abcdef" * 4
META = {
    "lang": "ca",
    "name": "core_toy_sm",
    "version": "3.10.0",
    "license": "GNU GPL 3.0",
    "components": ["tok2vec", "morphologizer", "parser", "ner"],
    "sources": [
        {"name": "UD Catalan AnCora v2.8"},
        {"name": "ToyNER Named Entities (commit: abc)"},
        {"name": "Explosion Vectors (OSCAR)"},
        {"name": "bert-base-toy"},
    ],
    "size": "12 MB",
    "checksum": "ff",
    "checksum_whl": SHA,
    "performance": {"ents_f": 0.8433, "dep_las": 0.899, "speed": 9426.1, "tag_acc": None},
}


def test_the_newest_release_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "meta"
    folder.mkdir()
    for version in ("3.9.0", "3.10.0", "2.3.0"):
        (folder / f"ca_core_toy_sm-{version}.json").write_text(
            json.dumps(META | {"version": version})
        )
    (folder / "en_old_sm-2.3.0.json").write_text(json.dumps(META))
    (folder / "en_alpha_sm-3.0.0-alpha.json").write_text(json.dumps(META))
    (folder / "en_broken_sm-3.0.0.json").write_text("{")
    (folder / "en_cut_sm-3.0.0.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        (record,) = spacy.harvest(tmp_path)
    assert "en_broken_sm-3.0.0.json is left out" in caplog.text
    assert "en_cut_sm-3.0.0.json is left out" in caplog.text
    release = "ca_core_toy_sm-3.10.0"
    assert (record.uid, record.languages) == ("spacy/ca_core_toy_sm", ("ca",))
    assert record.artifacts[0].urls[0].endswith(f"/{release}/{release}-py3-none-any.whl")
    assert record.artifacts[0].digest is not None
    assert record.artifacts[0].digest.value == SHA
    assert record.size_bytes == 12_000_000
    assert record.license is not None
    assert (record.license.scope, record.license.spdx) == ("weights", "GPL-3.0")
    assert record.license.raw == "GNU GPL 3.0"
    assert [d.id for d in record.source_datasets] == [
        "ud-catalan-ancora",
        "toyner-named-entities",
    ]
    assert [(e.dataset, e.metric_type, e.value) for e in record.evals] == [
        ("toyner-named-entities", "f1", 84.33),
        ("ud-catalan-ancora", "labeled_attachment_score", 89.9),
    ]
