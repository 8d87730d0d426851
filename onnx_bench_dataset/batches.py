"""Rows as batches for PyTorch: tokens of their texts, or graphs; to be the `collate_fn` of a `DataLoader`.

    rows = load_dataset("onnx-bench", split="train", streaming=True, columns=["id", "text", "accuracy"])
    loader = DataLoader(rows, batch_size=64, collate_fn=GraphBatches(), num_workers=2)

Both read the column `text`: it describes the inference form of the graph, without loss, and is read
many times faster than the graph in `onnx` is simplified. They need the extra `torch`.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import AttributeProto

from onnx_bench_dataset.errors import LoadError, OnnxBenchError, TextError
from onnx_bench_dataset.text.cursor import Broken
from onnx_bench_dataset.text.decode import unfold
from onnx_bench_dataset.text.operations import Operation, Reference, Weight, operation

if TYPE_CHECKING:  # extras, which are imported when a batch is made
    import torch
    from torch_geometric.data import Batch

Row = Mapping[str, Any]

_NAMES = """
Abs Add ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat Constant Conv ConvTranspose
DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor GRU Gather Gelu Gemm
GlobalAveragePool GlobalMaxPool Greater GroupNormalization HardSigmoid HardSwish Identity
InstanceNormalization LRN LSTM LayerNormalization LeakyRelu Less Log LogSoftmax LpPool MatMul Max
MaxPool Mean Min Mish Mul Neg PRelu Pad Pow Range Reciprocal ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum Relu Reshape Resize Selu Shape Sigmoid Sin Slice Softmax Softplus SpaceToDepth
Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Unsqueeze Where
"""

OPERATIONS = tuple(_NAMES.split())
"""Types of operations: that of `OPERATIONS[i]` is `i + 1`, that of any other operation is 0."""

NUM_TYPES = len(OPERATIONS) + 1

FEATURES = ("channels", "height", "width", "kernel", "stride", "dilation", "groups")
"""Features of an operation: natural logarithms of these sizes, 0 where it has none.

Kernels, strides and dilations are products over the axes of the window.
"""

_TYPES = {name: index for index, name in enumerate(OPERATIONS, start=1)}
_GLOBAL = ("GlobalAveragePool", "GlobalMaxPool")
_FLAT = ("Flatten", "Gemm")
_SHAPE = re.compile(r"\[(\d+),(\d+),(\d+),(\d+)\]")

_Size = tuple[int, int, int]
"""Channels, height and width of what an operation gives."""

_UNKNOWN: _Size = (1, 1, 1)


class TokenBatches:
    """Makes token batches of rows: a dictionary of tensors, padded at the end to the longest text.

    - `input_ids` int64 and `attention_mask` int64: (rows, tokens);
    - `accuracy` float32: (rows,), percent, NaN where it is not known;
    - `is_truncated` bool: (rows,), which texts had more than `max_length` tokens;
    - `ids`: a list of strings.

    A text that is cut loses part of its network, so the first one is also said by a warning.
    """

    def __init__(self, tokenizer: Any, max_length: int | None = None, pad_id: int | None = None) -> None:
        """Take any tokenizer of `transformers` or of `tokenizers`; without `max_length` no text is cut.

        Raises:
            OnnxBenchError: the tokenizer names no padding, and `pad_id` is not given.
        """
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pad_id = _padding(tokenizer) if pad_id is None else pad_id
        self._has_warned = False

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Make a batch of rows that have the columns `id`, `text` and `accuracy`.

        Raises:
            LoadError: a row has no such column.
            OnnxBenchError: torch is not installed.
        """
        torch = _torch()
        texts = _column(rows, "text")
        tokens, lengths = self._tokens(texts)
        width = max(map(len, tokens), default=0)
        is_truncated = torch.tensor(
            [len(kept) < length for kept, length in zip(tokens, lengths, strict=True)]
        )
        if not self._has_warned and is_truncated.any():
            self._has_warned = True
            longest = max(range(len(rows)), key=lengths.__getitem__)
            warnings.warn(
                f"texts are cut to {self.max_length} tokens, which drops the end of the network: "
                f"{rows[longest].get('id', '?')} has {lengths[longest]}. `is_truncated` says which rows",
                stacklevel=2,
            )
        return {
            "input_ids": torch.tensor([kept + [self.pad_id] * (width - len(kept)) for kept in tokens]),
            "attention_mask": torch.tensor([[1] * len(kept) + [0] * (width - len(kept)) for kept in tokens]),
            "accuracy": _accuracies(rows),
            "is_truncated": is_truncated,
            "ids": _column(rows, "id"),
        }

    def _tokens(self, texts: list[str]) -> tuple[list[list[int]], list[int]]:
        """Return the tokens of texts, cut where they are too many, and how many they were."""
        most = self.max_length
        if hasattr(self.tokenizer, "encode_batch"):
            encoded = [list(encoding.ids) for encoding in self.tokenizer.encode_batch(texts)]
            return [ids[:most] for ids in encoded], [len(ids) for ids in encoded]
        tokens: list[list[int]] = self.tokenizer(texts, verbose=False)["input_ids"]
        lengths = [len(ids) for ids in tokens]
        if most is not None:  # cut by the tokenizer, which keeps its special tokens
            for index in [index for index, length in enumerate(lengths) if length > most]:
                cut = self.tokenizer(texts[index], truncation=True, max_length=most)
                tokens[index] = list(cut["input_ids"])
        return tokens, lengths


class GraphBatches:
    """Makes graph batches of rows, a `torch_geometric.data.Batch`, whose nodes are operations.

    They are those of the inference form, which the text describes: batch norms are folded into convolutions.

    - `x` int64: (nodes,), the type of each operation, as `OPERATIONS` numbers them, 0 for any other;
    - `features` float32: (nodes, 7), as `FEATURES` names them;
    - `edge_index` int64: (2, edges), from the operation that gives a tensor to the one that reads it;
    - `y` float32: (graphs,), accuracy in percent, NaN where it is not known;
    - `id`: a list of strings; `batch` and `ptr` as everywhere in PyTorch Geometric.

    Heights, widths and channels are those that convolutions, pools and concatenations make; an operation that
    moves or cuts dimensions, as Reshape or Slice, counts as if it kept those of its inputs.
    """

    def __call__(self, rows: Sequence[Row]) -> Batch:
        """Make a batch of rows that have the columns `id`, `text` and `accuracy`.

        Raises:
            LoadError: a row has no such column.
            TextError: a text is broken.
            OnnxBenchError: torch or torch_geometric is not installed.
        """
        torch = _torch()
        try:
            from torch_geometric.data import Batch
        except ModuleNotFoundError as error:
            raise _missing("torch_geometric", error) from error
        types: list[int] = []
        features: list[float] = []
        edges: tuple[list[int], list[int]] = [], []
        starts = [0]
        for text in _column(rows, "text"):
            start = len(types)
            for number, node in enumerate(read_nodes(text), start):
                types.append(node.type)
                features.extend(node.features)
                edges[0].extend(start + source for source in node.sources)
                edges[1].extend([number] * len(node.sources))
            starts.append(len(types))
        ptr = torch.tensor(starts)
        return Batch(
            x=torch.from_numpy(np.array(types, dtype=np.int64)),
            features=torch.from_numpy(np.array(features, dtype=np.float32).reshape(-1, len(FEATURES))),
            edge_index=torch.from_numpy(np.array(edges, dtype=np.int64)),
            y=_accuracies(rows),
            id=_column(rows, "id"),
            batch=torch.repeat_interleave(ptr.diff()),
            ptr=ptr,
        )


class GraphNode(NamedTuple):
    """An operation: its type, its features, and the numbers of the operations that it reads."""

    type: int
    features: tuple[float, ...]
    sources: list[int]


def read_nodes(text: str) -> list[GraphNode]:
    """Return the operations of a text, in its order, which is one of execution.

    Raises:
        TextError: the text is broken.
    """
    _, inputs, *lines, _ = unfold(text).split("\n")
    shape = _SHAPE.search(inputs)
    start = _UNKNOWN if shape is None else (int(shape[2]), int(shape[3]), int(shape[4]))
    sizes: list[_Size] = []
    nodes = []
    for number, line in enumerate(lines):
        op = _read(line)
        sources = [number - distance for distance in op.distances]
        if min(sources, default=0) < 0:
            raise TextError(number + 1, 1, "an operation reads one that is not there", line)
        size, features = _sized(op, tuple([sizes[source] for source in sources]) or (start,))
        sizes.append(size)
        nodes.append(GraphNode(op.type, features, sources))
    return nodes


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """What a line says of an operation, wherever it stands; read once a line, so compared by identity."""

    type: int
    op: str
    distances: tuple[int, ...]
    features: tuple[float, ...]
    channels: int | None
    window: tuple[tuple[int, int, int], ...] | None
    """For each axis of an image: length of the window less its padding, less one; stride; 1 if rounded up."""

    def size(self, inputs: Sequence[_Size]) -> _Size:
        """Return the size of what comes out, by the sizes of what goes in."""
        channels, height, width = inputs[0]
        if self.op == "Concat":
            channels = sum(size[0] for size in inputs)
        elif self.op in _GLOBAL:
            height = width = 1
        elif self.op in _FLAT:
            channels, height, width = channels * height * width, 1, 1
        elif self.op not in ("Conv", "ConvTranspose", "AveragePool", "MaxPool"):
            channels, height, width = (max(sizes) for sizes in zip(*inputs, strict=True))
        if self.channels is not None:
            channels = self.channels
        if self.window is not None and len(self.window) == 2:
            height, width = map(_windows, (height, width), self.window)
        return channels, height, width


@lru_cache(maxsize=1 << 16)
def _read(line: str) -> _Line:
    try:
        read = operation(line)
    except Broken as error:
        raise TextError(1, error.position + 1, error.rule, line) from error
    weight = next((value for value in read.values if isinstance(value, Weight)), None)
    dims = [] if weight is None else [int(size) for size in weight.dims if isinstance(size, int)]
    is_convolution = read.op in ("Conv", "ConvTranspose")
    kernel = _integers(read, "kernel_shape") or (dims[2:] if is_convolution else [])
    strides = _integers(read, "strides") or [1] * len(kernel)
    dilations = _integers(read, "dilations") or [1] * len(kernel)
    pads = _integers(read, "pads") or [0] * (2 * len(kernel))
    groups = read.group if isinstance(read.group, int) else 1
    channels = None
    if is_convolution and dims:
        channels = dims[0] if read.op == "Conv" else dims[1] * groups
    elif read.op == "Gemm" and len(dims) == 2:
        channels = dims[0] if _integer(read, "transB", 0) else dims[1]
    elif read.op == "MatMul" and len(dims) == 2:
        channels = dims[1]
    window = None
    if kernel and read.op in ("Conv", "AveragePool", "MaxPool"):
        rounds_up = _integer(read, "ceil_mode", 0)
        rank = len(kernel)
        window = tuple(
            (dilations[axis] * (kernel[axis] - 1) - pads[axis] - pads[axis + rank], strides[axis], rounds_up)
            for axis in range(rank)
        )
    return _Line(
        _TYPES.get(read.op, 0) if not read.domain else 0,
        read.op,
        tuple(value.distance for value in read.values if isinstance(value, Reference)),
        tuple(_log(math.prod(sizes)) for sizes in (kernel, strides, dilations, [groups])),
        channels,
        window,
    )


@lru_cache(maxsize=1 << 16)
def _sized(line: _Line, inputs: tuple[_Size, ...]) -> tuple[_Size, tuple[float, ...]]:
    """Return the size of what an operation gives, and all of its features."""
    size = line.size(inputs)
    return size, (*map(_log, size), *line.features)


def _integers(read: Operation, name: str) -> list[int]:
    attribute = read.attributes.get(name)
    return list(attribute.ints) if isinstance(attribute, AttributeProto) else []


def _integer(read: Operation, name: str, default: int) -> int:
    attribute = read.attributes.get(name)
    return attribute.i if isinstance(attribute, AttributeProto) else default


def _windows(length: int, window: tuple[int, int, int]) -> int:
    span, stride, rounds_up = window
    steps = length - 1 - span
    return max((-(-steps // stride) if rounds_up else steps // stride) + 1, 1)


@lru_cache(maxsize=1 << 12)
def _log(size: int) -> float:
    return math.log(max(size, 1))


def _padding(tokenizer: Any) -> int:
    found = getattr(tokenizer, "pad_token_id", None)
    if found is None and hasattr(tokenizer, "token_to_id"):
        padding = tokenizer.padding
        named = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>", "<|pad|>"))
        found = padding["pad_id"] if padding else next((id for id in named if id is not None), None)
    if found is None:
        raise OnnxBenchError("the tokenizer names no padding token: say which id pads, as `pad_id=0`")
    return int(found)


def _column(rows: Sequence[Row], name: str) -> list[Any]:
    try:
        return [row[name] for row in rows]
    except KeyError:
        raise LoadError(
            f"a row has no column {name!r}: batches need `id`, `text` and `accuracy`, which every config but "
            "`catalog` has; name them where `columns` says what to load"
        ) from None


def _accuracies(rows: Sequence[Row]) -> torch.Tensor:
    known = [math.nan if value is None else value for value in _column(rows, "accuracy")]
    made: torch.Tensor = _torch().tensor(known, dtype=_torch().float32)
    return made


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise _missing("torch", error) from error
    return torch


def _missing(package: str, error: ModuleNotFoundError) -> OnnxBenchError:
    if (error.name or "").partition(".")[0] != package:
        raise error
    return OnnxBenchError(f"batches need {package}: pip install 'onnx-bench-dataset[torch]'")
