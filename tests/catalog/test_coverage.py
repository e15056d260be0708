from pathlib import Path

from catalog import coverage, snapshot
from catalog.record import License, ModelRecord, Provenance

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "coverage.md"


def test_the_page_says_what_the_shipped_catalog_knows() -> None:
    assert coverage.as_page(coverage.measure(snapshot.read())) == PAGE.read_text("utf-8")


def test_what_is_derived_is_counted_apart() -> None:
    guess = Provenance(fields=("task",), source="x 1", derived=True)
    records = [
        ModelRecord(uid="x/said", task="image-classification", modality="image"),
        ModelRecord(uid="x/derived", task="image-classification", provenance=(guess,)),
        ModelRecord(uid="y/unknown"),
    ]
    found = coverage.measure(records)
    assert found["records"] == 3
    assert found["coverage"]["task"] == round(2 / 3, 4)
    assert found["coverage"]["task, as published"] == round(1 / 3, 4)
    assert found["sources"]["x"]["coverage"]["input size of image models"] == 0
    assert found["sources"]["y"]["coverage"]["input size of image models"] is None


def test_the_license_of_weights_and_of_their_project_are_counted_apart() -> None:
    own = License(scope="weights", spdx="CC-BY-NC-4.0", commercial="no")
    project = License(scope="project", spdx="MIT", commercial="yes")
    records = [
        ModelRecord(uid="x/both", license=own, project_license=project),
        ModelRecord(uid="x/project", license=project, project_license=project),
        ModelRecord(uid="x/own", license=own),
        ModelRecord(uid="x/unknown"),
    ]
    found = coverage.measure(records)["coverage"]
    assert found["license of the weights"] == 0.5
    assert found["license of the project"] == 0.5
