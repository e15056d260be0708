from __future__ import annotations

from catalog.record import ModelRecord
from catalog.search import SearchResult

RECORDS = tuple(ModelRecord(uid=f"a/{n}", params=n * 1000 + 1) for n in range(1, 4))
RESULT = SearchResult(total=9, items=RECORDS)


def test_a_result_is_a_sequence_of_records() -> None:
    assert len(RESULT) == 3
    assert RESULT[0] == RECORDS[0]
    assert RESULT[-1:] == RECORDS[2:]
    assert list(RESULT) == list(RECORDS)
    assert RECORDS[1] in RESULT
    assert not SearchResult(total=0, items=())


def test_rows_are_plain_values_under_the_same_names() -> None:
    rows = RESULT.rows()
    assert [row["uid"] for row in rows] == ["a/1", "a/2", "a/3"]
    assert rows[0]["params"] == 1001
    assert rows[0]["top1"] is None
    assert len({tuple(row) for row in rows}) == 1


def test_it_is_shown_as_a_table() -> None:
    lines = repr(RESULT).splitlines()
    assert lines[0].split() == ["uid", "task", "params", "gmacs", "top1", "license"]
    assert lines[1].split() == ["a/1", "1,001"]
    assert lines[-1] == "3 of 9 models"


def test_html_escapes_what_the_records_say() -> None:
    html = SearchResult(total=1, items=(ModelRecord(uid="a/<b>&"),))._repr_html_()
    assert "<td>a/&lt;b&gt;&amp;</td>" in html
    assert "<b>" not in html
