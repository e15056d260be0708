"""Tables in Markdown pages."""

from __future__ import annotations

import pytest

from catalog.harvesters.markdown import count, number, rows

PAGE = """\
# Zoo
| Not | a table

## Classifiers `v1` ##
| Model<br>name | Top-1 (%) | Weights |
| :-- | --: | --- |
| [net_<br>a](docs/a.md) | **77.5** | [file](https://x.org/a) or <a href="https://x.org/b">b</a> |
| net\\_b \\| c | 1,234 |

```
| fenced | out |
| --- | --- |
| x | y |
```
### Detectors
<table><tbody>
<!-- HEADER -->
<th>Name</th> <th>box<br/>AP</th>
<tr><td align="left"><a href="cfg.yaml">R50</a></td><td>35.7</td></tr>
<tr><td>too</td><td>many</td><td>cells</td></tr>
</tbody></table>
"""


def test_rows_have_their_titles_headings_and_links() -> None:
    first, second, third = rows(PAGE)
    assert first.headings == ("Zoo", "Classifiers v1")
    assert first.titles == ("Modelname", "Top-1 (%)", "Weights")
    assert first["^model"].text == "net_a"
    assert first["top-1"].text == "77.5"
    assert first["weights"].links == ("https://x.org/a", "https://x.org/b")
    assert first.links[0] == "docs/a.md"
    assert second["model"].text == "net_b | c"
    assert second["weights"].text == ""  # a row that is cut short
    assert third.headings == ("Zoo", "Classifiers v1", "Detectors")
    assert (third["name"].text, third["^box"].text) == ("R50", "35.7")
    assert third.links == ("cfg.yaml",)


def test_a_cell_of_numbers_is_read() -> None:
    assert number("1,024.5 ms") == 1024.5
    assert number("-.5") == -0.5
    assert number("n/a") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("25.557M", 25_557_000),
        ("1.1B", 1_100_000_000),
        ("218.5K", 218_500),
        ("x", None),
        ("0", None),
    ],
)
def test_a_count_is_whole(text: str, value: int | None) -> None:
    assert count(text) == value


def test_a_count_without_a_letter_takes_the_unit_of_its_column() -> None:
    assert count("11.69", 1e6) == 11_690_000
