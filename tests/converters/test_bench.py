from __future__ import annotations

from pathlib import Path

from tiny_texts import network, record_of, save

from converters.bench import bench
from converters.convert import convert


def test_a_model_of_few_tokens_is_timed(tmp_path: Path) -> None:
    model = network("bert")
    assert model.config.vocab_size < 500
    folder = convert(record_of(model), save(model, tmp_path / "files"), tmp_path / "out")
    [timing] = bench(folder, batches=(2,), seconds=0, rounds=1)
    assert timing.median_ms > 0
