"""What belongs together because each is joined to the next."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def joined(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The sets that ``pairs`` make of so many things, each in order, by the first of each."""
    edges = np.array([*pairs], np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    of = connected_components(graph, directed=False)[1]
    sets: list[list[int]] = [[] for _ in range(int(of.max(initial=-1)) + 1)]
    for n, place in enumerate(of.tolist()):
        sets[place].append(n)
    return sets
