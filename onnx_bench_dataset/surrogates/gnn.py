"""A graph neural network that reads the cells of a network, beside features of the whole.

Where all paths pass through one value, a network is cut (`segments`), and what it repeats is read once: nine
equal cells are one graph of a dozen layers instead of a hundred operations. What a graph cannot count, sizes
and how often, the features say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor, nn
from torch_geometric.nn import DirGNNConv, SAGEConv, global_add_pool

from onnx_bench_dataset.surrogates.features import NAMES
from onnx_bench_dataset.surrogates.graph_features import features_of
from onnx_bench_dataset.surrogates.kinds import ROLES
from onnx_bench_dataset.surrogates.layers import of_text
from onnx_bench_dataset.surrogates.lines import logarithm
from onnx_bench_dataset.surrogates.predictor import Predictor
from onnx_bench_dataset.surrogates.ranking import Recipe, score, seeded, train
from onnx_bench_dataset.surrogates.segments import stretches_of

LETTERS = ("$", *ROLES)
"""What a vertex is: what enters a segment, or the first letter of a layer's role."""

_NUMBERS = {letter: number for number, letter in enumerate(LETTERS)}
_FARTHEST = 5.0  # standard deviations from what was learned from, beyond which features count as that far
_WEIGHTS = "weights.safetensors"
_STEPS, _MOST_EPOCHS, _LEAST_EPOCHS = 1_400, 60, 4
_LEAST_BATCH, _BATCHES = 16, 16


class _Cells(NamedTuple):
    """The different segments of a network in which paths meet, one after another."""

    letters: list[int]
    windows: list[tuple[float, float]]
    """Of each vertex the logarithm of the length of its window, and whether it has a stride."""
    shares: list[tuple[float, float, float]]
    """Of each vertex what it counts in sums, in means and as the end of a segment; sums of sixteen are 1."""
    edges: list[tuple[int, int]]


def _cells(text: str) -> _Cells:
    stretches = stretches_of(of_text(text))
    counts = Counter(stretch.segment.key for stretch in stretches if stretch.segment is not None)
    found = _Cells([], [], [], [])
    total = sum(counts.values())
    for key, count in counts.items():
        start, share = len(found.letters), count / total
        found.letters.append(0)
        found.windows.append((0.0, 0.0))
        for number, (role, read) in enumerate(zip(key[::2], key[1::2], strict=True), start + 1):
            assert isinstance(role, str)
            sources = (read,) if isinstance(read, int) else read
            window, stride, _ = role[1:].partition("/")
            found.letters.append(_NUMBERS[role[0]])
            found.windows.append((math.log(int(window)) if window else 0.0, float(bool(stride))))
            # what stands before the segment is the one vertex before its layers
            found.edges.extend((start + 1 + int(source), number) for source in sources)
        size = len(key) // 2 + 1
        found.shares.extend([(share / 16, share / size, 0.0)] * (size - 1))
        found.shares.append((share / 16, share / size, share))
    return found


class Graphs:
    """The cells and the features of many networks in a few arrays, of which batches are cut.

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
        cells = [_cells(text) for text in texts]
        self.sizes = torch.tensor([len(each.letters) for each in cells], dtype=torch.int64)
        self._num_edges = torch.tensor([len(each.edges) for each in cells], dtype=torch.int64)
        self._letters = torch.tensor([one for each in cells for one in each.letters], dtype=torch.int8)
        self._windows = torch.tensor([one for each in cells for one in each.windows]).reshape(-1, 2)
        self._shares = torch.tensor([one for each in cells for one in each.shares]).reshape(-1, 3)
        edges = [one for each in cells for one in each.edges]
        self._edges = torch.tensor(edges, dtype=torch.int32).reshape(-1, 2).T
        self._vertices_before = self.sizes.cumsum(0) - self.sizes
        self._edges_before = self._num_edges.cumsum(0) - self._num_edges

    def __call__(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Make a batch of the networks that have these numbers.

        Returns:
            `letters` (vertices,), numbers in `LETTERS`; `windows` (vertices, 2), logarithm of the length and
            whether there is a stride; `shares` (vertices, 3), weights in the readouts; `edge_index`
            (2, edges); `batch` (vertices,), the place of the network; `features` (networks, features).
        """
        chosen = torch.from_numpy(rows)
        sizes, num_edges = self.sizes[chosen], self._num_edges[chosen]
        vertices = _ranges(self._vertices_before[chosen], sizes)
        edges = _ranges(self._edges_before[chosen], num_edges)
        starts = sizes.cumsum(0) - sizes
        return {
            "letters": self._letters[vertices].long(),
            "windows": self._windows[vertices],
            "shares": self._shares[vertices],
            "edge_index": self._edges[:, edges].long() + starts.repeat_interleave(num_edges),
            "batch": torch.arange(len(rows)).repeat_interleave(sizes),
            "features": self._features[chosen],
        }


class GraphNetwork(nn.Module):
    """Passes messages along the edges of cells and against them, and reads them out beside the features.

    Layers are directed (Dir-GNN, arXiv 2305.10498) and add up their messages, as sums tell how many there are
    (GIN, arXiv 1810.00826). Cells are read out as a sum, as a mean and at their last vertex.
    """

    def __init__(self, channels: int, layers: int) -> None:
        """Make one that knows nothing yet."""
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), channels)
        self.windows = nn.Linear(2, channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(layers))
        self.convolutions = nn.ModuleList(
            DirGNNConv(SAGEConv(channels, channels, aggr="sum")) for _ in range(layers)
        )
        self.mixes = nn.ModuleList(nn.Linear(channels, channels) for _ in range(layers))
        self.norm = nn.LayerNorm(3 * channels)
        self.head = nn.Sequential(
            nn.Linear(3 * channels + len(NAMES), channels), nn.ReLU(), nn.Dropout(0.3), nn.Linear(channels, 1)
        )

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the scores of a batch of `Graphs`: (networks,)."""
        hidden = self.letters(batch["letters"]) + self.windows(batch["windows"])
        for norm, convolution, mix in zip(self.norms, self.convolutions, self.mixes, strict=True):
            hidden = hidden + mix(torch.relu(convolution(norm(hidden), batch["edge_index"])))
        weighted = (batch["shares"][:, :, None] * hidden[:, None, :]).flatten(1)
        read = global_add_pool(weighted, batch["batch"], len(batch["features"]))
        scores: Tensor = self.head(torch.cat([self.norm(read), batch["features"]], dim=1))[:, 0]
        return scores


class Gnn(Predictor):
    """Ranks networks by their cells and features."""

    name = "gnn"
    summary = "graph neural network on cells, beside features of the graph"

    def __init__(
        self,
        epochs: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        channels: int = 48,
        layers: int = 4,
        mixed_precision: str | None = None,
    ) -> None:
        """Choose its size, and how it is trained.

        Args:
            epochs: times that every row is seen; by default some 1,400 steps, in 4 to 60 epochs.
            batch_size: rows that a device compares in one step, fewer where there are few rows.
            learning_rate: at its highest.
            channels: of what a vertex knows.
            layers: edges over which a vertex knows of others.
            mixed_precision: `no`, `fp16` or `bf16`; otherwise what `accelerate launch` says.
        """
        self._options: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "channels": channels,
            "layers": layers,
            "mixed_precision": mixed_precision,
        }
        self._channels = channels
        self._layers = layers
        self._learned: _Learned | None = None

    def learn(
        self, networks: pa.Table, accuracies: NDArray[np.float64], groups: NDArray[np.int64], seed: int
    ) -> None:
        """Train on pairs of rows."""
        self.learn_graphs(Graphs(networks["text"].to_pylist()), accuracies, groups, seed)

    def learn_graphs(
        self, graphs: Graphs, accuracies: NDArray[np.float64], groups: NDArray[np.int64], seed: int
    ) -> None:
        """Train on pairs of graphs, which standardize features by what they themselves have."""
        with seeded(seed):
            network = GraphNetwork(self._channels, self._layers)
            train(network, graphs, accuracies, groups, self._recipe(len(accuracies)), seed)
        self._learned = _Learned(network, graphs.mean, graphs.scale)

    def _recipe(self, rows: int) -> Recipe:
        batch_size = min(self._options["batch_size"], max(_LEAST_BATCH, rows // _BATCHES))
        epochs = _STEPS * batch_size // max(rows, 1)
        return Recipe(
            epochs=self._options["epochs"] or min(max(epochs, _LEAST_EPOCHS), _MOST_EPOCHS),
            batch_size=batch_size,
            learning_rate=self._options["learning_rate"],
            margin=1.0,
            pairs_per_row=64,
            mixed_precision=self._options["mixed_precision"],
        )

    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Return what the head says, in no unit: only the order means something."""
        if self._learned is None:
            raise self._not_fitted()
        _, mean, scale = self._learned
        return self.score_graphs(Graphs(networks["text"].to_pylist(), mean, scale))

    def score_graphs(self, graphs: Graphs) -> NDArray[np.float64]:
        """Score graphs that standardize features as those do that were learned from."""
        if self._learned is None:
            raise self._not_fitted()
        network = self._learned.network
        return score(network, graphs, graphs.sizes.numpy(), self._recipe(len(graphs.sizes)))

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the options, the weights, and what features are standardized by."""
        if self._learned is None:
            raise self._not_fitted()
        network, mean, scale = self._learned
        tensors = {**network.state_dict(), "features.mean": mean, "features.scale": scale}
        return self._options, {_WEIGHTS: bytes_of(tensors)}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Make one of the weights."""
        made = cls(**settings)
        tensors = tensors_of(members[_WEIGHTS])
        mean, scale = tensors.pop("features.mean"), tensors.pop("features.scale")
        network = GraphNetwork(made._channels, made._layers)
        network.load_state_dict(tensors)
        made._learned = _Learned(network, mean, scale)
        return made


class _Learned(NamedTuple):
    network: GraphNetwork
    mean: Tensor
    scale: Tensor


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Return the numbers from each start on, as many as each length says, all in a row."""
    shifts = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(int(lengths.sum())) + shifts.repeat_interleave(lengths)
