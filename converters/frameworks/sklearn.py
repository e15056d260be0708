"""Estimators of scikit-learn, by skl2onnx: from `.skops` files, or as they are in memory.

A pickle or joblib file is never read: loading it runs what is in it. skops names every type in the
file before it makes any of it, and only those that it knows to be harmless are made.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import sklearn
from numpy.typing import NDArray
from onnx import helper
from sklearn.base import is_classifier, is_clusterer, is_regressor

from catalog import members
from catalog.errors import ConversionError, IntegrityError, UnsafeError, UsageError
from catalog.record import ModelRecord
from converters.backbone import Given, Outputs
from converters.folder import Layer
from converters.interface import BATCH_SIZES, EMBEDDING, PROBABILITIES

LIBRARIES = ("scikit-learn", "skl2onnx")
FEATURES, LABEL, PREDICTION = "features", "label", "prediction"
_OPSETS = {"": 20, "ai.onnx.ml": 3}
_MOST_ROWS = 500
_INSTALL = "pip install 'tlhub[sklearn]'"
_KINDS = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}


@dataclass(frozen=True)
class Columns:
    """Rows of numbers, as one array, or each column on its own where columns have names."""

    sample: Any  # an array (rows, features) or a data frame
    name: str = FEATURES

    @property
    def by_name(self) -> bool:
        """Whether the columns have names of their own."""
        return hasattr(self.sample, "columns")

    def samples(self) -> list[Any]:
        """None that ship with what is installed."""
        return []

    def exact(self, samples: Sequence[Any]) -> dict[str, Given]:  # noqa: ARG002 - an Interface
        """1, 2 and 5 rows of the sample, and many."""
        random = np.random.default_rng(0)
        count = len(self.sample)
        found = {f"rows-{n}": random.integers(0, count, n) for n in BATCH_SIZES}
        found["sample"] = np.arange(min(count, _MOST_ROWS))
        return {name: self._given(rows) for name, rows in found.items()}

    def real(self, samples: Sequence[Any]) -> dict[str, Given]:  # noqa: ARG002 - an Interface
        """Nothing."""
        return {}

    def attach(self, model: onnx.ModelProto) -> None:
        """Leave the graph as it is: preparation is a part of the pipeline."""

    def description(self) -> dict[str, Any]:
        """What it takes."""
        given = self._given(np.arange(1))
        inputs = [
            {"name": key, "dtype": str(a.dtype), "shape": ["batch", *a.shape[1:]]}
            for key, a in given.items()
        ]
        return {"in_graph": True, "inputs": inputs}

    def rows(self, given: Given) -> Any:
        """What the estimator is given in the place of what the graph is given."""
        if not self.by_name:
            return _wide(given[self.name])
        columns = {name: _wide(given[str(name)][:, 0]) for name in self.sample.columns}
        return type(self.sample)(columns)

    def _given(self, rows: NDArray[Any]) -> Given:
        if not self.by_name:
            return {self.name: _plain(np.asarray(self.sample)[rows])}
        return {
            str(name): _plain(self.sample[name].to_numpy()[rows])[:, None]
            for name in self.sample.columns
        }


@dataclass(frozen=True)
class Estimator:
    """A fitted estimator or pipeline."""

    estimator: Any
    record: ModelRecord
    front: Columns
    files: Mapping[str, bytes] = field(default_factory=dict)
    activation: None = None
    evidence: None = None

    @property
    def origin(self) -> Mapping[str, Any]:
        """What it is made of."""
        return {"estimator": repr(self.estimator)[:4000], "outputs": list(_outputs(self.estimator))}

    @property
    def reference(self) -> str:
        """scikit-learn."""
        return f"scikit-learn {sklearn.__version__}"

    def layers(self) -> tuple[Layer, ...]:
        """It has none."""
        return ()

    def asked(self, layers: Sequence[str], *, preprocess: bool) -> Estimator:  # noqa: ARG002 - a Backbone
        """The same.

        Raises:
            UsageError: layers were asked for.
        """
        if layers:
            raise UsageError(f"there is no layer {layers[0]!r}: an estimator has none")
        return self

    def graph(self) -> onnx.ModelProto:
        """The graph that skl2onnx makes, its outputs named for what they are."""
        try:
            from skl2onnx import to_onnx
        except ImportError as error:
            raise ConversionError("skl2onnx is not installed", hint=_INSTALL) from error
        given = self.front.exact([])["sample"]
        types = [(name, _type(array)) for name, array in given.items()]
        options = {}
        if PROBABILITIES in _outputs(self.estimator):
            options = {id(self.estimator): {"zipmap": False}}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = to_onnx(
                    self.estimator, initial_types=types, options=options, target_opset=_OPSETS
                )
        except Exception as error:  # of many kinds, each with a page of advice
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ConversionError(
                f"skl2onnx {version('skl2onnx')} cannot convert "
                f"{type(self.estimator).__name__}: {lines[0][:300]}",
                hint="https://onnx.ai/sklearn-onnx/supported.html has what it can",
            ) from error
        graph = model.graph
        named = _outputs(self.estimator)
        if len(graph.output) < len(named):
            raise ConversionError(f"skl2onnx made {len(graph.output)} outputs of {len(named)}")
        for output, name in zip(list(graph.output), named, strict=False):
            if output.name != name:
                _free(graph, name)
                graph.node.append(helper.make_node("Identity", [output.name], [name], name=name))
                output.name = name
        del graph.output[len(named) :]
        for item in [*graph.input, *graph.output]:
            item.type.tensor_type.shape.dim[0].dim_param = "batch"
        onnx.checker.check_model(model, full_check=True)
        found: onnx.ModelProto = model
        return found

    def answers(self, batches: Mapping[str, Given]) -> dict[str, Outputs]:
        """What scikit-learn itself says."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that an array has not
            return {
                name: self._answer(self.front.rows(given), len(next(iter(given.values()))))
                for name, given in batches.items()
            }

    def rounding(
        self,
        batches: Mapping[str, Given],  # noqa: ARG002 - a Backbone
    ) -> dict[str, float]:
        """Unknown."""
        return {}

    def inner(self, given: Given) -> Outputs:  # noqa: ARG002 - a Backbone
        """Nothing."""
        return {}

    def write_weights(self, file: Path) -> None:
        """Nothing: the graph has them."""

    def _answer(self, rows: Any, count: int) -> Outputs:
        found: Outputs = {}
        for name in _outputs(self.estimator):
            array = np.asarray(getattr(self.estimator, _METHODS[name])(rows))
            if array.dtype.kind == "f":
                array = array.astype(np.float32)
            elif array.dtype.kind in "iu":
                array = array.astype(np.int64)
            elif array.dtype.kind == "O":
                array = array.astype(str)
            found[name] = array.reshape(count, -1) if name != LABEL else array
        return found


_METHODS = {
    LABEL: "predict",
    PROBABILITIES: "predict_proba",
    PREDICTION: "predict",
    EMBEDDING: "transform",
}


def of_object(estimator: Any, sample: Any | None, uid: str | None = None) -> Estimator:
    """A fitted estimator as a backbone; ``sample`` are rows such as it is given.

    Raises:
        UsageError: it is no estimator, or is not fitted.
        ConversionError: nothing says how many features it takes.
    """
    if not hasattr(estimator, "get_params") or not hasattr(estimator, "fit"):
        raise UsageError(f"{type(estimator).__name__} is no estimator of scikit-learn")
    features = getattr(estimator, "n_features_in_", None)
    if sample is None:
        if features is None:
            raise ConversionError(
                "nothing says what it is given: it has no n_features_in_, and there is no sample",
                hint="fit it, or give rows as sample=",
            )
        sample = np.random.default_rng(0).normal(size=(100, features))
    if not len(sample):
        raise UsageError("the sample has no rows")
    classes = getattr(estimator, "classes_", None) if is_classifier(estimator) else None
    name = type(estimator).__name__
    record = ModelRecord(
        uid=uid or f"sklearn/{name}",
        task="tabular-classification" if classes is not None else "tabular-regression",
        modality="tabular",
        framework="scikit-learn",
        architecture=name,
        num_classes=len(classes) if classes is not None else None,
        labels=tuple(map(str, classes)) if classes is not None else (),
    )
    return Estimator(estimator, record, Columns(sample))


def load(files: Mapping[str, Path], record: ModelRecord, *, trust: bool) -> Estimator:  # noqa: ARG001 - a Framework
    """The estimator in the one `.skops` file among ``files``.

    Raises:
        UnsafeError: it has types that skops does not know to be harmless.
        IntegrityError: it is damaged. ConversionError: it is none.
    """
    [(name, path)] = [item for item in files.items() if item[0].endswith(".skops")]
    try:
        from skops import io
        from skops.io.exceptions import UntrustedTypesFoundException
    except ImportError as error:
        raise ConversionError("skops is not installed", hint=_INSTALL) from error
    try:
        with zipfile.ZipFile(path) as archive:
            found = map(members.Member.of_zip, archive.infolist())
            members.check(found, name, path.stat().st_size)
        estimator = io.load(path, trusted=[])
    except UntrustedTypesFoundException as error:
        raise UnsafeError(
            f"{name} was not read: {str(error).splitlines()[0]}",
            hint="convert the estimator in Python, where it is made: tlhub.convert(estimator)",
        ) from error
    except UnsafeError:
        raise
    except Exception as error:  # whatever its readers say of bytes that make no sense
        raise IntegrityError(f"{name} is no whole file of skops: {error}") from error
    return of_object(estimator, None, record.uid)


def fresh(record: ModelRecord) -> Estimator:
    """There is none: an estimator is what it was fitted to.

    Raises:
        ConversionError: always.
    """
    raise ConversionError(f"{record.uid} is an estimator: it has no random weights")


def _free(graph: onnx.GraphProto, name: str) -> None:
    """Call what is inside otherwise, where it has the name that an output is to have."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{name}/inner" if each == name else each for each in names]


def _outputs(estimator: Any) -> tuple[str, ...]:
    """The outputs, in skl2onnx's order."""
    if is_classifier(estimator):
        # Of one without them skl2onnx gives scores in another shape than `decision_function`.
        return (LABEL, PROBABILITIES) if hasattr(estimator, "predict_proba") else (LABEL,)
    if is_regressor(estimator):
        return (PREDICTION,)
    if is_clusterer(estimator):
        return (LABEL,)
    return (EMBEDDING,)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    kind = _KINDS.get(array.dtype.kind)
    return array.astype(kind) if kind is not None else array.astype(str)


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers as scikit-learn computes with them."""
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _type(array: NDArray[Any]) -> Any:
    from skl2onnx.common import data_types

    shape = [None, *array.shape[1:]]
    kinds = {
        "f": data_types.FloatTensorType,
        "i": data_types.Int64TensorType,
        "b": data_types.BooleanTensorType,
    }
    return kinds.get(array.dtype.kind, data_types.StringTensorType)(shape)
