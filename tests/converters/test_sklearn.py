"""Estimators of scikit-learn, in memory and in skops files."""

from __future__ import annotations

import pickle

import numpy as np
import onnxruntime
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

import tlhub
from catalog.errors import ConversionError, IntegrityError, TlhubError, UnsafeError, UsageError
from catalog.record import ModelRecord
from converters import parity
from converters.convert import convert
from converters.frameworks.sklearn import of_object

skl2onnx = pytest.importorskip("skl2onnx")
skops = pytest.importorskip("skops.io")

RECORD = ModelRecord(uid="test/estimator", framework="scikit-learn")


@pytest.fixture(scope="module")
def digits():
    images, classes = load_digits(return_X_y=True)
    return images[:400], classes[:400]


def _run(folder, given):
    session = onnxruntime.InferenceSession(folder.onnx, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=50, tol=0.1)),
        lambda: RandomForestClassifier(10, random_state=0),
        lambda: make_pipeline(PCA(8, random_state=0), KNeighborsClassifier()),
    ],
)
def test_a_classifier_gives_its_labels_and_probabilities(make, digits, tmp_path):
    images, classes = digits
    pipeline = make().fit(images, classes)
    folder = tlhub.convert(pipeline, sample=images, out=tmp_path / "out")
    assert folder.manifest.parity.reference.startswith("scikit-learn ")
    assert set(folder.manifest.parity.outputs) == {"label", "probabilities"}
    assert folder.manifest.parity.max_rel_diff <= 1e-5
    assert folder.labels == tuple(map(str, range(10)))
    found = _run(folder, {"features": images[:3].astype(np.float32)})
    assert found["label"].tolist() == pipeline.predict(images[:3]).tolist()
    np.testing.assert_allclose(
        found["probabilities"], pipeline.predict_proba(images[:3]), atol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        (lambda: Ridge(), {"prediction"}),
        (lambda: SVC(kernel="linear"), {"label"}),
        (lambda: LinearSVC(random_state=0, max_iter=20, tol=0.5), {"label"}),
        (lambda: PCA(4, random_state=0), {"embedding"}),
        (lambda: KMeans(3, n_init=1, random_state=0), {"label"}),
    ],
)
def test_other_estimators_give_what_they_have(make, outputs, digits, tmp_path):
    images, classes = digits
    estimator = make().fit(images, classes % 2)
    folder = tlhub.convert(estimator, sample=images, out=tmp_path / "out")
    assert set(folder.manifest.parity.outputs) == outputs


def test_columns_with_names_are_inputs_of_their_own(tmp_path):
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    table = pandas.DataFrame(
        {"width": random.normal(size=60), "color": random.choice(["red", "blue", "green"], 60)}
    )
    prepare = ColumnTransformer(
        [("n", StandardScaler(), ["width"]), ("c", OneHotEncoder(), ["color"])]
    )
    pipeline = make_pipeline(prepare, LogisticRegression()).fit(table, table["color"] == "red")
    folder = tlhub.convert(pipeline, sample=table, out=tmp_path / "out")
    given = {"width": np.array([[0.5]], np.float32), "color": np.array([["red"]])}
    assert _run(folder, given)["label"].tolist() == [True]


def test_a_file_of_skops_is_read(digits, tmp_path):
    images, classes = digits
    skops.dump(LogisticRegression(max_iter=20, tol=0.5).fit(images, classes), tmp_path / "x.skops")
    folder = convert(RECORD, {"x.skops": tmp_path / "x.skops"}, tmp_path / "out")
    assert set(folder.manifest.parity.outputs) == {"label", "probabilities"}
    assert folder.manifest.uid == "test/estimator"


class Evil:
    def __reduce__(self):
        return (eval, ("1/0",))


def test_a_file_of_skops_with_other_types_is_refused(digits, tmp_path):
    images, classes = digits
    pipeline = make_pipeline(FunctionTransformer(np.load), LinearRegression())
    pipeline.steps[1][1].fit(images, classes)
    skops.dump(pipeline, tmp_path / "x.skops")
    with pytest.raises(UnsafeError, match=r"not read: .*numpy"):
        convert(RECORD, {"x.skops": tmp_path / "x.skops"}, tmp_path / "out")
    for content in (b"", b"PK\x03\x04" + bytes(40), pickle.dumps(Evil())):
        (tmp_path / "y.skops").write_bytes(content)
        with pytest.raises(IntegrityError, match="no whole file of skops"):
            convert(RECORD, {"y.skops": tmp_path / "y.skops"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pickles_of_estimators_are_refused_with_the_reason(tlhub, digits, tmp_path):
    (tmp_path / "model.joblib").write_bytes(pickle.dumps(Evil()))
    done = tlhub("convert", tmp_path / "model.joblib", "--out", tmp_path / "out")
    assert done.returncode in {1, 6}
    assert "joblib" in done.stderr
    assert "runs" in done.stderr


def test_what_cannot_be_converted_is_said(digits, tmp_path):
    images, classes = digits
    boosted = HistGradientBoostingClassifier(max_iter=2).fit(images, classes)
    with pytest.raises(TlhubError, match=r"HistGradientBoosting|differs"):
        tlhub.convert(boosted, sample=images, out=tmp_path / "out")
    with pytest.raises(ConversionError, match="what it is given"):
        tlhub.convert(LogisticRegression(), out=tmp_path / "out")
    with pytest.raises(UsageError, match="no estimator"):
        tlhub.convert(object(), out=tmp_path / "out")
    with pytest.raises(UsageError, match="no name"):
        tlhub.convert(boosted)
    assert not (tmp_path / "out").exists()


def test_another_estimator_than_the_graph_is_caught(digits, tmp_path):
    images, classes = digits
    one = LogisticRegression(max_iter=20, tol=0.5).fit(images, classes)
    folder = tlhub.convert(one, sample=images, out=tmp_path / "out")
    one.coef_ = -one.coef_
    with pytest.raises(ConversionError, match=r"is not the model: (label|probabilities) differs"):
        parity.check(folder.onnx, of_object(one, images), tmp_path)
