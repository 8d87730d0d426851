"""Graph neural networks that read the modules of a network, beside features of the whole.

What a network repeats is read once (`modules`): nine equal cells are one graph of a dozen vertices instead of
a hundred operations. What a graph cannot count, sizes and how often, the features say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor, nn
from torch_geometric.nn import SimpleConv, global_add_pool, global_mean_pool

from onnx_bench_dataset.one_thread import one_thread
from onnx_bench_dataset.surrogates.features import NAMES
from onnx_bench_dataset.surrogates.graph_features import features_of, normal_scores
from onnx_bench_dataset.surrogates.kinds import ROLES
from onnx_bench_dataset.surrogates.layers import of_text
from onnx_bench_dataset.surrogates.lines import logarithm
from onnx_bench_dataset.surrogates.modules import modules_of
from onnx_bench_dataset.surrogates.predictor import Predictor
from onnx_bench_dataset.surrogates.ranking import Recipe, score, seeded, train

LETTERS = ("$", *ROLES)
"""What a vertex is: what enters a module, or the first letter of a layer's role."""

_PLACES = {letter: place for place, letter in enumerate(LETTERS)}
_FARTHEST = 5.0  # standard deviations from what was learned from, beyond which features count as that far
_WEIGHTS = "weights.safetensors"
_STEPS, _MOST_EPOCHS, _LEAST_EPOCHS = 1_400, 60, 4
_LEAST_BATCH, _BATCHES = 16, 16
_DROPOUT, _HEAD_DROPOUT = 0.2, 0.1


class _Modules(NamedTuple):
    """The different modules of a network, one after another."""

    letters: list[int]
    numbers: list[tuple[float, float, float]]
    """Of each vertex the logarithm of the length of its window, whether it has a stride, and the share of
    what it reads that was activated."""
    shares: list[tuple[float, float, float]]
    """Of each vertex what it counts in sums, in means and as the end of a module; sums of sixteen are 1."""
    edges: list[tuple[int, int]]


def _modules(text: str) -> _Modules:
    counts = modules_of(of_text(text))
    found = _Modules([], [], [], [])
    total = counts.total()
    for module, count in counts.items():
        start, share, size = len(found.letters), count / total, len(module.roles) + 1
        found.letters.append(0)
        found.numbers.append((0.0, 0.0, 0.0))
        for role, activated in zip(module.roles, module.activated, strict=True):
            window, stride, _ = role[1:].partition("/")
            found.letters.append(_PLACES[role[0]])
            found.numbers.append((math.log(int(window)) if window else 0.0, float(bool(stride)), activated))
        found.shares.extend([(share / 16, share / size, 0.0)] * (size - 1))
        found.shares.append((share / 16, share / size, share))
        found.edges.extend([(start + source, start + reader) for source, reader in module.edges])
    return found


class Graphs:
    """The modules and the features of many networks in a few arrays, of which batches are cut.

    `sizes` int64, (networks,), are the vertices of each.
    """

    def __init__(self, texts: Sequence[str], mean: Tensor | None = None, scale: Tensor | None = None) -> None:
        """Read texts; features are standardized by `mean` and `scale`, or by what they themselves have.

        Raises:
            TextError: a text is broken.
        """
        features = torch.from_numpy(logarithm(features_of(texts).astype(np.float64)))
        if mean is None or scale is None:
            mean, scale = features.mean(dim=0), features.std(dim=0, correction=0)
            scale = torch.where(scale < 1e-5, 1.0, scale)
        self.mean, self.scale = mean, scale
        self._features = ((features - mean) / scale).clamp(-_FARTHEST, _FARTHEST).float()
        modules = [_modules(text) for text in texts]
        self.sizes = torch.tensor([len(each.letters) for each in modules], dtype=torch.int64)
        self._num_edges = torch.tensor([len(each.edges) for each in modules], dtype=torch.int64)
        self._letters = torch.tensor([one for each in modules for one in each.letters], dtype=torch.int8)
        self._numbers = torch.tensor([one for each in modules for one in each.numbers]).reshape(-1, 3)
        self._shares = torch.tensor([one for each in modules for one in each.shares]).reshape(-1, 3)
        edges = [one for each in modules for one in each.edges]
        self._edges = torch.tensor(edges, dtype=torch.int32).reshape(-1, 2).T
        self._vertices_before = self.sizes.cumsum(0) - self.sizes
        self._edges_before = self._num_edges.cumsum(0) - self._num_edges

    def __call__(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Make a batch of the networks that have these numbers.

        Returns:
            `letters` (vertices,), places in `LETTERS`; `numbers` (vertices, 3), logarithm of the length of
            the window, whether there is a stride, and the share of what is read that was activated;
            `shares` (vertices, 3), weights in the readouts; `edge_index` (2, edges); `batch` (vertices,),
            the place of the network; `features` (networks, features).
        """
        chosen = torch.from_numpy(rows)
        sizes, num_edges = self.sizes[chosen], self._num_edges[chosen]
        vertices = _ranges(self._vertices_before[chosen], sizes)
        edges = _ranges(self._edges_before[chosen], num_edges)
        starts = sizes.cumsum(0) - sizes
        return {
            "letters": self._letters[vertices].long(),
            "numbers": self._numbers[vertices],
            "shares": self._shares[vertices],
            "edge_index": self._edges[:, edges].long() + starts.repeat_interleave(num_edges),
            "batch": torch.arange(len(rows)).repeat_interleave(sizes),
            "features": self._features[chosen],
        }


class _Layer(nn.Module):
    """Passes messages along edges and against them (Dir-GNN, arXiv 2305.10498), and adds what comes of them.

    Messages add up, as sums tell how many there are (GIN, arXiv 1810.00826). A layer with a hub also tells
    every vertex the mean of all vertices of its network.
    """

    def __init__(self, channels: int, hub: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.own = nn.Linear(channels, 4 * channels)
        self.along = nn.Linear(channels, 2 * channels)
        self.against = nn.Linear(channels, 2 * channels)
        self.hub = nn.Linear(channels, 4 * channels) if hub else None
        self.passing = SimpleConv(aggr="sum")
        self.mix = nn.Linear(4 * channels, channels)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, hidden: Tensor, edges: Tensor, owners: Tensor) -> Tensor:
        """Return the next (vertices, channels); `owners` (vertices,) are the places of their networks."""
        known = self.norm(hidden)
        along = self.passing(self.along(known), edges)
        against = self.passing(self.against(known), edges.flip(0))
        messages = self.own(known) + torch.cat([along, against], dim=1)
        if self.hub is not None:
            messages = messages + self.hub(global_mean_pool(known, owners))[owners]
        added: Tensor = self.dropout(self.mix(torch.relu(messages)))
        return hidden + added


class GraphNetwork(nn.Module):
    """Passes messages along the edges of modules and against them, and reads them out beside the features.

    Modules are read out as a sum, as a mean and at their last vertex, after a third of the layers, after two
    thirds and after all: what lies near a vertex is told beside what lies around it (Jumping Knowledge,
    arXiv 1806.03536).
    """

    def __init__(self, channels: int, layers: int, hub: bool) -> None:
        """Make one that knows nothing yet, whose layers have hubs or not."""
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), channels)
        self.numbers = nn.Linear(3, channels)
        self.layers = nn.ModuleList(_Layer(channels, hub) for _ in range(layers))
        self.read_after = sorted({math.ceil(layers * thirds / 3) for thirds in (1, 2, 3)})
        width = 3 * channels * len(self.read_after)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(
            nn.Linear(width + len(NAMES), channels),
            nn.ReLU(),
            nn.Dropout(_HEAD_DROPOUT),
            nn.Linear(channels, 1),
        )

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the scores of a batch of `Graphs`: (networks,)."""
        owners, count = batch["batch"], len(batch["features"])
        hidden = self.letters(batch["letters"]) + self.numbers(batch["numbers"])
        read = []
        for number, layer in enumerate(self.layers, 1):
            hidden = layer(hidden, batch["edge_index"], owners)
            if number in self.read_after:
                weighted = (batch["shares"][:, :, None] * hidden[:, None, :]).flatten(1)
                read.append(global_add_pool(weighted, owners, count))
        normal = self.norm(torch.cat(read, dim=1))
        scores: Tensor = self.head(torch.cat([normal, batch["features"]], dim=1))[:, 0]
        return scores


class Gnn(Predictor):
    """Ranks networks by their modules and features.

    Scores are the mean over several neural networks, of each on the scale of its scores of the training rows:
    0 is their mean, 1 is a standard deviation better. Networks that err in different ways have a better mean:
    every other one has hubs, and of four two compare pairs of rows and two learn normal scores of accuracies.
    """

    name = "gnn"
    summary = "graph neural networks on modules, beside features of the graph"

    def __init__(
        self,
        epochs: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        channels: int = 64,
        layers: int = 6,
        networks: int = 4,
        mixed_precision: str | None = None,
    ) -> None:
        """Choose the size, and how to train.

        Args:
            epochs: times that every row is seen; by default some 1,400 steps, in 4 to 60 epochs.
            batch_size: rows that a device compares in one step, fewer where there are few rows.
            learning_rate: at its highest.
            channels: of what a vertex knows.
            layers: edges over which a vertex knows of others.
            networks: neural networks whose scores are averaged.
            mixed_precision: `no`, `fp16` or `bf16`; otherwise what `accelerate launch` says.
        """
        self._options: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "channels": channels,
            "layers": layers,
            "networks": networks,
            "mixed_precision": mixed_precision,
        }
        self._learned: _Learned | None = None

    def learn(
        self, networks: pa.Table, accuracies: NDArray[np.float64], groups: NDArray[np.int64], seed: int
    ) -> None:
        """Train every network on all rows."""
        graphs = Graphs(networks["text"].to_pylist())
        recipe = self._recipe(len(accuracies))
        targets = np.nan_to_num(normal_scores(accuracies, groups))
        with one_thread(), seeded(seed):
            learned = self._untrained()
            scales = []
            for number, network in enumerate(learned):
                own = recipe if number % 4 < 2 else replace(recipe, margin=None)
                train(network, graphs, targets, groups, own, len(learned) * seed + number)
                scores = score(network, graphs, graphs.sizes.numpy(), recipe)
                scales.append((scores.mean(), scores.std() or 1.0))
        self._learned = _Learned(learned, torch.tensor(scales), graphs.mean, graphs.scale)

    def _untrained(self) -> nn.ModuleList:
        size = (self._options["channels"], self._options["layers"])
        return nn.ModuleList(
            GraphNetwork(*size, hub=number % 2 == 1) for number in range(self._options["networks"])
        )

    def _recipe(self, rows: int) -> Recipe:
        batch_size = min(self._options["batch_size"], max(_LEAST_BATCH, rows // _BATCHES))
        epochs = _STEPS * batch_size // max(rows, 1)
        return Recipe(
            epochs=self._options["epochs"] or min(max(epochs, _LEAST_EPOCHS), _MOST_EPOCHS),
            batch_size=batch_size,
            learning_rate=self._options["learning_rate"],
            margin=1.0,
            pairs_per_row=64,
            final=0.0,
            mixed_precision=self._options["mixed_precision"],
        )

    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Score texts."""
        if self._learned is None:
            raise self._not_fitted()
        learned, scales, *standard = self._learned
        graphs = Graphs(networks["text"].to_pylist(), *standard)
        sizes = graphs.sizes.numpy()
        recipe = self._recipe(len(sizes))
        with one_thread():
            scores = [
                (score(network, graphs, sizes, recipe) - float(mean)) / float(deviation)
                for network, (mean, deviation) in zip(learned, scales, strict=True)
            ]
        return np.asarray(np.mean(scores, axis=0))

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the options, the weights, and what scores and features are standardized by."""
        if self._learned is None:
            raise self._not_fitted()
        tensors = {
            **self._learned.networks.state_dict(),
            **{name: getattr(self._learned, name) for name in _STANDARDS},
        }
        return self._options, {_WEIGHTS: bytes_of(tensors)}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Make one of the weights."""
        made = cls(**settings)
        tensors = tensors_of(members[_WEIGHTS])
        standards = [tensors.pop(name) for name in _STANDARDS]
        networks = made._untrained()
        networks.load_state_dict(tensors)
        made._learned = _Learned(networks, *standards)
        return made


class _Learned(NamedTuple):
    networks: nn.ModuleList
    scales: Tensor
    """(networks, 2): mean and deviation of the scores of the training rows, float64."""
    mean: Tensor
    scale: Tensor


_STANDARDS = ("scales", "mean", "scale")


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Return the numbers from each start on, as many as each length says, all in a row."""
    shifts = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(int(lengths.sum())) + shifts.repeat_interleave(lengths)
