"""Python source read as data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import IntegrityError
from catalog.harvesters.modules import UNKNOWN, Call, Modules
from catalog.harvesters.package import Package

METADATA = "Metadata-Version: 2.1\nName: zoo\nVersion: 1.0\nLicense: MIT\n"


def modules(folder: Path, **files: str) -> Modules:
    (folder / "zoo-1.0.dist-info").mkdir()
    (folder / "zoo-1.0.dist-info/METADATA").write_text(METADATA)
    (folder / "zoo").mkdir()
    for name, text in files.items():
        (folder / f"zoo/{name}.py").write_text(text)
    return Modules(Package.open(folder))


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("-3", -3),
        ("int(9.24 * 1e9)", 9_240_000_000),
        ("2 ** 8 // 3", 85),
        ("float('inf')", math.inf),
        ("np.inf", math.inf),
        ("{'a'} | {'b'}", {"a", "b"}),
        ("['x'] + [*('y', 'z')]", ["x", "y", "z"]),
        ("dict(a=1, **{'b': 2})", {"a": 1, "b": 2}),
        ("{**{'a': 1}, 'b': other()}", {"a": 1, "b": Call("other", (), {}, 1)}),
        ("f'{1}-{\"b\"}'", "1-b"),
        ("set()", set()),
        ("[n for n in (1, 2)]", UNKNOWN),
        ("open('/etc/passwd').read()", Call(".read", (), {}, 1)),
        ("[missing]", UNKNOWN),
        ("'a' * 10**9", UNKNOWN),
        ("9 ** 9 ** 9", UNKNOWN),
        ("itself", UNKNOWN),
    ],
)
def test_values_are_told_without_running_anything(tmp_path: Path, source: str, value: Any) -> None:
    module = modules(tmp_path, a=f"itself = {source}").module("zoo/a.py")
    assert module.get("itself") == value


def test_names_are_followed_through_imports_and_circles_end(tmp_path: Path) -> None:
    found = modules(
        tmp_path,
        a="from zoo.b import SIZE as S\nfrom .b import BACK\nx = S + 1",
        b="from zoo.a import x\nSIZE = 4\nBACK = x",
    )
    assert found.module("zoo/a.py").get("x") == 5
    assert found.module("zoo/a.py").get("BACK") == 5


def test_a_name_bound_twice_is_not_told(tmp_path: Path) -> None:
    module = modules(tmp_path, a="x = {}\nx |= {1: 2}\ny = 1\ny = 2").module("zoo/a.py")
    assert module.get("x") is UNKNOWN
    assert module.get("y") is UNKNOWN


def test_calls_are_found_with_what_of_their_arguments_can_be_told(tmp_path: Path) -> None:
    module = modules(tmp_path, a="n = 2\ndef f():\n  return Meta('a', n=n, m=f())").module(
        "zoo/a.py"
    )
    (call,) = module.calls("Meta")
    assert call.arguments == ("a",)
    assert call.keywords["n"] == 2


@pytest.mark.parametrize("text", ["def (", "x = '\0'", "x = " + "(" * 100_000])
def test_what_is_no_source_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(IntegrityError, match=r"a\.py"):
        modules(tmp_path, a=text).module("zoo/a.py")


def test_doubling_ends(tmp_path: Path) -> None:
    lines = ["x0 = ['a']", *(f"x{n + 1} = x{n} + x{n}" for n in range(64))]
    assert modules(tmp_path, a="\n".join(lines)).module("zoo/a.py").get("x64") is UNKNOWN
