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
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATv2Conv

from onnx_bench_dataset.spaces.nasbench101_cells import MAX_EDGES, OPERATIONS, Cell

WIDTH = 32
HEADS = 4
DROPOUT = 0.2

_INPUT, _OUTPUT, _UNDECIDED = len(OPERATIONS), len(OPERATIONS) + 1, len(OPERATIONS) + 2
_MESSAGES = 4  # forward and feedback, along links and along undecided pairs


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
    kinds = [[_INPUT, *[_UNDECIDED] * len(cell.operations), _OUTPUT] for cell in cells]
    pairs = [_all_pairs(len(kind)) for kind in kinds]
    return _joined(kinds, pairs, [_links(cell) for cell in cells], pairs, is_blank=True)


def operations(cells: Sequence[Cell]) -> Tensor:
    """Return the number of each vertex's operation, [V]; -1 for inputs and outputs."""
    numbers = [kind if kind < _INPUT else -1 for cell in cells for kind in _kinds(cell)]
    return torch.tensor(numbers)


def _kinds(cell: Cell) -> list[int]:
    return [_INPUT, *map(OPERATIONS.index, cell.operations), _OUTPUT]


def _links(cell: Cell) -> list[tuple[int, int]]:
    return [(source, target) for target, sources in enumerate(cell.inputs, 1) for source in sources]


def _all_pairs(count: int) -> list[tuple[int, int]]:
    return [(source, target) for target in range(1, count) for source in range(target)]


def _joined(
    kinds: Sequence[list[int]],
    shown: Sequence[list[tuple[int, int]]],
    links: Sequence[list[tuple[int, int]]],
    asked: Sequence[list[tuple[int, int]]],
    *,
    is_blank: bool,
) -> CellBatch:
    starts = [0]
    for kind in kinds:
        starts.append(starts[-1] + len(kind))
    has = [set(pairs) for pairs in links]

    def numbered(pairs: Sequence[list[tuple[int, int]]]) -> Tensor:
        flat = [(start + a, start + b) for start, some in zip(starts, pairs, strict=False) for a, b in some]
        return torch.tensor(flat).reshape(-1, 2).T.contiguous()

    return CellBatch(
        vertices=torch.tensor([kind for some in kinds for kind in some]),
        links=numbered(shown),
        is_blank=is_blank,
        pairs=numbered(asked),
        cell_of_pair=torch.tensor([number for number, pairs in enumerate(asked) for _ in pairs]),
        is_linked=torch.tensor([p in has[number] for number, pairs in enumerate(asked) for p in pairs]),
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
