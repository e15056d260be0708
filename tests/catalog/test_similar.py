from __future__ import annotations

from catalog.record import Evaluation, ModelRecord, SourceDataset
from catalog.similar import similar


def model(uid: str, **known: object) -> ModelRecord:
    said = {
        "task": "image-classification",
        "modality": "image",
        "architecture": uid.partition("/")[2],
        "family": "resnet",
        "params": 25_000_000,
        "source_datasets": (SourceDataset(id="imagenet-1k", role="pretrain"),),
        "input_size": (3, 224, 224),
    }
    return ModelRecord(uid=uid, **{**said, **known})  # type: ignore[arg-type]


def top1(value: float) -> tuple[Evaluation, ...]:
    return (
        Evaluation(
            task_type="image-classification",
            dataset="imagenet-1k",
            metric_type="top1",
            value=value,
            unit="%",
        ),
    )


ASKED = model("timm/resnet50", evals=top1(80.0))


def test_the_same_elsewhere_is_nearest_and_says_why() -> None:
    other = model("keras/ResNet-50", evals=top1(76.5))
    (found,) = similar(ASKED, [ASKED, other])
    assert (found.record.uid, found.score) == ("keras/ResNet-50", 100)
    assert found.reasons == (
        "same architecture ResNet-50",
        "as many parameters",
        "trained on imagenet-1k",
        "same input size 224",
        "top1 76.5 % on imagenet-1k (-3.5)",
    )


def test_every_difference_costs_what_the_documentation_says() -> None:
    def score(uid: str = "a/resnet50", **known: object) -> int:
        (found,) = similar(ASKED, [model(uid, **known)])
        return found.score

    # of 90: the languages of the model asked about are unknown
    assert score("a/resnet101") == round(100 * 80 / 90)
    assert score("a/vit", family="vit") == round(100 * 60 / 90)
    assert score(params=50_000_000) == score(params=12_500_000) == round(100 * 75 / 90)
    assert score(params=100_000_000) == score(params=None) == round(100 * 60 / 90)
    assert score(source_datasets=()) == round(100 * 70 / 90)
    assert score(input_size=(3, 288, 288)) == round(100 * 80 / 90)


def test_another_task_is_no_substitute_nor_is_the_model_itself() -> None:
    records = [
        model("a/resnet50", task="object-detection"),
        model("b/resnet50", modality="video"),
        model("c/resnet50", also=("timm/resnet50",)),
    ]
    assert similar(ASKED, records) == ()


def test_ties_go_to_the_better_evaluation_and_one_source_does_not_crowd_out_the_others() -> None:
    records = [
        model("a/resnet50.v1", architecture="resnet50", evals=top1(70)),
        model("a/resnet50.v2", architecture="resnet50", evals=top1(82)),
        model("b/resnet50", evals=top1(81)),
        model("c/resnet50"),
    ]
    found = similar(ASKED, records)
    assert [item.record.uid for item in found] == ["a/resnet50.v2", "b/resnet50", "c/resnet50"]
    assert similar(ASKED, records, limit=1) == found[:1]


def test_a_model_of_which_nothing_is_known_is_answered() -> None:
    bare = ModelRecord(uid="a/bare")
    assert [item.score for item in similar(bare, [ModelRecord(uid="b/bare")])] == [0]
