"""Text models of transformers and sentence-transformers: the same numbers, and mutations caught."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from tiny_texts import CONFIGS, network, record_of, save
from tokenizers import Tokenizer

from catalog.errors import ConversionError
from converters import parity, weights
from converters.convert import convert
from converters.pooling import Pooling
from converters.registry import load_backbone, obstacle
from converters.repository import TextRepository, pooling_modes, root_of
from converters.runtime import OnnxModel
from converters.text_front import SENTENCES

LABELS = ("no", "yes", "maybe")
ALWAYS = {("bert", True), ("deberta-v2", False), ("modernbert", False)}
MATRIX = [
    pytest.param(kind, classes, marks=() if (kind, classes) in ALWAYS else pytest.mark.slow)
    for kind in CONFIGS
    for classes in (False, True)
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "classes"), MATRIX)
def test_an_architecture_is_converted_and_equal(model_type, classes, tmp_path):
    labels = LABELS if classes else ()
    model = network(model_type, labels)
    files = save(model, tmp_path / "source")
    folder = convert(record_of(model, labels), files, tmp_path / "out")
    assert folder.manifest.parity.max_rel_diff <= 5e-6
    outputs = (
        {"logits", "probabilities", "embedding"} if labels else {"embedding", "token_embeddings"}
    )
    assert set(folder.manifest.parity.outputs) == outputs
    assert folder.labels == labels
    # By transformers alone, of texts as a user gives them.
    ours = OnnxModel.open(folder.path, device="cpu", threads=1)
    inputs = _tokens(folder.path, model, list(SENTENCES))
    with torch.inference_mode():
        found = model(**inputs)
    if labels:
        expected = found.logits.softmax(-1).numpy()
        given = ours.predict(SENTENCES, top=3)
        seen = [[dict(answer)[label] for label in labels] for answer in given]
    else:
        mask = inputs["attention_mask"][..., None]
        expected = ((found.last_hidden_state * mask).sum(1) / mask.sum(1)).numpy()
        seen = ours.features(SENTENCES)
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def _tokens(folder: Path, model, texts: list[str]) -> dict[str, torch.Tensor]:
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = made.encode_batch(texts)
    inputs = {
        "input_ids": [item.ids for item in found],
        "attention_mask": [item.attention_mask for item in found],
    }
    if model.config.model_type in {"bert", "albert", "electra"}:
        inputs["token_type_ids"] = [item.type_ids for item in found]
    return {name: torch.tensor(rows) for name, rows in inputs.items()}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A sentence encoder with all that may come behind a transformer, and its folder."""
    place = tmp_path_factory.mktemp("bert")
    model = network("bert")
    generator = torch.Generator().manual_seed(1)
    dense = {
        "linear.weight": torch.randn(24, 64, generator=generator),
        "linear.bias": torch.randn(24, generator=generator),
    }
    modules = [
        ("Pooling", {"pooling_mode": ["cls", "mean"], "embedding_dimension": 32}),
        (
            "Dense",
            {
                "in_features": 64,
                "out_features": 24,
                "bias": True,
                "activation_function": "torch.nn.modules.activation.Tanh",
            },
        ),
        ("Normalize", {}),
    ]
    more = {
        "sentence_bert_config.json": {"max_seq_length": 40, "do_lower_case": True},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: "},
            "default_prompt_name": "query",
        },
    }
    files = save(model, place / "source", modules=modules, tensors={"2_Dense": dense}, **more)
    folder = convert(record_of(model), files, place / "out")
    return model, dense, files, folder


def test_a_sentence_encoder_has_its_pooling_dense_layer_and_prompt(bert):
    model, dense, _, folder = bert
    said = folder.manifest.preprocess
    assert said["pooling"] == ["cls", "mean"]
    assert said["after_pooling"] == ["Dense", "Normalize"]
    assert (said["normalized"], said["max_length"], said["prompt"]) == (True, 40, "query: ")
    ours = OnnxModel.open(folder.path, device="cpu", threads=1).features(SENTENCES)
    inputs = _tokens(folder.path, model, [f"query: {text}" for text in SENTENCES])
    assert inputs["input_ids"].shape[1] == 40
    with torch.inference_mode():
        tokens, mask = model(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
        pooled = torch.cat([tokens[:, 0], (tokens * mask).sum(1) / mask.sum(1)], -1)
        vector = torch.tanh(pooled @ dense["linear.weight"].T + dense["linear.bias"])
        expected = torch.nn.functional.normalize(vector, dim=-1).numpy()
    assert ours.shape == (len(SENTENCES), 24)
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_the_folder_can_be_loaded_again_and_by_transformers(bert, tmp_path):
    import transformers

    model, _, _, folder = bert
    again = load_backbone(folder.files, folder.manifest.record)
    assert parity.check(folder.onnx, again, tmp_path).max_rel_diff <= 5e-6
    theirs = transformers.AutoModel.from_pretrained(folder.path, add_pooling_layer=False)
    ids = torch.arange(9)[None]
    with torch.inference_mode():
        expected, seen = (m.eval()(input_ids=ids).last_hidden_state for m in (model, theirs))
    torch.testing.assert_close(seen, expected)


def _change(model, ending, change):
    [tensor] = [item for item in model.graph.initializer if item.name.endswith(ending)]
    array = np.array(change(numpy_helper.to_array(tensor)))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _swapped_layers(model):
    names = [f"encoder.layer.{n}.output.LayerNorm.weight" for n in (0, 1)]
    tensors = {t.name: t for t in model.graph.initializer if t.name.endswith(tuple(names))}
    one, other = (numpy_helper.to_array(t) for t in tensors.values())
    for tensor, array in zip(tensors.values(), (other, one), strict=True):
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _constant_input(name, value):
    """The graph computes as if an input had the same value everywhere."""

    def mutate(model):
        for node in model.graph.node:
            node.input[:] = ["fixed" if item == name else item for item in node.input]
        zero = numpy_helper.from_array(np.array(0, np.int64), "zero")
        fill = numpy_helper.from_array(np.array(value, np.int64), "fill")
        model.graph.initializer.extend([zero, fill])
        made = [
            helper.make_node("Mul", [name, "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "fill"], ["fixed"]),
        ]
        for node in reversed(made):
            model.graph.node.insert(0, node)

    return mutate


def _not_normalized(model):
    [output] = [item for item in model.graph.output if item.name == "embedding"]
    [last] = [node for node in model.graph.node if "embedding" in node.output]
    assert last.op_type == "Div", last
    for node in model.graph.node:
        if last.input[0] in node.output:
            inner = last.input[0]
            node.output[:] = ["embedding" if item == inner else item for item in node.output]
            last.output[:] = ["gone"]
            last.input[:] = ["embedding" if item == inner else item for item in last.input]
    for node in model.graph.node:
        if node is not last:
            node.input[:] = ["embedding" if i == inner else i for i in node.input]
    assert output.name == "embedding"


def _fixed_sequence(model):
    for item in model.graph.input:
        item.type.tensor_type.shape.dim[1].dim_value = 33


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (_swapped_layers, "differs from torch"),
        (_constant_input("attention_mask", 1), "differs from torch"),
        (_constant_input("token_type_ids", 0), "differs from torch"),
        (_not_normalized, "embedding differs"),
        (lambda model: _change(model, "0.linear.bias", np.negative), "embedding differs"),
        (
            lambda model: _change(model, "embeddings.position_embeddings.weight", np.flip),
            "differs from torch",
        ),
        (_fixed_sequence, "could not run"),
    ],
    ids=["layers", "mask", "types", "normalize", "dense", "positions", "sequence"],
)
def test_a_mutated_graph_is_caught(mutate, message, bert, tmp_path):
    _, _, files, folder = bert
    model = onnx.load(folder.onnx)
    mutate(model)
    onnx.save(model, tmp_path / "mutant.onnx")
    backbone = load_backbone(files, folder.manifest.record)
    with pytest.raises(ConversionError, match=message):
        parity.check(tmp_path / "mutant.onnx", backbone, tmp_path)


def test_another_pooling_is_caught(bert, tmp_path):
    _, _, files, folder = bert
    backbone = load_backbone(files, folder.manifest.record)
    backbone.module.after.pooling.modes = ("cls", "max")
    with pytest.raises(ConversionError, match="embedding differs"):
        parity.check(folder.onnx, backbone, tmp_path)


MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("side", ["right", "left"])
def test_pooling_leaves_padding_out(mode, side):
    tokens = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    lengths = (6, 4, 1)
    mask, expected = torch.zeros(3, 6, dtype=torch.int64), []
    for row, length in enumerate(lengths):
        part = slice(length) if side == "right" else slice(6 - length, None)
        mask[row, part] = 1
        own = tokens[row, part].numpy()
        places = np.arange(1, length + 1)[:, None]
        expected.append(
            {
                "cls": own[0],
                "max": own.max(0),
                "mean": own.mean(0),
                "mean_sqrt_len_tokens": own.sum(0) / np.sqrt(length),
                "weightedmean": (own * places).sum(0) / places.sum(),
                "lasttoken": own[-1],
            }[mode]
        )
    np.testing.assert_allclose(Pooling([mode])(tokens, mask).numpy(), expected, atol=1e-6)
    both = Pooling([mode, "mean"])(tokens, mask)
    assert both.shape == (3, 8)


def test_pooling_is_read_in_its_old_and_its_new_spelling():
    old = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    assert pooling_modes(old) == ("cls", "mean")
    assert pooling_modes({"pooling_mode": "lasttoken"}) == ("lasttoken",)
    for wrong in ({}, {"pooling_mode": "median"}, {"pooling_mode_new": True}):
        with pytest.raises(ConversionError, match="its pooling"):
            pooling_modes(wrong)


def test_weights_left_random_or_left_over_are_an_error(tmp_path):
    model = network("bert")
    files = save(model, tmp_path)
    state = {n: t.clone() for n, t in weights.read(files["model.safetensors"]).items()}
    record = record_of(model)

    def loaded(changed):
        weights.write(changed, files["model.safetensors"])
        return load_backbone(files, record)

    name = "encoder.layer.1.attention.self.query.weight"
    with pytest.raises(ConversionError, match=f"lack {name}.*would be random"):
        loaded({key: tensor for key, tensor in state.items() if key != name})
    with pytest.raises(ConversionError, match=r"hold adapter.x, which BertModel"):
        loaded({**state, "adapter.x": torch.zeros(2)})
    with pytest.raises(ConversionError, match=r"query.weight has shape \(3, 4\)"):
        loaded({**state, name: torch.zeros(3, 4)})
    # Heads of pretraining, older names and a prefix are no obstacle.
    older = {
        f"bert.{key}".replace("LayerNorm.weight", "LayerNorm.gamma"): tensor
        for key, tensor in state.items()
        if not key.startswith("pooler.")
    }
    loaded({**older, "cls.predictions.bias": torch.zeros(300)})


def test_weights_in_several_files_are_put_together(tmp_path):
    model = network("bert")
    files = save(model, tmp_path)
    state = weights.read(files.pop("model.safetensors"))
    names = sorted(state)
    shards = {"model-00001-of-00002.safetensors": names[::2]}
    shards["model-00002-of-00002.safetensors"] = names[1::2]
    for shard, own in shards.items():
        weights.write({name: state[name] for name in own}, tmp_path / shard)
        files[shard] = tmp_path / shard
    index = tmp_path / "model.safetensors.index.json"
    places = {name: shard for shard, own in shards.items() for name in own}
    index.write_text(json.dumps({"weight_map": places}))
    files[index.name] = index
    backbone = load_backbone(files, record_of(model))
    for name, tensor in backbone.module.model.state_dict().items():
        torch.testing.assert_close(tensor, state[name])
    missing = {name: path for name, path in files.items() if "00002-of" not in name}
    with pytest.raises(ConversionError, match=r"lists 'model-00002.*not there"):
        load_backbone(missing, record_of(model))
    places[names[0]] = "model-00002-of-00002.safetensors"
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(Exception, match="holds other tensors"):
        load_backbone(files, record_of(model))


def test_each_of_several_labels_has_its_own_probability(tmp_path):
    model = network("bert", LABELS, problem_type="multi_label_classification")
    folder = convert(record_of(model, LABELS), save(model, tmp_path / "in"), tmp_path / "out")
    answer = OnnxModel.open(folder.path, device="cpu")("A cat sleeps.", top=3)
    with torch.inference_mode():
        logits = model(**_tokens(folder.path, model, ["A cat sleeps."])).logits[0]
    expected = dict(zip(LABELS, logits.sigmoid().tolist(), strict=True))
    assert dict(answer) == pytest.approx(expected, abs=1e-5)


SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


@pytest.mark.parametrize(
    ("said", "activation"),
    [
        ({}, "sigmoid"),
        ({"problem_type": "regression"}, "identity"),
        ({"sbert_ce_default_activation_function": SIGMOID}, "sigmoid"),
        ({"sbert_ce_default_activation_function": IDENTITY}, "identity"),
        ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "5.0"}}, "identity"),
        ({"sentence_transformers": {"activation_fn": SIGMOID}, "problem_type": "x"}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.ReLU"}}, None),
        ({"sentence_transformers": {"activation_fn": "evil.Sigmoid.Code"}}, None),
    ],
    ids=str,
)
def test_what_makes_a_score_of_a_cross_encoder(said, activation, tmp_path):
    files = save(network("bert", ["LABEL_0"], num_hidden_layers=1), tmp_path)
    config = json.loads(files["config.json"].read_text()) | said
    files["config.json"].write_text(json.dumps(config))
    if activation is None:
        with pytest.raises(ConversionError, match="its score is made by"):
            TextRepository.of(files, lambda name: files[name].read_bytes())
        return
    found = TextRepository.of(files, lambda name: files[name].read_bytes())
    assert (found.activation, found.labels, found.is_rating) == (activation, ("score",), True)


@pytest.mark.parametrize("said", [{}, {"problem_type": "regression"}], ids=["sigmoid", "identity"])
def test_a_cross_encoder_rates_pairs(said, tmp_path):
    model = network("bert", ["LABEL_0"], num_hidden_layers=2, **said)
    folder = convert(record_of(model, ["score"]), save(model, tmp_path / "in"), tmp_path / "out")
    assert folder.manifest.parity.max_rel_diff <= 5e-6
    assert folder.manifest.parity.top1_agreement is None
    assert ("probabilities" in folder.manifest.parity.outputs) == (not said)
    pairs = [(SENTENCES[0], text) for text in SENTENCES]
    ours = OnnxModel.open(folder.path, device="cpu", threads=1).predict(pairs)
    with torch.inference_mode():
        logits = model(**_tokens(folder.path, model, pairs)).logits
    expected = (logits if said else logits.sigmoid())[:, 0].numpy()
    np.testing.assert_allclose([score for [(_, score)] in ours], expected, atol=1e-5)
    assert {label for [(label, _)] in ours} == {"score"}


def test_a_vocabulary_alone_gives_the_tokenizer_of_transformers(tmp_path):
    model = network("bert")
    files = save(model, tmp_path)
    made = Tokenizer.from_file(str(files.pop("tokenizer.json")))
    ordered = sorted(made.get_vocab().items(), key=lambda item: item[1])
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("".join(f"{token}\n" for token, _ in ordered), encoding="utf-8")
    files["vocab.txt"] = vocabulary
    front = load_backbone(files, record_of(model)).front
    text = "A cat sleeps, and the Train stops."
    assert front.given([text])["input_ids"][0].tolist() == made.encode(text).ids


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("BertModel", None),
        ("XLMRobertaForSequenceClassification", None),
        ("DebertaV2ForMaskedLM", None),
        ("BertForTokenClassification", "its head, BertForTokenClassification"),
        ("LlamaForCausalLM", "its architecture, LlamaForCausalLM"),
        (None, "its architecture, None"),
    ],
)
def test_what_is_converted_is_known_beforehand(architecture, said):
    model = network("bert")
    record = record_of(model)
    import msgspec

    reason = obstacle(msgspec.structs.replace(record, architecture=architecture))
    assert reason is None if said is None else said in reason


def test_the_most_tokens_that_a_model_takes(tmp_path):
    def longest(model_type, **files):
        folder = tmp_path / f"{model_type}{len(files)}"
        names = save(network(model_type), folder, **files)
        return TextRepository.of(names, lambda name: names[name].read_bytes()).max_length

    assert longest("bert") == 64
    assert longest("roberta") == 63  # padding is at 0 here: places are counted from 1
    assert longest("mpnet") == 62
    assert longest("bert", **{"tokenizer_config.json": {"model_max_length": 50}}) == 50


def test_the_model_is_the_outermost_of_those_in_a_repository():
    assert root_of(["a/m/config.json", "a/m/1_Pooling/config.json", "a/m/modules.json"]) == "a/m/"
    assert root_of(["config.json", "onnx/config.json"]) == ""
    with pytest.raises(ConversionError, match="several models, in a/, b/"):
        root_of(["a/config.json", "b/config.json"])
    with pytest.raises(ConversionError, match=r"no config.json"):
        root_of(["README.md"])
