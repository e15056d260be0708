from __future__ import annotations

from catalog.harvesters import timm, torchvision
from catalog.identity import merge
from catalog.record import Artifact, Digest, Evaluation, ModelRecord


def _record(
    uid: str,
    *,
    url: str | None = None,
    digest: Digest | None = None,
    hub: str | None = None,
    params: int | None = None,
    value: float | None = None,
) -> ModelRecord:
    artifacts = (Artifact(path="w", format="pytorch", urls=(url,), digest=digest),) if url else ()
    evals = (
        (Evaluation(task_type="t", dataset="d", metric_type="top1", value=value),) if value else ()
    )
    return ModelRecord(uid=uid, artifacts=artifacts, hf_hub_id=hub, params=params, evals=evals)


def _full(digit: str) -> Digest:
    return Digest(algorithm="sha256", value=digit * 64)


def test_the_same_url_digest_or_repository_is_one_record_that_lists_its_other_homes() -> None:
    merged = merge(
        [
            _record("a/x", url="https://Host.org/f.pth", digest=_full("1"), value=1.0),
            _record("b/x", url="http://host.org/f.pth#frag", params=7, value=2.0),
            _record("c/x", url="https://mirror.org/f.pth", digest=_full("1"), hub="o/n"),
            _record("d/x", hub="O/N"),
        ]
    )
    (one,) = merged
    assert one.uid == "a/x"
    assert one.also == ("b/x", "c/x", "d/x")
    assert one.params == 7
    assert [e.value for e in one.evals] == [1.0, 2.0]
    assert "https://mirror.org/f.pth" in one.artifacts[0].urls


def test_a_record_can_join_two_groups_that_were_apart() -> None:
    merged = merge(
        [
            _record("a/x", url="https://h.org/f"),
            _record("b/y", hub="o/n"),
            _record("c/z", url="https://h.org/f", hub="o/n"),
        ]
    )
    assert [(r.uid, set(r.also)) for r in merged] == [("a/x", {"b/y", "c/z"})]


def test_a_like_name_or_the_start_of_a_digest_merges_nothing() -> None:
    short = Digest(algorithm="sha256", value="11111111", prefix=True)
    records = [
        _record("a/resnet50", url="https://h.org/1", digest=short),
        _record("b/resnet50", url="https://h.org/2", digest=short),
        _record("c/resnet50", url="https://h.org/2?version=2"),
    ]
    assert merge(records) == records


def test_the_files_of_torchvision_that_timm_hosts_again_are_found_by_url() -> None:
    merged = {
        r.uid: r
        for r in merge([*torchvision.harvest(), *timm.harvest(pattern="*.tv*", count=False)])
    }
    both = merged["torchvision/resnet50.IMAGENET1K_V2"]
    assert both.also == ("timm/resnet50.tv2_in1k",)
    assert both.framework == "torchvision"
    assert len(both.artifacts) == 1  # timm's own copy has other names in it
    assert "timm/resnet50.tv2_in1k" not in merged
