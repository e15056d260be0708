import subprocess
import sys
from pathlib import Path

import pytest

import tlhub

HEAVY = {
    "torch", "timm", "torchvision", "transformers", "onnxruntime", "onnx", "onnxscript", "httpx2",
    "starlette", "sklearn", "scipy", "huggingface_hub", "numpy", "PIL", "jinja2",
}  # fmt: skip


def loaded_by(code: str) -> set[str]:
    report = "import sys; sys.stderr.write('\\n'.join(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["search", "mobile"],
        ["show", "pypi/efficientnet-lite0"],
        ["compare", "pypi/efficientnet-lite0", "pypi/efficientnet-lite1"],
        ["similar", "pypi/efficientnet-lite0"],
    ],
)
def test_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv = ['tlhub', *" + repr(arguments) + "]\n"
        "from tlhub.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass"
    )
    loaded = loaded_by(code)
    assert "tlhub" in loaded
    assert not loaded & HEAVY


def test_importing_tlhub_loads_nothing_heavy_and_offers_all_it_names() -> None:
    assert not loaded_by("import tlhub; dir(tlhub)") & (HEAVY | {"typer", "rich", "tantivy"})
    for name in tlhub.__all__:
        assert getattr(tlhub, name) is not None
    assert tlhub.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = tlhub.nothing_like_it


def test_a_shadowing_module_is_named(tmp_path: Path) -> None:
    (tmp_path / "catalog.py").write_text("", encoding="utf-8")
    (tmp_path / "script.py").write_text("import tlhub", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"{tmp_path / 'catalog.py'} shadows tlhub's own package 'catalog'" in done.stderr
