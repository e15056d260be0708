"""Two hundred merges of the shipped catalog, drawn at random (seed 20) and looked at one by one.

`merges.tsv` has for each the record, the other home that was merged into it, the evidence (what
both state: a digest of a file, its address, or a repository on the hub), the third home through
which they meet, if any, the verdict and what was seen.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from catalog import snapshot
from catalog.identity import _keys
from catalog.record import ModelRecord

SAMPLE = Path(__file__).with_name("merges.tsv")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with SAMPLE.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@pytest.fixture(scope="module")
def shipped() -> dict[str, ModelRecord]:
    return {record.uid: record for record in snapshot.read()}


def test_no_merge_of_the_sample_is_false(rows: list[dict[str, str]]) -> None:
    assert len({(row["record"], row["other home"]) for row in rows}) == 200
    assert {row["verdict"] for row in rows} == {"same"}
    assert all(row["seen"] for row in rows)


def test_the_evidence_of_every_merge_is_in_the_shipped_record(
    rows: list[dict[str, str]], shipped: dict[str, ModelRecord]
) -> None:
    for row in rows:
        record = shipped[row["record"]]
        assert row["other home"] in record.also
        assert row["other home"] not in shipped
        kind = row["evidence"].split(" ")[0]
        assert kind in {"url", "hub", "sha256", "sha384", "sha1", "md5"}  # never a name
        if not row["through"]:
            assert row["evidence"] in set(_keys(record)), row


def test_no_two_shipped_records_state_the_same_file_or_repository(
    shipped: dict[str, ModelRecord],
) -> None:
    owners: dict[str, str] = {}
    for record in shipped.values():
        for key in _keys(record):
            assert owners.setdefault(key, record.uid) == record.uid, key
