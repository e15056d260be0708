from catalog.record import Evaluation, ModelRecord, SourceDataset
from catalog.spelling import unify


def trained_on(uid: str, *names: str) -> ModelRecord:
    sources = tuple(SourceDataset(id=name, role="pretrain") for name in names)
    return ModelRecord(uid=uid, source_datasets=sources)


def test_the_commonest_spelling_of_a_data_set_stands() -> None:
    records = [
        trained_on("a/1", "imagenet-1k"),
        trained_on("a/2", "imagenet-1k", "imagenet-21k"),
        trained_on("b/1", "ImageNet1k", "imagenet_1k"),
    ]
    figure = Evaluation(
        task_type="image-classification", dataset="imagenet 1k", metric_type="top1", value=70
    )
    records.append(ModelRecord(uid="c/1", evals=(figure,)))
    one, two, three, four = unify(records)
    assert (one, two) == (records[0], records[1])  # another data set is another data set
    assert three == trained_on("b/1", "imagenet-1k")  # and once is enough
    assert four.top1 == 70
