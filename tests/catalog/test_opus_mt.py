"""OPUS-MT's pages of releases, on ones of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from catalog.harvesters import opus_mt

HOST = "https://models.example.org"


def release(name: str, bleu: str) -> str:
    return f"""\
# {name}.zip

* dataset: opus
* model: transformer-align
* download: [{name}.zip]({HOST}/{name}.zip)
* test set scores: [{name}.eval.txt]({HOST}/{name}.eval.txt)

## Benchmarks

| testset               | BLEU  | chr-F |
|-----------------------|-------|-------|
| Tatoeba.fi.pt_BR 	| {bleu} 	| 0.704 |
| newstest2009.sv.pt 	| 20.1 	| 0.5 |

"""


def page(folder: Path, pair: str, text: str) -> None:
    (folder / "models" / pair).mkdir(parents=True)
    (folder / "models" / pair / "README.md").write_text(text)


def test_the_newest_release_of_a_pair(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    both = release("opus+bt-2020-04-11", "54.9") + release("opus-2019-12-04", "1.0")
    page(tmp_path, "fi-pt_BR", both)
    page(tmp_path, "xx-yy", "# Nothing yet\n")
    (tmp_path / "models/latin").mkdir()
    (tmp_path / "models/latin/README.md").write_bytes(b"\xe9")
    (tmp_path / opus_mt.TERMS).write_text("Creative Commons Attribution 4.0")
    sizes = tmp_path / "sizes.tsv"
    sizes.write_text(
        "# in millions\nfi-pt_BR/opus-2019-12-04\t1\nfi-pt_BR/opus+bt-2020-04-11\t74.3\n"
    )
    with caplog.at_level(logging.WARNING):
        (record,) = opus_mt.harvest(tmp_path, sizes=sizes)
    assert "xx-yy/README.md is left out: no release" in caplog.text
    assert "latin/README.md is left out" in caplog.text
    assert (record.uid, record.languages) == ("opus_mt/fi-pt_BR", ("fi", "pt"))
    assert record.params == 74_300_000  # of this release, not of the older one
    assert not any(item.derived for item in record.provenance if "params" in item.fields)
    assert record.artifacts[0].urls == (f"{HOST}/opus+bt-2020-04-11.zip",)
    assert [(e.dataset, e.config, e.metric_type, e.value, e.unit) for e in record.evals] == [
        ("tatoeba", None, "bleu", 54.9, "%"),
        ("tatoeba", None, "chrf", 70.4, "%"),
        ("newstest2009", "sv-pt", "bleu", 20.1, "%"),
        ("newstest2009", "sv-pt", "chrf", 50.0, "%"),
    ]
    assert record.license is not None
    assert (record.license.scope, record.license.spdx) == ("weights", "CC-BY-4.0")


def test_without_the_terms_nothing_is_said_of_a_license(tmp_path: Path) -> None:
    page(tmp_path, "fi-sv", release("opus-2019-12-04", "27.5"))
    (record,) = opus_mt.harvest(tmp_path)
    assert record.license is None
