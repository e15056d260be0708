"""A check that our sibling packages are ours.

`catalog` or `converters` are names that a user's own script may have too, and a file beside the
script comes first on `sys.path`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_SIBLINGS = ("catalog", "hub_client", "converters", "finetuning")


def check() -> None:
    """Say which file shadows which of our packages, if one does.

    Raises:
        ImportError: a sibling package is missing or is somebody else's.
    """
    root = Path(__file__).resolve().parent.parent
    for name in _SIBLINGS:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ImportError(f"tlhub is not whole: its package {name!r} is not in {root}")
        found = Path(spec.origin).resolve()
        if found != root / name / "__init__.py":
            raise ImportError(
                f"{found} shadows tlhub's own package {name!r} in {root}: rename it, or start "
                "Python from another folder"
            )
