"""What a look at a file says, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["clean", "trust", "unsafe", "damaged", "code", "unknown"]
# The gravest first: what a file is called that has findings of several kinds.
_GRAVEST_FIRST: tuple[Verdict, ...] = ("unsafe", "damaged", "trust", "code", "unknown")
_MOST_CHARS = 300  # of what a finding says


@dataclass(frozen=True)
class Finding:
    """One thing seen in a file.

    ``verdict`` is what it makes of the file: `unsafe` is never loaded, `trust` only where the
    user says so, `damaged` cannot be; `code` is a program that tlhub never runs, and of `unknown`
    nothing can be said.
    """

    verdict: Verdict
    what: str

    def __post_init__(self) -> None:
        """Whoever made the file chose names in it: they are shown, not obeyed by a terminal."""
        plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in self.what[:_MOST_CHARS])
        object.__setattr__(self, "what", plain)


@dataclass(frozen=True)
class Scan:
    """What is known of a file by its content: advisory, see docs/reference/safety.md."""

    format: str
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The gravest of the findings; `clean` where there is none."""
        said = {finding.verdict for finding in self.findings}
        return next((verdict for verdict in _GRAVEST_FIRST if verdict in said), "clean")
