"""`tlhub search` as its options shape the answer."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from catalog.errors import UsageError
from catalog.table import row
from tlhub import api
from tlhub.cli.main import app
from tlhub.cli.search import COLUMNS, FURTHER

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "search.md"


@pytest.fixture(autouse=True)
def settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLHUB_HOME", str(home))


def search(*arguments: str) -> Result:
    done = CliRunner().invoke(app, ["search", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def items(*arguments: str) -> list[dict[str, object]]:
    return json.loads(search(*arguments, "--json").stdout)["items"]  # type: ignore[no-any-return]


def test_the_options_are_the_same_as_the_text() -> None:
    by_text = items("resnet params:<30M top1:>80", "sort:top1")
    by_options = items("resnet", "--params", "<30M", "--top1", ">80", "--sort", "top1")
    assert by_text == by_options != []


def test_language_finds_models_that_know_it() -> None:
    found = items("--language", "German", "--task", "translation", "--columns", "uid,languages")
    assert found
    assert all("de" in item["languages"] for item in found)  # type: ignore[operator]


def test_commercial_leaves_out_what_forbids_it() -> None:
    may = json.loads(search("dinov3", "--commercial", "yes", "--facets", "--json").stdout)
    may_not = json.loads(search("convnextv2", "--commercial", "no", "--facets", "--json").stdout)
    assert "cc-by-nc-4.0" not in may["facets"]["license"]
    assert set(may_not["facets"]["license"]) == {"cc-by-nc-4.0"}


def test_facets_are_counts_in_a_table_and_as_values() -> None:
    answer = json.loads(search("resnet50", "--facets", "--json").stdout)
    assert set(answer) == {"total", "facets"}
    counted = search("resnet50", "--facets").stdout.splitlines()
    assert counted[0].split() == ["facet", "value", "count"]
    number = answer["facets"]["framework"]["torchvision"]
    assert ["framework", "torchvision", str(number)] in [line.split() for line in counted]
    rows = list(csv.reader(io.StringIO(search("resnet50", "--facets", "--csv").stdout)))
    assert rows[0] == ["facet", "value", "count"]
    assert ["framework", "torchvision", str(number)] in rows


def test_columns_are_those_asked_for_in_their_order() -> None:
    asked = ("resnet50", "--source", "torchvision", "--limit", "3", "--columns")
    lines = search(*asked, "top1,uid,input_size").stdout.splitlines()
    assert lines[0].split() == ["top1", "uid", "input_size"]
    assert lines[1].split() == ["80.858", "torchvision/resnet50.IMAGENET1K_V2", "3x224x224"]
    assert list(items(*asked, "uid,top5")[0]) == ["uid", "top5"]
    for name in (*COLUMNS, *FURTHER):
        assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
        assert list(items(*asked, name)[0]) == [name]
    assert tuple(row(api.record("timm/resnet50.a1_in1k"))) == COLUMNS


def test_csv_is_read_back_as_it_was_written() -> None:
    asked = ("bert", "--limit", "50", "--columns", "uid,params,description,languages")
    rows = list(csv.DictReader(io.StringIO(search(*asked, "--csv").stdout)))
    said = items(*asked)
    assert [r["uid"] for r in rows] == [item["uid"] for item in said]
    assert [r["params"] for r in rows] == [str(item["params"] or "") for item in said]
    assert [r["description"] for r in rows] == [item["description"] or "" for item in said]
    assert any("," in r["description"] for r in rows)
    whole = csv.DictReader(io.StringIO(search("bert", "--csv").stdout))
    assert tuple(whole.fieldnames or ()) == COLUMNS


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (("bert", "--columns", "uid,colour"), "unknown column 'colour'", "uid, task"),
        (("bert", "--json", "--csv"), "two forms", "one of them"),
        (("foo:bar",), "'foo'", "fields: task"),
        (("bert", "--language", "klingon"), "unknown language", "en, fr"),
        (("bert", "--commercial", "maybe"), "unknown commercial", "yes, no, unknown"),
        (("bert", "--sort", "beauty"), "unknown sort", "any metric"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_right(
    arguments: tuple[str, ...], said: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        CliRunner().invoke(app, ["search", *arguments], catch_exceptions=False)
    assert hint in (caught.value.hint or "")


def test_words_found_nowhere_are_told() -> None:
    done = search("resnet18 zzzqqq", "-q")
    assert "zzzqqq" in done.stderr
    assert "zzzqqq" not in done.stdout
