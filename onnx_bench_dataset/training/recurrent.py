"""LSTM, GRU and RNN, on PyTorch's own: the gates of a weight are put into PyTorch's order at each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from onnx_bench_dataset.training.call import Call, Function
from onnx_bench_dataset.training.rearranging import repeat

# where PyTorch's gates stand among ONNX's: LSTM iofc -> ifgo, GRU zrh -> rzn
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_ACTIVATIONS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}
_NETWORKS: Mapping[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN": torch.rnn_tanh,
}


def recurrent(call: Call) -> Function:
    """Run a recurrent layer over a sequence, forwards, backwards or both."""
    op = call.node.op
    direction = str(call.attribute("direction", "forward"))
    two = direction == "bidirectional"
    activations = [str(name, "utf-8").lower() for name in call.node.attribute("activations", [])]
    rectified = op == "RNN" and activations in (["relu"], ["relu", "relu"])
    if activations and not rectified and activations != _ACTIVATIONS[op] * (1 + two):
        raise call.unsupported(f"its activations are {', '.join(activations)}")
    network: Callable[..., tuple[Tensor, ...]] = torch.rnn_relu if rectified else _NETWORKS[op]
    if op == "GRU" and not call.attribute("linear_before_reset", 0):
        raise call.unsupported("it resets the state before the linear layer")
    has_more = call.attribute("clip") is not None or call.attribute("input_forget", 0) or call.has(7)
    if has_more or call.has(4):
        raise call.unsupported("it has clipping, peepholes, coupled gates or lengths of sequences")
    batch_first = bool(call.attribute("layout", 0))
    backwards = direction == "reverse"

    def run(
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None = None,
        _: Tensor | None = None,
        h: Tensor | None = None,
        c: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        if not x.dim() == w.dim() == r.dim() == 3:
            raise RuntimeError("a sequence and its weights have three axes")
        x = x.transpose(0, 1) if batch_first else x
        x = x.flip(0) if backwards else x
        state = [_state(given, w, r, x.shape[1], batch_first) for given in ((h, c) if op == "LSTM" else (h,))]
        weights = _weights(op, w, r, b)
        output, *last = network(
            x, state if op == "LSTM" else state[0], weights, b is not None, 1, 0.0, False, two, False
        )
        length, batch, _width = output.shape
        output = output.reshape(length, batch, 1 + two, -1).transpose(1, 2)
        output = output.flip(0) if backwards else output
        if batch_first:
            return (output.permute(2, 0, 1, 3), *(each.transpose(0, 1) for each in last))
        return (output, *last)

    wanted = len(call.node.outputs)
    return (lambda *given: run(*given)[0]) if wanted == 1 else (lambda *given: run(*given)[:wanted])


def _state(given: Tensor | None, w: Tensor, r: Tensor, batch: int, batch_first: bool) -> Tensor:
    if given is None:
        return w.new_zeros(len(w), batch, r.shape[2])
    return repeat(given.transpose(0, 1) if batch_first else given, 1, batch).contiguous()


def _weights(op: str, w: Tensor, r: Tensor, b: Tensor | None) -> list[Tensor]:
    """Return PyTorch's list of weights: per direction those of input and state, then their biases."""
    gates = _GATES[op]

    def ordered(x: Tensor) -> Tensor:
        parts = x.chunk(len(gates))
        return torch.cat([parts[gate] for gate in gates])

    weights = []
    for direction in range(len(w)):
        weights += [ordered(w[direction]), ordered(r[direction])]
        if b is not None:
            weights += map(ordered, b[direction].chunk(2))
    return weights
