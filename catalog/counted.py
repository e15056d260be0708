"""Parameters of models whose publisher says none, counted in the publisher's own modules.

`data/counts.tsv` has a line for each: the uid, the parameters and the packages with which the
module was built, with random weights, to add up what can be trained. Nothing is built here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from catalog.errors import DataError
from catalog.record import ModelRecord, Provenance

COUNTS = Path(__file__).with_name("data") / "counts.tsv"


def with_count(record: ModelRecord) -> ModelRecord:
    """The record, where it has no parameters with those that were counted for it.

    Raises:
        DataError: the table of counts cannot be understood.
    """
    if record.params:
        return record
    counts = read(COUNTS)
    for uid in (record.uid, *record.also):
        if uid in counts:
            params, built_with = counts[uid]
            said = Provenance(fields=("params",), source=built_with, derived=True)
            return msgspec.structs.replace(
                record, params=params, provenance=(*record.provenance, said)
            )
    return record


@cache
def read(path: Path) -> dict[str, tuple[int, str]]:
    """The counts of a table: uid -> parameters, and with what they were counted.

    Raises:
        DataError: a line is not three fields, or counts nothing, or its uid stands twice.
    """
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match line.split("\t"):
            case [uid, params, built_with] if params.isdecimal() and int(params):
                if uid in found:
                    raise DataError(f"{path}, line {number}: {uid} stands twice")
                found[uid] = (int(params), built_with)
            case _:
                raise DataError(f"{path}, line {number}: not a uid, a count and packages")
    return found
