"""The rows of the tables in a Markdown page, those of HTML in it too."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser


@dataclass(frozen=True)
class Cell:
    """What a cell shows and what it links to; line breaks inside join what they part."""

    text: str
    links: tuple[str, ...] = ()


EMPTY = Cell("")


@dataclass(frozen=True)
class Row:
    """A row under its column titles, below the headings of its section (outermost first)."""

    headings: tuple[str, ...]
    titles: tuple[str, ...]
    cells: tuple[Cell, ...]

    def __getitem__(self, pattern: str) -> Cell:
        """The first cell whose title matches, ignoring case; an empty one if there is none."""
        for title, cell in zip(self.titles, self.cells, strict=False):
            if re.search(pattern, title, re.I):
                return cell
        return EMPTY

    @property
    def links(self) -> tuple[str, ...]:
        """All links of the row in order."""
        return tuple(link for cell in self.cells for link in cell.links)


def rows(page: str) -> Iterator[Row]:
    """Every row of every table, in order; of HTML tables those as long as their titles."""
    found = _HtmlTables()
    headings: list[tuple[int, str]] = []
    titles: tuple[str, ...] = ()
    previous = ""
    fenced = False
    for line in page.splitlines():
        bare = line.strip()
        fenced ^= bare.startswith("```")
        if fenced:
            continue
        if match := re.match(r"(#{1,6})\s+(.*?)\s*#*$", line):
            depth = len(match[1])
            headings = [item for item in headings if item[0] < depth]
            headings.append((depth, _cell(match[2]).text))
        if re.fullmatch(r"\|?[\s:|-]*-[\s:|-]*\|?", bare) and "|" in previous:
            titles = tuple(cell.text for cell in _cells(previous))
        elif titles and "|" in bare:
            yield Row(tuple(title for _, title in headings), titles, _cells(bare))
        else:
            titles = ()
            found.headings = tuple(title for _, title in headings)
            found.feed(line + "\n")
            yield from found.taken()
        previous = bare


def number(text: str) -> float | None:
    """The first number in a cell, thousands parted by commas or not; None if there is none."""
    match = re.search(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+", text)
    return float(match[0].replace(",", "")) if match else None


def count(text: str, unit: float = 1) -> int | None:
    """A count such as ``25.6M`` as a whole number; ``unit`` is that of a number without a letter.

    Exact in decimal: 25.557 of millions are 25,557,000.
    """
    match = re.match(r"\s*~?(\d[\d,]*(?:\.\d+)?)\s*([KMGB])?", text, re.I)
    if match is None:
        return None
    scale = {"K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}[match[2].upper()] if match[2] else unit
    return round(float(match[1].replace(",", "")) * scale) or None


def _cells(line: str) -> tuple[Cell, ...]:
    inner = re.sub(r"^\||(?<!\\)\|$", "", line.strip())
    return tuple(_cell(part.replace("\\|", "|")) for part in re.split(r"(?<!\\)\|", inner))


def _cell(source: str) -> Cell:
    links = re.findall(r"\]\(\s*<?([^)\s>]+)", source)
    links += re.findall(r"""href=["']([^"']+)""", source)
    text = re.sub(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\([^)]*\)", r"\1", source)
    text = re.sub(r"<[^>]*>|[*`]|\\(?=[_*])", "", text)
    return Cell(" ".join(html.unescape(text).split()), tuple(links))


class _HtmlTables(HTMLParser):
    """Collects rows of ``<td>`` cells below the last row of ``<th>`` cells."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: tuple[str, ...] = ()
        self._rows: list[Row] = []
        self._titles: list[str] = []
        self._cells: list[Cell] = []
        self._text: list[str] | None = None
        self._links: list[str] = []

    def taken(self) -> Sequence[Row]:
        """The rows that are whole by now, each given once."""
        done, self._rows = self._rows, []
        return done

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._titles, self._cells = [], []
        elif tag == "tr":
            self._end_row()
        elif tag in ("td", "th"):
            if tag == "th" and self._cells:
                self._cells = []
            self._text, self._links = [], []
        elif tag == "a":
            self._links += [value for name, value in attrs if name == "href" and value]

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._text is not None:
            text = " ".join("".join(self._text).split())
            if tag == "th":
                self._titles.append(text)
            else:
                self._cells.append(Cell(text, tuple(self._links)))
            self._text = None
        elif tag in ("tr", "table"):
            self._end_row()

    def _end_row(self) -> None:
        if self._cells and len(self._cells) == len(self._titles):
            self._rows.append(Row(self.headings, tuple(self._titles), tuple(self._cells)))
        self._cells = []
