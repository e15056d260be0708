"""`README.md` of a run: a model card with the metadata that Hugging Face hubs read."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from catalog.record import License
from converters.folder import Manifest
from finetuning.data.dataset import Kind
from finetuning.evaluation import BASELINES, Metrics

# Of the SPDX identifiers, those that the hubs know in lower case; the rest are `other`.
_HUB_LICENSES = frozenset(
    {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0"}
    | {"CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "ISC", "Unlicense", "MPL-2.0"}
)

USAGE = {
    "The command": """\
tlhub predict {argument} photo.jpg""",
    "Python": """\
import tlhub

model = tlhub.load({folder})
for {pair} in model("photo.jpg"):
    print({pair})""",
    "ONNX Runtime alone": """\
import json
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession({file}, providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map
{facts}
photo = np.asarray(Image.open("photo.jpg").convert("RGB"))  # uint8, any size
{answers} = session.run(["{output}"], {{"image": photo[None]}})
{shown}""",
}


TEXT_USAGE = {
    "The command": """\
tlhub predict {argument} "a text" """.rstrip(),
    "Python": """\
import tlhub

model = tlhub.load({folder})
for {pair} in model("a text"):
    print({pair})""",
    "ONNX Runtime and tokenizers alone": """\
import json
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession({file}, providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map
{facts}
prompt = json.loads(facts.get("tlhub.preprocess", "{{}}")).get("prompt", "")
encoded = Tokenizer.from_file({tokenizer}).encode(prompt + "a text")
given = {{
    "input_ids": encoded.ids,
    "attention_mask": encoded.attention_mask,
    "token_type_ids": encoded.type_ids,
}}
wanted = [item.name for item in session.get_inputs()]
{answers} = session.run(["{output}"], {{n: np.array([given[n]]) for n in wanted}})
{shown}""",
}

_LABELS = 'labels = json.loads(facts["tlhub.labels"])'

# What ends each of them, by what the model tells.
_ENDINGS: dict[Kind, dict[str, str]] = {
    "classification": {
        "pair": "label, score",
        "facts": _LABELS,
        "answers": "[scores]",
        "output": "probabilities",
        "shown": "print(labels[scores[0].argmax()], scores[0].max())",
    },
    "multi-label": {
        "pair": "label, score",
        "facts": f'{_LABELS}\nthresholds = json.loads(facts["tlhub.thresholds"])',
        "answers": "[scores]",
        "output": "probabilities",
        "shown": "print([labels[n] for n in np.flatnonzero(scores[0] >= thresholds)])",
    },
    "embedding": {
        "pair": "label, cosine",
        "facts": _LABELS,
        "answers": "vectors, cosines",
        "output": 'embedding", "similarities',
        "shown": "print(vectors.shape, labels[cosines[0].argmax()], cosines[0].max())",
    },
    "regression": {
        "pair": "name, value",
        "facts": _LABELS.replace("labels", "names", 1).replace(".labels", ".numbers"),
        "answers": "[values]",
        "output": "predictions",
        "shown": "print(dict(zip(names, values[0].tolist())))",
    },
}


_GIVES: dict[Kind, str] = {
    "regression": "`predictions` and `embedding`",
    "embedding": "`embedding`, a vector of length 1, and `similarities`, its cosines with the "
    "classes it knows",
}


def usage(
    path: str, modality: str | None = "image", kind: Kind = "classification"
) -> dict[str, str]:
    """Title and code of each way to run the model in the folder ``path``."""
    literals = {
        "folder": _literal(path),
        "file": _literal(f"{path}/model.onnx"),
        "tokenizer": _literal(f"{path}/tokenizer.json"),
    }
    codes = TEXT_USAGE if modality == "text" else USAGE
    return {
        title: code.format(argument=shlex.quote(path), **literals, **_ENDINGS[kind])
        for title, code in codes.items()
    }


def _literal(text: str) -> str:
    """A string as Python reads it, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def score(value: float | None, metrics: Metrics) -> str:
    """What a run is judged by, as it is shown: R2 is a number, all else a share."""
    if value is None:
        return "n/a"
    return f"{value:.3f}" if metrics.kind == "regression" else f"{100 * value:.1f} %"


def gain(value: float, metrics: Metrics) -> str:
    """A difference of two such."""
    return f"{value:.3f}" if metrics.kind == "regression" else f"{100 * value:.1f} points"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line, anywhere within or at the start of one."""
    text = re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^(\d*)([-+#=.):])", r"\1\\\2", text)  # what begins a list or a heading


def fenced(code: str, language: str) -> str:
    """A block of code, its fence longer than any in it."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


def write(file: Path, manifest: Manifest, metrics: Metrics) -> None:
    """The card of a run."""
    from finetuning.report import environment

    text = (
        environment()
        .get_template("README.md")
        .render(
            metadata=_metadata(manifest, metrics),
            manifest=manifest,
            metrics=metrics,
            name=manifest.uid.removeprefix("run/"),
            folder=manifest.record.source_datasets[-1].id,
            names=BASELINES,
            usage=usage(".", metrics.modality, metrics.kind),
            license=license_name(manifest.record.license),
            gives=_GIVES.get(metrics.kind, "`probabilities`, `logits` and `embedding`"),
        )
    )
    file.write_text(text, encoding="utf-8")


def license_name(license: License | None) -> str:  # noqa: A002 - the word for it
    """What to call a license, in one word or two."""
    return (license and (license.spdx or license.raw)) or "unknown"


def _metadata(manifest: Manifest, metrics: Metrics) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    record = manifest.record
    said = record.license and record.license.spdx
    known = said in _HUB_LICENSES
    data = ModelCardData(
        model_name=manifest.uid.removeprefix("run/"),
        license=said.lower() if said and known else "other",
        license_name=None if known else license_name(record.license),
        license_link=record.license.url if record.license and not known else None,
        base_model=record.base_model,
        library_name="onnx",
        pipeline_tag=record.task,
        tags=["tlhub", "transfer-learning", "onnx"],
        datasets=[item.id for item in record.source_datasets],
        metrics=[*metrics.figures()],
        eval_results=[
            EvalResult(
                task_type=record.task or metrics.kind,
                dataset_type="imagefolder" if metrics.modality == "image" else "text",
                dataset_name=record.source_datasets[-1].id,
                dataset_split="held-out",
                metric_type=name,
                metric_value=value,
            )
            for name, value in metrics.figures().items()
        ],
    )
    return data.to_yaml()
