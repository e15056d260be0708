"""A card says what it is given, whatever that is: Markdown, YAML and code."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from markdown_it.token import Token

from converters.folder import ModelFolder
from finetuning import card
from finetuning.finetune import finetune

ODD = [
    "o'data_v2 & <b>",
    "a|b",
    "*_**__`x`` \\ [y](z) ![i](j)",
    "<script>alert(1)</script>",
    "&lt; &amp; $x$ ~~gone~~",
    "# heading",
    "1. one",
    "2) two",
    "- dash",
    "+ plus",
    "---",
    "===",
    "key: value # {a: [b]}",
    "'\"",
    "\U0001f600 \u00e9",
    "{{ 7 * 7 }} {% if %}",
]


def said(tokens: list[Token]) -> list[str]:
    return [
        "".join(part.content for part in token.children or ()) for token in tokens if token.children
    ]


@pytest.mark.parametrize("text", ODD)
def test_what_is_escaped_is_shown_as_it_is(text: str) -> None:
    markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    shown = " ".join(text.split())
    for before, after in (("", ""), ("- ", " (3 images)"), ("# ", ""), ("|a|\n|-|\n| ", " |")):
        tokens = markdown.parse(f"{before}{card.escaped(text)}{after}")
        assert said(tokens)[-1] == shown + after.rstrip("|").rstrip()
        assert not {"html_inline", "code_inline", "em_open"} & {
            part.type for token in tokens for part in token.children or ()
        }


def test_code_can_hold_fences() -> None:
    code = "echo '```'\n````\nend"
    [token] = MarkdownIt().parse(card.fenced(code, "sh"))
    assert (token.type, token.info, token.content) == ("fence", "sh", code + "\n")


@pytest.mark.parametrize("path", ["runs/a", "o'data_v2 & <b>", 'a "b" \\ {c}'])
def test_code_names_the_folder_as_its_language_does(path: str) -> None:
    shell, python, alone = card.usage(path).values()
    assert shlex.split(shell) == ["tlhub", "predict", path, "photo.jpg"]
    for code, name in ((python, path), (alone, f"{path}/model.onnx")):
        strings = [n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant)]
        assert name in strings


def test_a_card_of_odd_names_is_valid_and_says_the_command_as_typed(
    tiny: ModelFolder,
    make_data: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [name.replace("/", "\u2215") for name in ODD]
    folder = "it's: #1 \n---\n`[<b>]` & {x}"
    data = make_data(dict.fromkeys(names, 2), tmp_path / folder)
    out = Path("my runs") / "*r_u_n* | 'x'"
    command = ["tlhub", "finetune", "test/tiny", "--data", str(data), "-o", str(out)]
    run = finetune(tiny, data, out, cache=tmp_path / "cache", device="cpu", command=command)
    text = (out / "README.md").read_text()

    _, front, body = text.split("---\n", 2)
    metadata = yaml.safe_load(front)
    [result] = metadata["model-index"]
    assert (result["name"], result["results"][0]["dataset"]["name"]) == (out.name, folder)
    assert ModelCard(text).data.base_model == "test/tiny"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body)
    codes = [token.content for token in tokens if token.type == "fence"]
    assert shlex.join(command) + "\n" in codes
    shown = said(tokens)
    assert shown[0] == out.name
    assert " ".join(folder.split()) in shown[1]
    assert {f"{' '.join(name.split())} (1 images)" for name in names} <= set(shown)
    assert "&#39;" not in text

    html = (out / "report.html").read_text()
    assert "tlhub predict &#39;my runs/*r_u_n* | &#39;" in html
    assert run.manifest.uid == f"run/{out.name}"
