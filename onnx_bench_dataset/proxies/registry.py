"""All proxies by name, and scoring a network by several of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto
from torch import Tensor

from onnx_bench_dataset.errors import UnknownNameError
from onnx_bench_dataset.proxies import (
    fisher,
    grad_norm,
    grasp,
    jacov,
    l2_norm,
    macs,
    naswot,
    params,
    plain,
    snip,
    synflow,
    zen,
    zico,
)
from onnx_bench_dataset.proxies.subject import Proxy, Subject
from onnx_bench_dataset.training import GraphModule, torch_module

PROXIES: Mapping[str, Proxy] = {
    module.PROXY.name: module.PROXY
    for module in (
        *(params, macs, l2_norm, synflow, naswot, zen),
        *(jacov, grad_norm, snip, plain, fisher, grasp, zico),
    )
}
"""The cheap ones first."""


def scores(
    network: ModelProto | GraphModule,
    names: Sequence[str] | None = None,
    *,
    batch: int = 64,
    seed: int = 0,
    device: str = "cpu",
    inputs: Sequence[Tensor] | None = None,
    classes: Tensor | None = None,
) -> dict[str, float]:
    """Score a network by proxies; it is not changed.

    Args:
        network: a model, of which weights without values are drawn from `seed`, or a module as it is.
        names: keys of `PROXIES`; None for all.
        batch: number of inputs that are drawn, standard normal.
        seed: for weights, inputs and classes.
        device: where to compute, as PyTorch calls it: `cpu`, `cuda`.
        inputs: a batch for each data input instead of noise, such as images of the data set.
        classes: their classes, instead of random ones.

    Returns:
        A number per proxy; not finite where a network has no such score (no rectifier, no flow).

    Raises:
        UnknownNameError: there is no proxy of that name.
        UnsupportedModelError: a proxy cannot score the network; the error says why.

    Examples:
        >>> from onnx_bench_dataset import spaces
        >>> edge = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
        >>> scores(spaces.get("nasbench201").model(edge), ["params", "macs"])
        {'params': 316346.0, 'macs': 43172480.0}
    """
    chosen = find(names)
    module = network if isinstance(network, GraphModule) else torch_module(network, seed)
    subject = Subject(module, batch, seed, device, inputs, classes)
    return {proxy.name: proxy.score(subject) for proxy in chosen}


def find(names: Sequence[str] | None = None) -> list[Proxy]:
    """Return proxies by their names, all without any.

    Raises:
        UnknownNameError: there is no proxy of that name.
    """
    for name in names or ():
        if name not in PROXIES:
            raise UnknownNameError(f"there is no proxy {name!r}; there are {', '.join(PROXIES)}")
    return [PROXIES[name] for name in (PROXIES if names is None else names)]
