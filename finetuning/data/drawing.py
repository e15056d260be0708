"""Units of examples drawn so that every label has its share of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence


def drawn(
    units: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], fraction: float
) -> list[int]:
    """The examples of the units that are held out; those that come first are, where they fit.

    ``labels`` are those of each example. Of every label one unit stays to learn from, and of each
    that has two, one is held out where that is possible.
    """
    draw = _Draw(units, labels, fraction)
    holders = draw.holders
    for label in sorted(holders, key=lambda label: (len(holders[label]), label)):
        for number in holders[label]:
            if draw.taken[label] >= draw.wanted[label]:
                break
            draw.take(number, only_if_nearer=True)
        for number in sorted(holders[label], key=draw.size):
            if draw.taken[label]:
                break
            draw.take(number, only_if_nearer=False)
    return [n for number in draw.held for n in units[number]]


class _Draw:
    """What is held out so far, and how far that is from what is wanted of each label."""

    def __init__(
        self, units: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], fraction: float
    ) -> None:
        self._counts = [Counter(label for n in unit for label in labels[n]) for unit in units]
        self.holders: dict[int, list[int]] = defaultdict(list)
        total: Counter[int] = Counter()
        for number, count in enumerate(self._counts):
            total.update(count)
            for label in count:
                self.holders[label].append(number)
        self.wanted = {label: max(1, round(fraction * total[label])) for label in self.holders}
        self._left = {label: len(numbers) for label, numbers in self.holders.items()}
        self.taken: Counter[int] = Counter()
        self.held: set[int] = set()

    def size(self, number: int) -> int:
        """How many labels a unit has, each as often as it has it."""
        return self._counts[number].total()

    def take(self, number: int, *, only_if_nearer: bool) -> None:
        """Hold a unit out, unless a label would have nothing to learn from."""
        count = self._counts[number]
        if number in self.held or any(self._left[label] < 2 for label in count):
            return
        if only_if_nearer and sum(self._farther(*item) for item in count.items()) > 0:
            return
        self.held.add(number)
        self.taken.update(count)
        for label in count:
            self._left[label] -= 1

    def _farther(self, label: int, more: int) -> float:
        """By which share of it a label would be farther from what is wanted."""
        now = self.taken[label] - self.wanted[label]
        return (abs(now + more) - abs(now)) / self.wanted[label]
