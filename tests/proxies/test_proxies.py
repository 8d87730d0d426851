"""Proxies are what their papers define, computed here anew from autograd and NumPy on plain networks."""

from __future__ import annotations

import copy
import json
import math
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

import onnx_bench_dataset
from onnx_bench_dataset import spaces
from onnx_bench_dataset.cli import app
from onnx_bench_dataset.errors import OnnxBenchError, UnknownNameError, UnsupportedModelError
from onnx_bench_dataset.graphs import measures
from onnx_bench_dataset.graphs.build import GraphBuilder
from onnx_bench_dataset.proxies import PROXIES, scores
from onnx_bench_dataset.training import GraphModule, torch_module
from tests.graphs.tiny_models import tiny

NAMES = (
    *("params", "macs", "l2_norm", "synflow", "naswot", "zen"),
    *("jacov", "grad_norm", "snip", "plain", "fisher", "grasp", "zico"),
)
CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
BATCH = 6


class Plain(nn.Module):
    """The network of `model`, written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(5)
        self.other = nn.Conv2d(5, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(torch.relu(self.other(x)).mean((2, 3)))


def model() -> onnx.ModelProto:
    g = GraphBuilder((1, 2, 6, 6))
    x = g.op("Relu", g.batch_norm(g.conv(g.input, "conv", 2, 5, 3), "norm", 5), name="r")
    x = g.op("Conv", x, g.weight("other.weight", 4, 5, 1, 1), g.weight("other.bias", 4), name="o")
    x = g.op("GlobalAveragePool", g.op("Relu", x, name="s"), name="p")
    x = g.op("Flatten", x, name="f")
    return g.model(
        g.op("Gemm", x, g.weight("head.weight", 3, 4), g.weight("head.bias", 3), name="y", transB=1)
    )


@pytest.fixture(scope="module")
def module() -> GraphModule:
    torch.set_num_threads(1)
    return torch_module(model(), seed=3)


@pytest.fixture(scope="module")
def plain(module: GraphModule) -> Plain:
    made = Plain()
    made.load_state_dict(module.state_dict())
    return made.train()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(BATCH, 2, 6, 6, generator=torch.Generator().manual_seed(0))


CLASSES = torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.fixture(scope="module")
def found(module: GraphModule, images: Tensor) -> dict[str, float]:
    return scores(module, inputs=[images], classes=CLASSES)


def layers(network: Plain) -> list[Tensor]:
    return [network.conv.weight, network.other.weight, network.head.weight]


def gradients(network: Plain, images: Tensor, classes: Tensor = CLASSES) -> list[Tensor]:
    loss = functional.cross_entropy(network(images), classes)
    return list(torch.autograd.grad(loss, layers(network)))


def test_there_are_thirteen() -> None:
    assert tuple(PROXIES) == NAMES


def test_sizes_are_those_of_the_graph(found: dict[str, float]) -> None:
    known = measures(model())
    assert (found["params"], found["macs"]) == (known.num_params, known.macs)


def test_norms_of_weights_and_gradients(found: dict[str, float], plain: Plain, images: Tensor) -> None:
    assert found["l2_norm"] == pytest.approx(sum(w.norm().item() for w in layers(plain)))
    norms = sum(g.norm().item() for g in gradients(plain, images))
    assert found["grad_norm"] == pytest.approx(norms, rel=1e-5)


def test_snip_and_plain_are_products_of_weight_and_gradient(
    found: dict[str, float], plain: Plain, images: Tensor
) -> None:
    pairs = list(zip(layers(plain), gradients(plain, images), strict=True))
    assert found["snip"] == pytest.approx(sum((w * g).abs().sum().item() for w, g in pairs), rel=1e-5)
    assert found["plain"] == pytest.approx(sum((w * g).sum().item() for w, g in pairs), abs=1e-6)


def test_snip_is_the_gradient_by_a_mask_that_is_all_ones(
    found: dict[str, float], plain: Plain, images: Tensor
) -> None:
    masks = {name: torch.ones_like(p, requires_grad=True) for name, p in plain.named_parameters()}
    masked = {name: p.detach() * masks[name] for name, p in plain.named_parameters()}
    logits = torch.func.functional_call(copy.deepcopy(plain), masked, images)
    functional.cross_entropy(logits, CLASSES).backward()
    kept = [masks[name].grad.abs().sum().item() for name in ("conv.weight", "other.weight", "head.weight")]
    assert found["snip"] == pytest.approx(sum(kept), rel=1e-5)


def test_grasp_by_finite_differences(found: dict[str, float], plain: Plain, images: Tensor) -> None:
    network, step = copy.deepcopy(plain).double(), 1e-6
    base = gradients(network, images.double())
    with torch.no_grad():
        for weight, gradient in zip(layers(network), base, strict=True):
            weight += step * gradient
    curved = [(after - g) / step for after, g in zip(gradients(network, images.double()), base, strict=True)]
    expected = -sum((w * h).sum().item() for w, h in zip(layers(plain), curved, strict=True))
    assert found["grasp"] == pytest.approx(expected, rel=1e-3)


def test_fisher_of_every_channel(found: dict[str, float], plain: Plain, images: Tensor) -> None:
    outputs = []
    hooks = [
        part.register_forward_hook(lambda _, __, output: outputs.append(output))
        for part in (plain.conv, plain.other, plain.head)
    ]
    loss = functional.cross_entropy(plain(images), CLASSES)
    for hook in hooks:
        hook.remove()
    expected = 0.0
    for weight, output, gradient in zip(
        layers(plain), outputs, torch.autograd.grad(loss, outputs), strict=True
    ):
        for channel in range(output.shape[1]):
            product = (output * gradient)[:, channel].reshape(BATCH, -1).sum(1)
            expected += 0.5 * product.square().mean().item() * weight[channel].numel()
    assert found["fisher"] == pytest.approx(expected, rel=1e-4)


def test_synflow_by_products_of_absolute_weights(found: dict[str, float], plain: Plain) -> None:
    network = copy.deepcopy(plain).double()
    network.norm = nn.Identity()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    total = network(torch.ones(1, 2, 6, 6, dtype=torch.float64)).sum()
    flows = torch.autograd.grad(total, layers(network))
    expected = sum((w * g).sum().item() for w, g in zip(layers(network), flows, strict=True))
    assert found["synflow"] == pytest.approx(math.log(expected))


def test_naswot_counts_rectifiers_that_agree(found: dict[str, float], plain: Plain, images: Tensor) -> None:
    with torch.no_grad():
        first = plain.norm(plain.conv(images))
        second = plain.other(torch.relu(first))
    patterns = np.concatenate([(x > 0).flatten(1).numpy() for x in (first, second)], axis=1)
    agreements = [[(a == b).sum() for b in patterns] for a in patterns]
    assert found["naswot"] == pytest.approx(np.linalg.slogdet(np.array(agreements, float))[1])


def test_jacov_of_correlations_between_inputs(found: dict[str, float], plain: Plain, images: Tensor) -> None:
    inputs = images.clone().requires_grad_()
    plain(inputs).sum().backward()
    values = np.linalg.eigvalsh(np.corrcoef(inputs.grad.double().flatten(1).numpy())) + 1e-5
    assert found["jacov"] == pytest.approx(-np.sum(np.log(values) + 1 / values), rel=1e-3)


def test_zico_of_two_halves(found: dict[str, float], plain: Plain, images: Tensor) -> None:
    halves = [gradients(plain, images[part], CLASSES[part]) for part in (slice(0, 3), slice(3, 6))]
    expected = 0.0
    for pair in zip(*halves, strict=True):
        values = np.stack([gradient.double().numpy().ravel() for gradient in pair])
        deviation = values.std(axis=0)
        ratios = np.abs(values).mean(axis=0)[deviation > 0] / deviation[deviation > 0]
        expected += np.log(ratios.sum())
    assert found["zico"] == pytest.approx(expected, rel=1e-3)


def test_zen_grows_with_how_far_features_move() -> None:
    # One convolution without batch norm: the features move by its weights times 0.01 times noise.
    g = GraphBuilder((1, 2, 6, 6))
    x = g.op("GlobalAveragePool", g.conv(g.input, "conv", 2, 50, 3), name="pool")
    single = g.model(x)
    found = scores(single, ["zen"], batch=16)["zen"]
    window = np.full((6, 6), 3.0)  # how many pixels a window covers, along each axis
    window[0] = window[-1] = 2
    moves = 0.01 * np.sqrt(2 * window * window.T) * math.sqrt(2 / math.pi)
    assert found == pytest.approx(math.log(50 * moves.sum()), abs=0.1)


def test_zen_makes_good_for_batch_norm() -> None:
    # Batch norm divides by the deviation, whose logarithm is added: no more than rounding is left of it.
    bare, normalized = GraphBuilder((1, 2, 6, 6)), GraphBuilder((1, 2, 6, 6))
    x = bare.conv(bare.input, "conv", 2, 50, 3)
    one = scores(bare.model(bare.op("GlobalAveragePool", x, name="p")), ["zen"], batch=16)["zen"]
    y = normalized.batch_norm(normalized.conv(normalized.input, "conv", 2, 50, 3), "bn", 50)
    other = scores(normalized.model(normalized.op("GlobalAveragePool", y, name="p")), ["zen"], batch=16)
    assert other["zen"] == pytest.approx(one, abs=0.1)


def test_a_seed_gives_the_same_scores_and_the_network_stays_as_it_is() -> None:
    made = torch_module(model(), seed=1)
    before = copy.deepcopy(made.state_dict())
    one, same, other = (scores(made, batch=4, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one["naswot"] != other["naswot"]
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_all_scores_of_a_real_network_are_finite() -> None:
    found = scores(spaces.get("nasbench201").model(CELL), batch=4)
    assert all(math.isfinite(value) for value in found.values())


def test_a_network_without_rectifiers_has_no_naswot() -> None:
    found = scores(tiny("p = GlobalAveragePool(x) y = Flatten(p)", "float[1,4,6,6] x"), batch=4)
    assert math.isnan(found["naswot"])
    assert found["synflow"] == -math.inf


def test_what_cannot_be_scored_says_why() -> None:
    with pytest.raises(UnknownNameError, match="there is no proxy 'nas'; there are params, macs"):
        scores(model(), ["nas"])
    with pytest.raises(UnsupportedModelError, match="at least 2, not 1"):
        scores(model(), ["naswot"], batch=1)
    with pytest.raises(UnsupportedModelError, match="one output, N×classes"):
        scores(tiny("y = Relu(x)"), ["grad_norm"])
    with pytest.raises(UnsupportedModelError, match="'x' is dynamic"):
        scores(tiny("y = Relu(x)", 'float["N",4,"H",6] x'), ["naswot"])
    with pytest.raises(OnnxBenchError, match="knows no device 'abacus'"):
        scores(model(), ["naswot"], device="abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device() -> None:
    with pytest.raises(OnnxBenchError, match="no CUDA device"):
        scores(model(), ["naswot"], device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_cuda_gives_the_same_scores() -> None:
    names = [name for name in NAMES if name != "plain"]  # which is rounding alone
    one, other = (scores(model(), names, device=device) for device in ("cpu", "cuda"))
    assert other == pytest.approx(one, rel=1e-2)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "net.onnx"
    onnx.save(model(), path)
    return str(path)


def test_command_prints_json(file: str) -> None:
    arguments = ["proxies", file, "--proxy", "naswot", "--proxy", "params", "--batch", "8", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == scores(model(), ["naswot", "params"], batch=8)


def test_command_prints_a_table(file: str) -> None:
    result = CliRunner().invoke(app, ["proxies", file, "--batch", "4", "--seed", "2"])
    assert result.exit_code == 0, result.stderr
    assert all(name in result.stdout for name in NAMES)


def test_command_says_none_where_there_is_no_score(tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    onnx.save(tiny("y = Sigmoid(x)"), path)
    result = CliRunner().invoke(app, ["proxies", str(path), "--proxy", "naswot", "--json"])
    assert json.loads(result.stdout) == {"naswot": None}


def test_command_without_torch_names_the_extra(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("proxies", "training"):
        monkeypatch.delattr(onnx_bench_dataset, part)
        for name in [name for name in sys.modules if name.startswith(f"onnx_bench_dataset.{part}")]:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = CliRunner().invoke(app, ["proxies", file])
    assert result.exit_code == 1
    assert "onnx-bench-dataset[torch]" in result.stderr.replace("\n", "")
