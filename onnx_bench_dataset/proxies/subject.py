"""What a proxy scores: a network with its initial weights, and one batch of inputs with classes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from onnx_bench_dataset.errors import UnknownNameError, UnsupportedModelError
from onnx_bench_dataset.training import GraphModule


class Subject:
    """A network and a batch, on one device; what several proxies need is computed once.

    Batches are normalized by their own statistics, as in training. The module is a copy, and no proxy changes
    it: one that changes weights asks for a copy of its own.
    """

    def __init__(
        self,
        module: GraphModule,
        batch: int = 64,
        seed: int = 0,
        device: str = "cpu",
        inputs: Sequence[Tensor] | None = None,
        classes: Tensor | None = None,
    ) -> None:
        """Draw what is not given: standard normal inputs, and classes as often as each other.

        Raises:
            UnsupportedModelError: the shape of an input is not known, or the batch is too small.
            UnknownNameError: PyTorch has no such device here.
        """
        if batch < 2:
            raise UnsupportedModelError(f"a proxy compares inputs: the batch must be at least 2, not {batch}")
        self.seed = seed
        self.device = _device(device)
        self.module = copy.deepcopy(module).to(self.device).train()
        self._generator = torch.Generator().manual_seed(seed)
        drawn = [self._noise(name, batch) for name in module.input_shapes] if inputs is None else inputs
        self.inputs = [x.to(self.device) for x in drawn]
        self._classes = classes

    def _noise(self, name: str, batch: int) -> Tensor:
        shape = self.module.input_shapes[name]
        sizes = [size for size in (shape or ())[1:] if isinstance(size, int)]
        if shape is None or len(sizes) != len(shape) - 1:
            raise UnsupportedModelError(
                f"the shape of the input {name[:80]!r} is dynamic: give the inputs, or export the model"
                " with a fixed input shape"
            )
        return torch.randn(batch, *sizes, generator=self._generator)

    def noise(self, like: Tensor) -> Tensor:
        """Draw standard normal numbers of the shape of `like`, on the CPU for the same ones everywhere."""
        drawn = torch.randn(like.shape, generator=self._generator)
        return drawn.to(like.device, like.dtype)

    def copy(self) -> GraphModule:
        """Return a copy of the network, for a proxy that changes it."""
        return copy.deepcopy(self.module)

    def layer_weights(self, module: GraphModule | None = None) -> dict[str, Tensor]:
        """Return the weights of convolutions and linear layers, which proxies sum over."""
        own = dict((module or self.module).named_parameters())
        return {name: own[name] for name in self.module.layer_weights if name in own}

    def logits(self, module: GraphModule | None = None, part: slice = slice(None)) -> Tensor:
        """Return what the network makes of the batch, or a part of it, N×classes.

        Raises:
            UnsupportedModelError: the network has several outputs, or one of another rank.
        """
        outputs = (module or self.module)(*[x[part] for x in self.inputs])
        if not isinstance(outputs, Tensor) or outputs.dim() != 2:
            raise UnsupportedModelError("the proxy needs a network with one output, N×classes")
        return outputs

    def loss(self, logits: Tensor, part: slice = slice(None)) -> Tensor:
        """Return the cross-entropy of the batch, or a part of it."""
        if self._classes is None:
            number = torch.arange(len(self.inputs[0])) % logits.shape[1]
            self._classes = number[torch.randperm(len(number), generator=self._generator)]
        return functional.cross_entropy(logits, self._classes.to(self.device)[part])

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """The gradient of the loss by each layer's weight; a weight that does not count has none."""
        with torch.enable_grad():
            return gradients(self.loss(self.logits()), self.layer_weights())


def gradients(of: Tensor, by: Mapping[str, Tensor], *, keep_graph: bool = False) -> dict[str, Tensor]:
    """Return the gradients of a number by tensors; those that it does not depend on are left out."""
    if not by or not of.requires_grad:
        return {}
    found = torch.autograd.grad(of, [*by.values()], create_graph=keep_graph, allow_unused=True)
    return {name: each for name, each in zip(by, found, strict=True) if each is not None}


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnknownNameError(f"PyTorch knows no device {name!r}: take `cpu` or `cuda`") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnknownNameError("PyTorch finds no CUDA device on this machine: take `cpu`")
    return device


@dataclass(frozen=True)
class Proxy:
    """A number that can be had before training, and is to rank networks as their accuracy would."""

    name: str
    paper: str
    score: Callable[[Subject], float]
    cheap: bool
    """Without gradients over a batch."""
