"""Cells of every space in one form, so that what is learned in one space can be used in another.

The form is a cell of NAS-Bench-101, of any size: its vertices carry operations and sum what flows in. Where
operations stand on edges between nodes, each edge becomes a vertex that reads all that flows into the node it
begins at; a skip connection hands its node's values on and is no vertex. Operations become the one of
NAS-Bench-101 that is most like them, see `COUNTERPARTS`.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx_bench_dataset.spaces import nasbench201
from onnx_bench_dataset.spaces.nasbench101_cells import OPERATIONS, Cell
from onnx_bench_dataset.spaces.nasbench301_genotypes import NODES, Edge

CONV_3X3, CONV_1X1, MAX_POOL = OPERATIONS

COUNTERPARTS = {
    "nor_conv_3x3": CONV_3X3,
    "nor_conv_1x1": CONV_1X1,
    "avg_pool_3x3": MAX_POOL,
    "max_pool_3x3": MAX_POOL,
    "sep_conv_3x3": CONV_3X3,
    "sep_conv_5x5": CONV_3X3,
    "dil_conv_3x3": CONV_1X1,
    "dil_conv_5x5": CONV_1X1,
}
"""What stands for the operations of NAS-Bench-201 and DARTS.

DARTS has no 1×1 convolution. Its dilated convolutions are applied once, the separable ones twice, so that the
former stand for NAS-Bench-101's lighter convolution and the latter for the heavier one.
"""

_SKIP = "skip_connect"
_NONE = "none"


def nasbench201_cell(architecture: str) -> Cell | None:
    """Return the cell of NAS-Bench-101's form; None if nothing leads from input to output.

    Raises:
        ArchitectureError: the string is no architecture of NAS-Bench-201.

    >>> nasbench201_cell("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|avg_pool_3x3~1|none~2|")
    Cell(inputs=((0,), (1,), (0, 2)), operations=('conv3x3-bn-relu', 'maxpool3x3'))
    """
    edges = zip(nasbench201.EDGES, nasbench201.parse(architecture), strict=True)
    return _with_vertices([(source, target, name) for (source, target), name in edges], [0], 3, [3])


def nasbench301_cell(edges: Sequence[Edge]) -> Cell | None:
    """Return the form of a normal or a reduction cell of DARTS; both cells that it reads are the input."""
    triples = [(edge.source, NODES[number // 2], edge.operation) for number, edge in enumerate(edges)]
    return _with_vertices(triples, [0, 1], NODES[-1], NODES)


def _with_vertices(
    edges: Sequence[tuple[int, int, str]], inputs: Sequence[int], last: int, outputs: Sequence[int]
) -> Cell | None:
    """Turn operations on edges (source, target, operation) into vertices; `outputs` are joined in the end."""
    flowing: dict[int, set[int]] = {node: {0} for node in inputs}  # the vertices whose values a node sums
    reads: list[tuple[int, ...]] = []
    operations: list[str] = []
    for node in range(len(inputs), last + 1):
        flowing[node] = set()
        for source, target, operation in edges:
            if target != node or operation == _NONE or not flowing[source]:
                continue
            if operation == _SKIP:
                flowing[node] |= flowing[source]
                continue
            reads.append(tuple(sorted(flowing[source])))
            operations.append(COUNTERPARTS[operation])
            flowing[node].add(len(operations))
    joined = set().union(*(flowing[node] for node in outputs))
    return Cell((*reads, tuple(sorted(joined))), tuple(operations)).pruned()
