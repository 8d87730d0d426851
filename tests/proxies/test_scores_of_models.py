"""Any network that the package makes or imports can be scored."""

from __future__ import annotations

import math

import pytest
import torch

from onnx_bench_dataset.graphs import fill_weights, simplify
from onnx_bench_dataset.proxies import PROXIES, scores
from tests.graphs.exported_models import Export, exported
from tests.text.sampled_networks import sampled_networks

CLASSIFIERS = ["mobilenet", "densenet", "vision_transformer", "perceptron"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("space", ["nasbench201", "natsbench_size", "einspace"])
def test_both_forms_of_a_network(space: str) -> None:
    (network,) = sampled_networks(space, 1)
    found = scores(network.model(), batch=2)
    assert found.keys() == PROXIES.keys()
    folded = scores(simplify(fill_weights(network.model())), ["macs", "naswot", "synflow"], batch=2)
    assert folded["macs"] == found["macs"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_exported_models(name: str) -> None:
    found = scores(exported(name, Export("script", 17, False)), batch=4)
    assert all(math.isfinite(found[proxy]) for proxy in ("l2_norm", "snip", "grad_norm", "fisher", "zico"))


@pytest.mark.slow
@pytest.mark.parametrize("space", ["nasbench101", "nasbench301", "hnasbench201", "nasbench_macro"])
def test_larger_networks(space: str) -> None:
    (network,) = sampled_networks(space, 1)
    found = scores(network.model(), [name for name in PROXIES if name != "grasp"], batch=2)
    assert all(math.isfinite(value) for value in found.values())
