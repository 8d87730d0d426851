"""The link model: a graph attention network that says which vertices of a cell should be linked.

As in NAL (arXiv 2204.11838) it has three layers of graph attention, and beside the adjacency matrix of a cell
a feedback adjacency matrix: every link also carries a message back, of a kind of its own, so that a vertex
perceives how far from both ends it lies. A vertex starts from its operation and its numbers of links, which
attention, an average, could not count. The paper leaves the layers' sizes open; here attention is that of
GATv2 (Brody et al. 2022, arXiv 2105.14491), four heads of eight channels with residual connections.

A cell is read in two ways. A *written* cell shows its operations and links. A *blank* one shows nothing but
how many vertices it has: all pairs are undecided, and messages flow between all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATv2Conv

from onnx_bench_dataset.spaces.nasbench101_cells import MAX_EDGES, OPERATIONS, Cell

WIDTH = 32
HEADS = 4
DROPOUT = 0.2

_INPUT, _OUTPUT, _UNDECIDED = len(OPERATIONS), len(OPERATIONS) + 1, len(OPERATIONS) + 2
_MESSAGES = 4  # forward and feedback, along links and along undecided pairs

_Numbers: TypeAlias = NDArray[np.int64]


class CellBatch(NamedTuple):
    """Cells as one graph of V vertices, and the pairs of vertices that the model is asked about."""

    vertices: Tensor
    """What each vertex is, [V]: an operation's number, input, output or undecided."""
    links: Tensor
    """[2, E], from earlier to later vertices."""
    is_blank: bool
    pairs: Tensor
    """[2, P], from earlier to later vertices."""
    cell_of_pair: Tensor
    """[P]"""
    is_linked: Tensor
    """Whether the cell has the link, [P]."""
    num_cells: int

    def mean_per_cell(self, values: Tensor) -> Tensor:
        """Return the mean over the pairs of each cell, [num_cells]."""
        totals = torch.zeros(self.num_cells).index_add_(0, self.cell_of_pair, values)
        return totals / torch.bincount(self.cell_of_pair, minlength=self.num_cells)


def written(cells: Sequence[Cell], *, missing: bool = False) -> CellBatch:
    """Return cells as they are; the model is asked about their links, and about `missing` ones if wanted."""
    kinds = [_kinds(cell) for cell in cells]
    links = [_links(cell) for cell in cells]
    asked = [_all_pairs(len(kind)) for kind in kinds] if missing else links
    return _joined(kinds, links, links, asked, is_blank=False)


def blank(cells: Sequence[Cell]) -> CellBatch:
    """Return cells of which nothing but the number of vertices shows; all pairs are asked about."""
    kinds = [_blank_kinds(len(cell.operations)) for cell in cells]
    pairs = [_all_pairs(len(kind)) for kind in kinds]
    return _joined(kinds, pairs, [_links(cell) for cell in cells], pairs, is_blank=True)


def operations(cells: Sequence[Cell]) -> Tensor:
    """Return the number of each vertex's operation, [V]; -1 for inputs and outputs."""
    kinds = np.concatenate([_kinds(cell) for cell in cells])
    return torch.from_numpy(np.where(kinds < _INPUT, kinds, -1))


@lru_cache(maxsize=1 << 15)
def _kinds(cell: Cell) -> _Numbers:
    return np.array([_INPUT, *map(OPERATIONS.index, cell.operations), _OUTPUT])


def _blank_kinds(size: int) -> _Numbers:
    return np.array([_INPUT, *[_UNDECIDED] * size, _OUTPUT])


@lru_cache(maxsize=1 << 15)
def _links(cell: Cell) -> _Numbers:
    """Return (source, target) of each link, [number of links, 2]."""
    pairs = [(source, target) for target, sources in enumerate(cell.inputs, 1) for source in sources]
    return np.array(pairs)


@lru_cache(maxsize=64)
def _all_pairs(count: int) -> _Numbers:
    return np.array([(source, target) for target in range(1, count) for source in range(target)])


def _joined(
    kinds: Sequence[_Numbers],
    shown: Sequence[_Numbers],
    links: Sequence[_Numbers],
    asked: Sequence[_Numbers],
    *,
    is_blank: bool,
) -> CellBatch:
    sizes = np.array([len(kind) for kind in kinds])
    count = int(sizes.sum())
    starts: _Numbers = np.cumsum(sizes) - sizes

    def numbered(pairs: Sequence[_Numbers]) -> _Numbers:
        numbers: _Numbers = np.concatenate(pairs) + np.repeat(starts, list(map(len, pairs)))[:, None]
        return numbers.T

    pairs, linked = numbered(asked), numbered(links)
    return CellBatch(
        vertices=torch.from_numpy(np.concatenate(kinds)),
        links=torch.from_numpy(numbered(shown)),
        is_blank=is_blank,
        pairs=torch.from_numpy(pairs),
        cell_of_pair=torch.from_numpy(np.repeat(np.arange(len(asked)), list(map(len, asked)))),
        is_linked=torch.from_numpy(np.isin(pairs[0] * count + pairs[1], linked[0] * count + linked[1])),
        num_cells=len(kinds),
    )


class LinkModel(nn.Module):
    """Graph attention over cells, with a head for links and one for operations."""

    def __init__(self, depth: int = 3, feedback: bool = True) -> None:
        """Take the number of attention layers, and whether links carry messages back, too."""
        super().__init__()
        self._feedback = feedback
        self.kind = nn.Embedding(_UNDECIDED + 1, WIDTH)
        self.degrees = nn.Linear(2, WIDTH)
        self.attention = nn.ModuleList(
            GATv2Conv(WIDTH, WIDTH // HEADS, HEADS, edge_dim=_MESSAGES, add_self_loops=False, residual=True)
            for _ in range(depth)
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.link_head = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
        self.operation_head = nn.Linear(WIDTH, len(OPERATIONS))

    def forward(self, batch: CellBatch) -> tuple[Tensor, Tensor]:
        """Return log-odds of the pairs, [P], and logits of the vertices' operations, [V, 3]."""
        sources, targets = batch.links
        count = len(batch.vertices)
        degrees = torch.stack([torch.bincount(ends, minlength=count) for ends in (sources, targets)], dim=1)
        x = self.kind(batch.vertices) + self.degrees(degrees / MAX_EDGES)
        links, kinds = batch.links, torch.full_like(sources, 2 * batch.is_blank)
        if self._feedback:
            links = torch.cat([links, links.flip(0)], dim=1)
            kinds = torch.cat([kinds, kinds + 1])
        messages = functional.one_hot(kinds, _MESSAGES).float()
        for layer in self.attention:
            x = self.dropout(torch.relu(layer(x, links, messages)))
        ends = torch.cat([x[batch.pairs[0]], x[batch.pairs[1]]], dim=1)
        return self.link_head(ends).squeeze(1), self.operation_head(x)
