"""digits: the networks of six spaces, small enough for grey images of 8×8 pixels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import ArchitectureError, ShapeError
from onnx_bench_dataset.graphs import fill_weights, graph_hash, measures, run
from onnx_bench_dataset.graphs.graph import Graph
from onnx_bench_dataset.spaces import digits
from onnx_bench_dataset.spaces.digits import EINSPACE_BOUNDS, SMALL_SPACES, parse, write
from onnx_bench_dataset.spaces.einspace_grammar import parse as parse_module
from onnx_bench_dataset.spaces.nasbench301 import NASBench301

SPACE = spaces.get("digits")

ARCHITECTURES = {
    "nasbench101": "conv3x3-bn-relu:0 maxpool3x3:0,1 conv1x1-bn-relu:0,2 output:0,2,3",
    "nasbench201": "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|",
    "natsbench_size": "8:64:16:32:24",
    "nasbench301": NASBench301().sample(1, seed=0)[0],
    "hnasbench201": spaces.get("hnasbench201").sample(1, seed=0)[0],
    "einspace": "sequential(routing(im2col3k1s1p,computation(linear16),col2im),computation(leakyrelu))",
}
STATED = [write(space, architecture) for space, architecture in ARCHITECTURES.items()]


@pytest.fixture(params=STATED, ids=list(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_there_is_one_network_of_each_space() -> None:
    assert list(ARCHITECTURES) == list(SMALL_SPACES)
    assert (SPACE.name, SPACE.family) == ("digits", "digits")


def test_networks_take_a_grey_image_and_give_ten_logits(architecture: str) -> None:
    model = SPACE.model(architecture)
    onnx.checker.check_model(model, full_check=True)
    image = np.random.default_rng(0).standard_normal((1, 1, 8, 8), dtype=np.float32)
    logits = run(fill_weights(model, seed=0), {"input": image})[0]
    assert logits.shape == (1, 10)
    assert np.isfinite(logits).all()


def test_a_network_says_what_the_general_functions_say(architecture: str) -> None:
    network = SPACE.network(architecture, "some/name")
    model = network.model()
    assert network[1:5] == measures(model)
    assert network.graph_hash == graph_hash(model)
    assert Graph.from_model(model).metadata == {
        "id": "digits/some/name",
        "space": "digits",
        "architecture": architecture,
    }


def test_networks_are_smaller_than_those_of_their_space(architecture: str) -> None:
    space, inner = parse(architecture)
    if space == "einspace":
        pytest.skip("its networks are as large as their strings say")
    mine = SPACE.network(architecture)
    published = spaces.get(space).network(inner, "", (1, 1, 8, 8))
    assert 10 * mine.num_params < published.num_params
    assert 10 * mine.macs < published.macs


def test_other_shapes_and_numbers_of_classes() -> None:
    network = SPACE.network(STATED[1], "", (2, 3, 16, 16), 5)
    assert run(fill_weights(network.model()), {"input": np.zeros((2, 3, 16, 16), np.float32)})[0].shape == (
        2,
        5,
    )
    with pytest.raises(ShapeError, match="not divisible by 4"):
        SPACE.network(STATED[1], "", (1, 1, 10, 10))


@pytest.mark.parametrize("space", [space for space in SMALL_SPACES if space != "nasbench101"])
def test_architectures_drawn_from_a_space_fit_the_images(space: str) -> None:
    drawn = SMALL_SPACES[space].sample(20, seed=3)
    assert drawn == SMALL_SPACES[space].sample(20, seed=3)
    assert len(set(drawn)) == 20
    networks = [SPACE.network(write(space, architecture)) for architecture in drawn]
    assert all(network.num_params < 2**17 + 2**13 for network in networks)


def test_networks_drawn_from_einspace_are_bounded() -> None:
    for architecture in SMALL_SPACES["einspace"].sample(300, seed=4):
        parse_module(architecture, (1, 1, 8, 8))
        network = SPACE.network(write("einspace", architecture))
        head = 10 * EINSPACE_BOUNDS.elements + 10
        assert network.num_params <= EINSPACE_BOUNDS.parameters + head


def test_all_spaces_are_drawn_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {name: space for name, space in SMALL_SPACES.items() if name != "nasbench101"}  # seconds to list
    monkeypatch.setattr(digits, "SMALL_SPACES", quick)
    drawn = SPACE.sample(7, seed=1)
    assert [parse(architecture)[0] for architecture in drawn] == [*quick, "nasbench201", "natsbench_size"]
    assert drawn == SPACE.sample(7, seed=1) != SPACE.sample(7, seed=2)


@pytest.mark.parametrize(
    "architecture",
    ["", "8:16:24:32:40", "nasbench201", "imagenet:resnet18", ":8:8:8:8:8", "nasbench_macro:00000000"],
)
def test_an_architecture_names_its_space(architecture: str) -> None:
    with pytest.raises(ArchitectureError, match="a space is named first, one of nasbench101, nasbench201"):
        SPACE.network(architecture)


def test_what_breaks_the_rules_of_its_space_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="not an architecture of natsbench_size: character 3"):
        SPACE.network("natsbench_size:8:9:8:8:8")
    too_large = "sequential(routing(im2col16k16s0p,computation(linear16),col2im),computation(norm))"
    with pytest.raises(ArchitectureError, match="needs an image of 16×16 or more"):
        SPACE.network(f"einspace:{too_large}")
