from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import parse_qsl

import pytest
from huggingface_hub import constants

from catalog.errors import AccessError, NetworkError, NotFoundError
from hub_client.patience import Patience
from hub_client.sources.hf_models import ModelPages
from hub_client.sources.json_items import items
from loopback_hub import Hub, running

QUICK = Patience(tries=3, first_wait_s=0.01)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for hub in running():
        hub.models += [
            {"id": f"acme/{n}", "lastModified": f"2025-01-{n:02}T00:00:00.000Z"}
            for n in range(1, 8)
        ]
        hub.page_size = 3
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield hub


def everything(pages: ModelPages) -> list[str]:
    found, query = [], pages.first
    while query:
        page = pages.page(query)
        found += [entry["id"] for entry in page.entries]
        query = page.next or ""
    return found


def test_pages_follow_each_other_newest_change_first(hub: Hub) -> None:
    pages = ModelPages(["tags", "sha"], patience=QUICK)
    assert everything(pages) == [f"acme/{n}" for n in range(7, 0, -1)]
    assert len(hub.log) == 3
    for _, path, headers in hub.log:
        asked = parse_qsl(path.partition("?")[2])
        assert {("sort", "lastModified"), ("expand", "tags"), ("expand", "sha")} <= {*asked}
        assert headers["authorization"] == "Bearer hf_secret"
    assert len(pages.page(pages.first, at_most=2).entries) == 2


def test_another_hub_is_not_told_the_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")
    assert len(everything(ModelPages([], endpoint=f"{hub.url}/", patience=QUICK))) == 7
    assert not [headers for *_, headers in hub.log if "authorization" in headers]


def test_the_hub_is_waited_for_as_it_asks(hub: Hub) -> None:
    waits: list[float] = []
    hub.troubles = [
        (429, {"RateLimit": '"api";r=0;t=1', "RateLimit-Policy": '"api";q=1;w=300'}),
        (503, {"Retry-After": "0"}),
        100,
    ]
    assert len(everything(ModelPages([], waiting=waits.append, patience=Patience(5, 0.01)))) == 7
    assert waits[:2] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        ((400, {}), NotFoundError),
        ((410, {}), NotFoundError),
        ((401, {}), AccessError),
        ((403, {}), AccessError),
        ((418, {}), NetworkError),
        ((503, {}), NetworkError),
        ((429, {"Retry-After": "100000"}), NetworkError),
        ((200, {"Content-Length": "2"}, b"{}"), NetworkError),
        ((200, {"Content-Length": "6"}, b"<html>"), NetworkError),
        (5, NetworkError),
    ],
)
def test_what_the_hub_cannot_give_is_said(hub: Hub, trouble: object, error: type) -> None:
    hub.troubles = [trouble] * 3
    pages = ModelPages([], patience=QUICK)
    with pytest.raises(error):
        pages.page(pages.first)


def test_a_hub_that_is_not_there_is_given_up_soon() -> None:
    pages = ModelPages([], endpoint="http://user:secret@127.0.0.1:9", patience=QUICK)
    with pytest.raises(NetworkError, match="cannot be reached") as caught:
        pages.page(pages.first)
    assert "secret" not in str(caught.value) + pages.endpoint


def test_one_item_does_not_spoil_the_others() -> None:
    deep = b"[" * 5000 + b"]" * 5000
    assert items(b'[{"a": "],{\\""}, %s, 3]' % deep) == [{"a": '],{"'}, None, 3]
    assert items(b'[1, "\xff", [2, {"b": []}]]') == [1, None, [2, {"b": []}]]
    assert items(b"[%s]" % (b"9" * 6000)) == [float("inf")]
    assert items(b"[]") == []
    for broken in (b"", b"<html>", b'[{"a": 1}, {"b"', b"[1, 2", b'{"a": %s}' % deep):
        with pytest.raises(ValueError, match="it is no list"):
            items(broken)


def test_a_text_without_an_end_is_read_once() -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match="it is no list"):
        items(b'["' + b'\\"' * 100_000)
    assert time.monotonic() - began < 5
