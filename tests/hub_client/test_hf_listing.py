"""What a hub says a repository holds, from hubs that say it in pages, late, or without an end."""

from __future__ import annotations

import contextlib
import json

import pytest

from catalog.errors import IntegrityError, NetworkError
from hub_client.network import Http
from hub_client.sources import hf_listing
from hub_client.sources.hf_cache import RepoCache
from hub_client.sources.hf_errors import RepoFile
from hub_client.sources.hf_listing import Listings

COMMIT = "0123456789" * 4
OID = "ab" * 20


@pytest.fixture
def listed(server, served, tmp_path, monkeypatch):
    """The listing of `a/b` by a hub that breaks off its own list at two files."""
    monkeypatch.setattr(hf_listing, "_HUGE", 2)
    siblings = [{"rfilename": name, "size": 1, "blobId": OID} for name in ("a", "b")]
    said = {"id": "a/b", "sha": COMMIT, "siblings": siblings}
    server.files["/api/models/a/b/revision/main"] = served(json.dumps(said).encode())

    def run():
        with contextlib.closing(Http()) as http:
            listings = Listings(server.url(), "hf_secret", tmp_path / "listings", http)
            cache = RepoCache(tmp_path / "hf", "a/b")
            return listings.at(RepoFile("a/b", "main", ""), cache, offline=False)

    return run


def page(served, *names: str, then: str | None = None):
    items = [{"type": "file", "path": name, "oid": OID, "size": 1} for name in names]
    items.append({"type": "directory", "path": "folder", "oid": OID, "size": 0})
    items.append(
        {"type": "file", "path": "lfs", "oid": OID, "size": 9, "lfs": {"oid": "c" * 64, "size": 9}}
    )
    link = {"Link": f'<{then}>; rel="next"'} if then else {}
    return served(json.dumps(items if not then else items[:-1]).encode(), headers=link)


def test_a_long_list_comes_in_pages(server, served, listed):
    tree = f"/api/models/a/b/tree/{COMMIT}"
    server.files[tree] = page(served, "a", "b", then="/more?cursor=x")
    server.files["/more"] = page(served, "folder/c")
    found = listed()
    assert list(found.entries) == ["a", "b", "folder/c", "lfs"]
    assert (found.entries["lfs"].etag, found.entries["lfs"].size_bytes) == ("c" * 64, 9)
    assert server.asked("/more", "authorization") == ["Bearer hf_secret"]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["the same page again", "another origin"])
def test_pages_that_lead_nowhere_are_refused(server, other_server, served, listed, elsewhere):
    tree = f"/api/models/a/b/tree/{COMMIT}"
    server.files[tree] = page(served, "a", then="/more")
    then = other_server.url("/more") if elsewhere else "/more"
    server.files["/more"] = page(served, "b", then=then)
    other_server.files["/more"] = page(served, "c")
    with pytest.raises(IntegrityError, match="without an end, or elsewhere"):
        listed()
    assert not other_server.log


def test_an_answer_without_an_end_is_not_read_to_it(server, served, listed, monkeypatch):
    monkeypatch.setattr(hf_listing, "_MOST_BYTES", 1000)
    server.files["/api/models/a/b/revision/main"] = served(b"x" * 5000, lengthless=True)
    with pytest.raises(IntegrityError, match="longer than 1000 bytes"):
        listed()


def test_a_hub_that_is_busy_is_asked_again_when_it_says(server, served, listed):
    answer = server.files["/api/models/a/b/revision/main"]
    answer.statuses, answer.headers = [429, 503], {"Retry-After": "0"}
    server.files[f"/api/models/a/b/tree/{COMMIT}"] = page(served, "a")
    assert "a" in listed().entries
    assert not answer.statuses


def test_an_answer_that_is_nested_without_reason_is_none(server, served, listed):
    server.files["/api/models/a/b/revision/main"] = served(b"[" * 100_000)
    with pytest.raises(NetworkError, match="nests without reason"):
        listed()


@pytest.mark.parametrize("lfs", ["x", ["x"], 5])
def test_a_file_that_is_kept_in_no_known_way_is_refused(server, served, listed, lfs):
    item = {"type": "file", "path": "a", "oid": OID, "size": 1, "lfs": lfs}
    tree = f"/api/models/a/b/tree/{COMMIT}"
    server.files[tree] = served(json.dumps([item]).encode())
    with pytest.raises(IntegrityError, match="says a is kept as"):
        listed()


@pytest.mark.parametrize("kept", ["", ', "siblings": null', ', "siblings": {"a": 1}'])
def test_a_kept_listing_without_files_is_refused(server, served, listed, tmp_path, kept):
    place = tmp_path / "listings" / "a--b" / f"{COMMIT}.json"
    place.parent.mkdir(parents=True)
    place.write_text(f'{{"sha": "{COMMIT}"{kept}}}')
    server.files[f"/api/models/a/b/tree/{COMMIT}"] = page(served, "a")
    with pytest.raises(IntegrityError, match="the files of a/b are said to be"):
        listed()
