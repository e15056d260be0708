"""What words mean to the search, beyond being found."""

from __future__ import annotations

import pytest
from tantivy import Occur, Query

from catalog import snapshot
from catalog.phrases import IMAGES, PHRASED, TASK_PHRASES
from catalog.search import Catalog
from catalog.shown import SHOWN
from catalog.synonyms import ARTICLES
from catalog.words import words
from tests.catalog.test_hits import HITS


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return Catalog.open(tmp_path_factory.mktemp("cache"))


def _first(catalog: Catalog, text: str) -> list[str]:
    return [record.uid for record in catalog.search(text, limit=5).items]


def test_every_data_set_of_which_we_say_what_it_shows_is_in_the_catalog() -> None:
    there = {dataset.id for record in snapshot.read() for dataset in record.source_datasets}
    assert SHOWN.keys() <= there


def test_phrases_are_in_words_that_a_query_can_come_to() -> None:
    assert PHRASED.isdisjoint(IMAGES)  # read as `image`
    assert PHRASED.isdisjoint(ARTICLES)  # left out
    assert TASK_PHRASES.keys() == {phrase.lower() for phrase in TASK_PHRASES}


def test_what_is_sure_of_a_word_finds_nothing_that_the_word_does_not(catalog: Catalog) -> None:
    reader = catalog._reader
    kinds = [kind for kind in reader.values("kind") if words(kind) == [kind]]
    assert len(kinds) > 40
    for word in [*kinds, *(text for text, _ in HITS)]:
        for meant in reader.understand(word).words:
            for sure in meant.sure:
                beyond = [(Occur.Must, sure), (Occur.MustNot, meant.found)]
                assert not reader.count(Query.boolean_query(beyond)), word


def test_a_word_that_no_model_has_is_read_as_the_nearest_and_that_is_said(catalog: Catalog) -> None:
    found = catalog.search("efficentnet")
    assert found.notes == ("no model has 'efficentnet': shown is 'efficientnet'",)
    assert not catalog.search("efficientnet").notes
    assert not found.ignored


def test_a_misspelt_task_is_the_task(catalog: Catalog) -> None:
    wanted = catalog.search("instance segmentation")
    found = catalog.search("instance segmentaion")
    assert found.total == wanted.total
    assert found.items == wanted.items
    assert catalog.search("tranlsation").total == catalog.search("translation").total


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("describe a picture", "describe image"),
        ("answer questions about photos", "answer question about image"),
        ("i want to classify my photos", "classify image"),
    ],
)
def test_plain_words_say_the_same_as_those_of_the_table(
    catalog: Catalog, text: str, other: str
) -> None:
    assert _first(catalog, text) == _first(catalog, other)


def test_a_task_without_a_name_on_the_hub_is_found_by_its_words(catalog: Catalog) -> None:
    head = catalog.search("head pose").items
    assert "openvino/head-pose-estimation-adas-0001" in {record.uid for record in head}
    assert any(record.task is None for record in head)


def test_a_tag_in_plain_words_is_one_condition_and_not_the_task(catalog: Catalog) -> None:
    found = catalog.search("aerial object detection")
    assert found.total > 50
    assert {record.task for record in found.items} == {"object-detection"}


def test_a_word_written_apart_is_found_as_one(catalog: Catalog) -> None:
    found = catalog.search("whole body pose")
    assert all("wholebody" in record.uid for record in found.items[:3])
    assert not found.notes


def test_who_asks_for_a_chat_gets_models_that_answer(catalog: Catalog) -> None:
    assert all("instruct" in uid for uid in _first(catalog, "chatbot"))


def test_of_a_text_longer_than_anybody_types_the_first_words_are_looked_for(
    catalog: Catalog,
) -> None:
    found = catalog.search("resnet " * 100 + "whisper " * 1000)
    assert found.total == catalog.search("resnet").total
    assert found.notes == ("only the first 100 words are looked for",)
