"""Learning from experts: link models that write cells in one pass, and weigh the links of any cell.

Two things are learned at once, by the same attention layers:

- *writing*: a blank cell with as many vertices as an expert has is read, and the model says which pairs are
  linked and which operations the vertices carry. The negative links are the pairs that the expert leaves
  unlinked.
- *weighing*: written cells are read, and the model says of each link whether it is an expert's. Here the
  negative links are those of ordinary cells, drawn uniformly from the benchmark without regard to accuracy.

The paper samples negative links among the missing ones alone; `Negatives` has that choice as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from onnx_bench_dataset.design.knowledge import Knowledge
from onnx_bench_dataset.design.model import CellBatch, LinkModel, blank, operations, written
from onnx_bench_dataset.one_thread import one_thread
from onnx_bench_dataset.spaces.nasbench101_cells import MAX_EDGES, OPERATIONS, Cell, cell_hash

_EXPERTS_AT_ONCE = 64
_ORDINARY_AT_ONCE = 64
_WEIGHED_AT_ONCE = 5_000
_LEARNING_RATE = 3e-3
_WEIGHT_DECAY = 1e-2
_T = TypeVar("_T")


class Negatives(StrEnum):
    """What weighing takes for links that are not an expert's."""

    ORDINARY = "links of ordinary cells"
    MISSING = "links that experts do not have"


@dataclass(frozen=True)
class Settings:
    """How link models learn: layers, messages back, negative links, steps, and models that are averaged."""

    depth: int = 3
    feedback: bool = True
    negatives: Negatives = Negatives.ORDINARY
    steps: int = 60
    models: int = 8


class Writer:
    """What was learned of experts: writes cells, and weighs them. Made by `learn`."""

    def __init__(self, experts: Sequence[Cell], models: Sequence[LinkModel]) -> None:
        """Take the experts, and the models that learned from them."""
        self.experts = frozenset(map(cell_hash, experts))
        self.least_vertices = float(np.median([len(cell.inputs) + 1 for cell in experts]))
        self.least_links = float(np.median([cell.num_edges for cell in experts]))
        self._sizes = [len(cell.operations) for cell in experts]
        self._models = models

    def write(self, count: int, seed: int) -> list[Cell]:
        """Draw `count` cells from the probabilities that the models give to links and operations.

        A cell has as many vertices as a random expert, before those are left out that lie on no path from
        input to output; what has no such path, or more than 9 links, is drawn again.
        """
        generator = torch.Generator().manual_seed(seed)
        probabilities = {size: self._probabilities(size) for size in set(self._sizes)}
        cells: list[Cell] = []
        while len(cells) < count:
            size = self._sizes[int(torch.randint(len(self._sizes), (), generator=generator))]
            cells += draw_cells(size, *probabilities[size], count // len(self._sizes) + 1, generator)
        return cells[:count]

    def _probabilities(self, size: int) -> tuple[Tensor, Tensor]:
        """Return probabilities of all links, [P], and of the interior vertices' operations, [size, 3]."""
        batch = blank([_of_size(size)])
        with torch.no_grad():
            answers = [model(batch) for model in self._models]
        links = torch.stack([torch.sigmoid(link) for link, _ in answers]).mean(0)
        kinds = torch.stack([torch.softmax(kind, 1) for _, kind in answers]).mean(0)
        return links, kinds[1:-1]

    def weigh(self, cells: Sequence[Cell]) -> NDArray[np.float64]:
        """Return the mean log-odds of each cell's links to be an expert's, [len(cells)]."""
        weights = []
        for start in range(0, len(cells), _WEIGHED_AT_ONCE):
            batch = written(cells[start : start + _WEIGHED_AT_ONCE])
            with torch.no_grad(), one_thread():
                odds = torch.stack([model(batch)[0] for model in self._models]).mean(0)
            weights.append(batch.mean_per_cell(odds).double().numpy())
        return np.concatenate(weights) if weights else np.empty(0)

    def is_large_enough(self, cell: Cell) -> bool:
        """Whether a cell has at least the vertices and links of the median expert.

        Little is learned of smaller ones: nearly all cells of the benchmark are as large as it allows.
        """
        return len(cell.inputs) + 1 >= self.least_vertices and cell.num_edges >= self.least_links


def learn(knowledge: Knowledge, seed: int = 0, settings: Settings | None = None) -> Writer:
    """Fit link models to experts; seconds on a CPU.

    Args:
        knowledge: experts and ordinary cells.
        seed: for initial weights, dropout, and the cells of each step.
        settings: how to learn; the defaults without.

    Examples:
        >>> from onnx_bench_dataset.design.knowledge import Knowledge
        >>> from onnx_bench_dataset.spaces.nasbench101 import parse
        >>> expert = parse("conv3x3-bn-relu:0 conv3x3-bn-relu:0,1 output:0,2")
        >>> ordinary = parse("maxpool3x3:0 maxpool3x3:1 output:2")
        >>> writer = learn(Knowledge((expert,), (ordinary,), "taste"), settings=Settings(steps=20, models=1))
        >>> bool(writer.weigh([expert]) > writer.weigh([ordinary]))
        True
    """
    settings = settings or Settings()
    models = [_fitted(knowledge, 1_000 * seed + number, settings) for number in range(settings.models)]
    return Writer(knowledge.experts, models)


def _fitted(knowledge: Knowledge, seed: int, settings: Settings) -> LinkModel:
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        draw = np.random.default_rng(seed)
        model = LinkModel(settings.depth, settings.feedback)
        optimizer = torch.optim.AdamW(model.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, settings.steps)
        for _ in range(settings.steps):
            experts = _some(knowledge.experts, _EXPERTS_AT_ONCE, draw)
            loss = _writing_loss(model, experts)
            if settings.negatives is Negatives.MISSING:
                loss = loss + _weighing_loss(model, written(experts, missing=True))
            else:
                ordinary = _some(knowledge.ordinary, _ORDINARY_AT_ONCE, draw)
                batch = written([*experts, *ordinary])
                is_expert = batch.cell_of_pair < len(experts)
                loss = loss + _weighing_loss(model, batch._replace(is_linked=is_expert))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return model.eval()


def _writing_loss(model: LinkModel, experts: Sequence[Cell]) -> Tensor:
    batch = blank(experts)
    links, kinds = model(batch)
    known = functional.binary_cross_entropy_with_logits(links, batch.is_linked.float())
    return known + functional.cross_entropy(kinds, operations(experts), ignore_index=-1)


def _weighing_loss(model: LinkModel, batch: CellBatch) -> Tensor:
    """Return the cross-entropy of links, in which both classes weigh the same."""
    odds, _ = model(batch)
    losses = functional.binary_cross_entropy_with_logits(odds, batch.is_linked.float(), reduction="none")
    return losses[batch.is_linked].mean() + losses[~batch.is_linked].mean()


def _some(items: Sequence[_T], count: int, draw: np.random.Generator) -> list[_T]:
    if len(items) <= count:
        return list(items)
    return [items[place] for place in draw.choice(len(items), count, replace=False)]


def _of_size(size: int) -> Cell:
    """Return any cell with so many interior vertices, in a row."""
    return Cell(tuple((vertex,) for vertex in range(size + 1)), (OPERATIONS[0],) * size)


def draw_cells(size: int, links: Tensor, kinds: Tensor, count: int, generator: torch.Generator) -> list[Cell]:
    """Draw cells with `size` interior vertices, and leave out what is no cell of the benchmark."""
    linked = torch.rand(count, len(links), generator=generator) < links
    chosen = (
        torch.multinomial(kinds, count, replacement=True, generator=generator).T.tolist()
        if size
        else [[]] * count
    )
    pairs = [(source, target) for target in range(1, size + 2) for source in range(target)]
    cells = []
    for row, numbers in zip(linked.tolist(), chosen, strict=True):
        inputs: list[list[int]] = [[] for _ in range(size + 1)]
        for (source, target), is_linked in zip(pairs, row, strict=True):
            if is_linked:
                inputs[target - 1].append(source)
        cell = Cell(tuple(map(tuple, inputs)), tuple(OPERATIONS[number] for number in numbers)).pruned()
        if cell is not None and cell.num_edges <= MAX_EDGES:
            cells.append(cell)
    return cells
