"""A graph neural network that reads the operations of a network, and what passes from which to which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor, nn
from torch_geometric.nn import DirGNNConv, SAGEConv, global_mean_pool
from torch_geometric.utils import degree

from onnx_bench_dataset.batches import FEATURES, NUM_TYPES, OPERATIONS, GraphBatches
from onnx_bench_dataset.surrogates.predictor import Predictor
from onnx_bench_dataset.surrogates.ranking import Recipe, score, seeded, train

PASSED_OVER = (
    *("BatchNormalization", "Dropout", "Flatten", "Identity"),
    *("Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu", "Selu"),
    *("Sigmoid", "Softplus", "Tanh"),
)
"""Operations that are no nodes here: who reads one reads what it reads.

Where they stand, before or behind a convolution or a sum, is a habit of the search space. With them a network
that was trained on one space ranks another one worse.
"""

_READ_AT_ONCE = 500  # texts: reading takes more memory than what comes out

_WEIGHTS = "weights.safetensors"


class Graphs:
    """The graphs of many texts in a few arrays, of which batches are cut.

    `sizes` int64, (graphs,), are the operations of each, without those of `PASSED_OVER`.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Read texts.

        Raises:
            TextError: a text is broken.
        """
        read = GraphBatches()
        parts = []
        for start in range(0, max(len(texts), 1), _READ_AT_ONCE):
            some = texts[start : start + _READ_AT_ONCE]
            parts.append(_without_passed_over(read([{"id": "", "text": t, "accuracy": None} for t in some])))
        self.sizes, num_edges, types, features, edges = (
            torch.cat(tensors, dim=-1 if tensors[0].dtype == torch.int32 else 0)
            for tensors in zip(*parts, strict=True)
        )
        self._num_edges, self._types, self._features, self._edges = num_edges, types, features, edges
        self._nodes_before = self.sizes.cumsum(0) - self.sizes
        self._edges_before = num_edges.cumsum(0) - num_edges

    def __call__(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Make a batch of the graphs that have these numbers.

        Returns:
            `x`, `features`, `edge_index` and `batch`, as in `GraphBatches`; `sizes`, (graphs,).
        """
        chosen = torch.from_numpy(rows)
        sizes, num_edges = self.sizes[chosen], self._num_edges[chosen]
        nodes = _ranges(self._nodes_before[chosen], sizes)
        edges = _ranges(self._edges_before[chosen], num_edges)
        starts = sizes.cumsum(0) - sizes
        return {
            "x": self._types[nodes].long(),
            "features": self._features[nodes],
            "edge_index": self._edges[:, edges].long() + starts.repeat_interleave(num_edges),
            "batch": torch.arange(len(rows)).repeat_interleave(sizes),
            "sizes": sizes,
        }


class GraphNetwork(nn.Module):
    """Passes messages along the edges and against them, and reads out what every layer found.

    Layers are directed (Dir-GNN, arXiv 2305.10498) and average their messages (GraphSAGE, arXiv 1706.02216);
    what is read of them (jumping knowledge, arXiv 1806.03536) is averaged over the nodes. Sizes are relative
    to the mean of the graph. So networks of larger and of smaller spaces look alike.
    """

    def __init__(self, channels: int, layers: int) -> None:
        """Make one that knows nothing yet."""
        super().__init__()
        self.types = nn.Embedding(NUM_TYPES, channels)
        nn.init.zeros_(self.types.weight)  # a type that is never seen in training says nothing
        self.features = nn.Linear(len(FEATURES), channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(layers))
        self.convolutions = nn.ModuleList(DirGNNConv(SAGEConv(channels, channels)) for _ in range(layers))
        self.head = nn.Linear(channels * (layers + 1), 1)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the scores of a batch of `Graphs`: (graphs,)."""
        owners, features = batch["batch"], batch["features"]
        num_graphs = len(batch["sizes"])
        relative = features - global_mean_pool(features, owners, num_graphs)[owners]
        hidden = self.types(batch["x"]) + self.features(relative)
        found = [hidden]
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            hidden = hidden + torch.relu(convolution(norm(hidden), batch["edge_index"]))
            found.append(hidden)
        scores: Tensor = self.head(global_mean_pool(torch.cat(found, 1), owners, num_graphs))[:, 0]
        return scores


class Gnn(Predictor):
    """Ranks networks by their graphs."""

    name = "gnn"
    summary = "graph neural network on the operations"

    def __init__(
        self,
        epochs: int = 8,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        channels: int = 64,
        layers: int = 3,
        mixed_precision: str | None = None,
    ) -> None:
        """Choose its size, and how it is trained.

        Args:
            epochs: times that every row is seen.
            batch_size: rows that a device compares in one step.
            learning_rate: at its highest.
            channels: of what a node knows.
            layers: edges over which a node knows of others.
            mixed_precision: `no`, `fp16` or `bf16`; otherwise what `accelerate launch` says.
        """
        self._options = {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "channels": channels,
            "layers": layers,
            "mixed_precision": mixed_precision,
        }
        self._recipe = Recipe(
            epochs, batch_size, learning_rate, weight_decay=0.01, mixed_precision=mixed_precision
        )
        self._channels = channels
        self._layers = layers
        self._network: GraphNetwork | None = None

    def learn(
        self, networks: pa.Table, accuracies: NDArray[np.float64], groups: NDArray[np.int64], seed: int
    ) -> None:
        """Train on pairs of rows."""
        graphs = Graphs(networks["text"].to_pylist())
        with seeded(seed):
            network = GraphNetwork(self._channels, self._layers)
            train(network, graphs, accuracies, groups, self._recipe, seed)
        self._network = network

    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Return what the head says, in no unit: only the order means something."""
        if self._network is None:
            raise self._not_fitted()
        graphs = Graphs(networks["text"].to_pylist())
        return score(self._network, graphs, graphs.sizes.numpy(), self._recipe)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the options, and the weights."""
        if self._network is None:
            raise self._not_fitted()
        return self._options, {_WEIGHTS: bytes_of(self._network.state_dict())}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Make one of the weights."""
        made = cls(**settings)
        made._network = GraphNetwork(made._channels, made._layers)
        made._network.load_state_dict(tensors_of(members[_WEIGHTS]))
        return made


_IS_PASSED_OVER = torch.tensor([False, *(name in PASSED_OVER for name in OPERATIONS)])


def _without_passed_over(batch: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return sizes, numbers of edges, types, features and edges, which are counted within their graph.

    An operation that reads the input of the network, or several values, stays.
    """
    readers, sources = batch.edge_index[1], batch.edge_index[0]
    goes = _IS_PASSED_OVER[batch.x] & (degree(readers, len(batch.x)) == 1)
    stands_for = torch.arange(len(batch.x))
    stands_for[readers[goes[readers]]] = sources[goes[readers]]
    while goes[stands_for].any():  # of a run of them, each step leaves half
        stands_for = stands_for[stands_for]
    new = torch.cumsum(~goes, 0) - 1
    stays = ~goes[readers]
    edges = new[torch.stack([stands_for[sources[stays]], readers[stays]])]
    owners, num_graphs = batch.batch[~goes], len(batch.ptr) - 1
    sizes = torch.bincount(owners, minlength=num_graphs)
    edge_owners = owners[edges[1]]
    num_edges = torch.bincount(edge_owners, minlength=num_graphs)
    within = edges - (sizes.cumsum(0) - sizes)[edge_owners]
    return sizes, num_edges, batch.x[~goes].to(torch.int16), batch.features[~goes], within.to(torch.int32)


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Return the numbers from each start on, as many as each length says, all in a row."""
    shifts = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(int(lengths.sum())) + shifts.repeat_interleave(lengths)
