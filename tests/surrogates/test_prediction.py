"""What is predicted of networks: intervals that hold, the nearest known, and networks in every form."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import onnx_bench_dataset
from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import PredictorError, UnsupportedModelError
from onnx_bench_dataset.surrogates import load, predict
from onnx_bench_dataset.surrogates.calibrated import CalibratedPredictor, Labelled
from onnx_bench_dataset.surrogates.features import NAMES
from onnx_bench_dataset.surrogates.prediction import DEFAULT, default_predictor
from onnx_bench_dataset.surrogates.reading import features_of_model, parse

SPACES = ("nasbench201", "natsbench_size", "nasbench_macro")
COUNT = 1_200
MADE = {"data": "0123456789abcdef", "rows": 1}


def tenth(networks):
    """Of rows by their place: 0 to 2 calibrate, 3 to 5 are learned from, the others are held out."""
    return np.arange(len(networks.ids)) % 10


@pytest.fixture(scope="module")
def networks():
    """Networks of three spaces, in random order, whose accuracies follow their work, and their space."""
    features, groups = [], []
    for group, space in enumerate(SPACES):
        chosen = spaces.get(space)
        features += [features_of_model(chosen.model(each)) for each in chosen.sample(COUNT, 0)]
        groups += [group] * COUNT
    features, groups = np.array(features), np.array(groups)
    random = np.random.default_rng(0)
    work = features[:, NAMES.index("macs")] + features[:, NAMES.index("mean_convolutions")] / 5
    accuracies = (
        95 - 40 * np.exp(-(work - work.min()) / 2) + groups / 5 - random.exponential(0.1, len(groups))
    )
    ids = np.array([f"{SPACES[group]}/{row}" for row, group in enumerate(groups)], object)
    every = np.ones(len(groups), bool)
    found = Labelled(ids, features, accuracies, groups, groups, every, ~every)
    return found.where(random.permutation(len(groups)))


@pytest.fixture(scope="module")
def held_out(networks):
    return networks.where(tenth(networks) > 5)


@pytest.fixture(scope="module")
def predictor(networks):
    learned = networks._replace(tests=tenth(networks) < 3).where(tenth(networks) <= 5)
    return CalibratedPredictor.fit(learned, 0, MADE)


def share_held(predictions, accuracies):
    low, high = np.array([each.accuracy[1:] for each in predictions]).T
    return np.mean((low <= accuracies) & (accuracies <= high))


def model_of(space, number=0):
    chosen = spaces.get(space)
    return chosen.model(chosen.sample(number + 1, 1)[number])


def image_model(nodes, shape=(1, 3, 32, 32), weights=()):
    """A model from `x` to `y`."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "net", [given, *weights], [result]))


def convolution(shape=(1, 3, 32, 32)):
    weight = helper.make_tensor_value_info("w", TensorProto.FLOAT, (8, 3, 3, 3))
    return image_model([helper.make_node("Conv", ["x", "w"], ["y"])], shape, [weight])


# Calibration.


def test_nine_in_ten_intervals_hold_the_accuracy_of_networks_that_nothing_was_learned_from(
    predictor, held_out
):
    """Some 360 rows of a space calibrate and 480 are held out, so the share varies by 0.02."""
    chosen = [held_out.where(held_out.groups == group) for group in range(len(SPACES))]
    held = [share_held(predictor.predict(rows.features), rows.accuracies) for rows in chosen]
    assert min(held) >= 0.85, held


def test_ranks_are_those_among_known_networks(predictor, held_out):
    predictions = predictor.predict(held_out.features)
    below = np.array([np.mean(predictor.known.quantiles < each.accuracy.value) for each in predictions])
    assert np.allclose([each.percentile.value for each in predictions], 100 * below, atol=0.5)
    assert np.corrcoef([each.accuracy.value for each in predictions], held_out.accuracies)[0, 1] > 0.8


def test_intervals_grow_with_the_distance_from_known_networks(predictor, held_out):
    far = held_out.features.copy()
    far[:, :40] = far[:, :40] * 9 + 7
    near, beyond = (predictor.predict(features) for features in (held_out.features, far))
    for one, other in zip(near, beyond, strict=True):
        assert other.nearest[0].distance > one.nearest[0].distance
        assert other.unlikeness > 0.5
    lengths = [np.median([np.ptp(each.percentile) for each in some]) for some in (near, beyond)]
    assert lengths[1] > 95 > 75 > lengths[0]


def test_a_known_network_is_the_nearest_to_itself(predictor, networks):
    known = networks.where(np.isin(networks.ids, predictor.known.ids))
    for prediction in predictor.predict(known.features):
        assert prediction.nearest[0].distance < 1e-6
        assert prediction.nearest[0].accuracy in predictor.known.accuracies


def test_networks_of_other_data_are_ranked_but_never_known(networks):
    other = networks.groups == 1
    fitted = CalibratedPredictor.fit(networks._replace(known=~other, tests=tenth(networks) < 3), 0, MADE)
    assert {name.partition("/")[0] for name in fitted.known.ids} == {"nasbench201", "nasbench_macro"}


def test_without_a_network_of_known_accuracy_nothing_can_be_predicted(networks):
    with pytest.raises(PredictorError, match="no network whose accuracy"):
        CalibratedPredictor.fit(networks._replace(known=np.zeros(len(networks.ids), bool)), 0, MADE)


# Files.


def test_a_predictor_that_was_saved_predicts_the_same(predictor, held_out, tmp_path):
    predictor.save(tmp_path / "saved.onnxbench")
    again = CalibratedPredictor.load(tmp_path / "saved.onnxbench")
    assert again.made == MADE
    for one, other in zip(*(each.predict(held_out.features) for each in (predictor, again)), strict=True):
        assert np.allclose(one.accuracy, other.accuracy, atol=1e-3)
        assert np.allclose(one.percentile, other.percentile, atol=1e-2)
        assert one.nearest == other.nearest


def test_its_file_is_also_one_of_the_predictor_features(predictor, held_out, tmp_path):
    predictor.save(tmp_path / "saved.onnxbench")
    scores = load(tmp_path / "saved.onnxbench").score_features(held_out.features)
    assert np.allclose(scores, [each.score for each in predictor.predict(held_out.features)], atol=1e-4)


def test_a_file_without_known_networks_tells_no_accuracy(predictor, tmp_path):
    predictor.predictor.save(tmp_path / "plain.onnxbench")
    with pytest.raises(PredictorError, match="features alone, without known networks"):
        CalibratedPredictor.load(tmp_path / "plain.onnxbench")


def test_an_altered_file_is_refused(predictor, tmp_path):
    path = tmp_path / "saved.onnxbench"
    predictor.save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PredictorError, match="no sound file"):
        CalibratedPredictor.load(path)


# The default predictor.


def test_the_default_predictor_is_small_and_says_what_it_was_made_of():
    assert DEFAULT.stat().st_size <= 2_000_000
    made = default_predictor().made
    assert made["rows"] <= 50_000
    assert set(made["train"]) >= set(made["calibrate"]) == {"nasbench101", *SPACES}
    assert len(made["data"]) == 16


def test_the_best_of_a_space_is_told_from_the_worst():
    best = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    worst = "|avg_pool_3x3~0|+|none~0|avg_pool_3x3~1|+|none~0|none~1|avg_pool_3x3~2|"
    good, bad = (predict(spaces.get("nasbench201").model(each)) for each in (best, worst))
    assert good.accuracy.low > bad.accuracy.high
    assert good.nearest[0].id.startswith("nasbench201/")
    assert good.percentile.value > 90


def test_importing_the_package_loads_neither_lightgbm_nor_scipy():
    program = "import sys, onnx_bench_dataset as package; package.surrogates if 0 else None; " + (
        "print(any(name in sys.modules for name in ('lightgbm', 'scipy', 'sklearn', 'torch')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert onnx_bench_dataset.predict is predict


# Forms of networks.


def test_a_model_its_file_and_the_name_of_its_file_are_predicted_alike(tmp_path):
    model = model_of("nasbench201")
    onnx.save(model, tmp_path / "net.onnx")
    assert predict(model) == predict(tmp_path / "net.onnx") == predict(str(tmp_path / "net.onnx"))


def test_a_torch_module_is_exported_and_left_as_it_was():
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    module[1].eval()
    modes = [each.training for each in module.modules()]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = predict(module)
    assert found.accuracy.low <= found.accuracy.value <= found.accuracy.high
    assert [each.training for each in module.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert predict(module, torch.zeros(1, 3, 16, 16)).score != found.score


def test_a_module_that_reads_something_else_is_said():
    with pytest.raises(
        UnsupportedModelError, match=r"cannot be exported for one image of 3×32×32: .*same reduction dim"
    ):
        predict(nn.Linear(7, 2))


def test_what_is_no_network_is_said():
    with pytest.raises(UnsupportedModelError, match="not of type list"):
        predict([])


# Bad input.


@pytest.mark.parametrize("shape", [(1, 3, "height", "width"), (1, 3, None, 32), None])
def test_dynamic_shapes_are_refused_with_what_to_do(shape):
    with pytest.raises(
        UnsupportedModelError, match=r"dynamic shapes: its input 'x'.*make_dynamic_shape_fixed"
    ):
        predict(convolution(shape))


def test_how_many_images_there_are_does_not_matter():
    assert predict(convolution(("batch", 3, 32, 32))) == predict(convolution())


def test_a_network_without_convolutions_is_unlike_all():
    weight = helper.make_tensor_value_info("w", TensorProto.FLOAT, (784, 10))
    found = predict(image_model([helper.make_node("MatMul", ["x", "w"], ["y"])], (1, 784), [weight]))
    assert found.percentile.high - found.percentile.low > 50


def test_operations_that_nobody_knows_are_others():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Twist", ["a"], ["y"], domain="elsewhere"),
    ]
    weight = helper.make_tensor_value_info("w", TensorProto.FLOAT, (8, 3, 3, 3))
    assert predict(image_model(nodes, weights=[weight])).unlikeness > 0


@pytest.mark.parametrize("count", [100_000, 100_001])
def test_a_hundred_thousand_nodes_take_bounded_time(count):
    names = ["x", *(f"v{number}" for number in range(1, count)), "y"]
    nodes = [
        helper.make_node(("Relu", "Sigmoid")[place % 2], [source], [target])
        for place, (source, target) in enumerate(pairwise(names))
    ]
    model = image_model(nodes)
    if count > 100_000:
        with pytest.raises(UnsupportedModelError, match="100,001 nodes"):
            predict(model)
    else:
        assert predict(model).unlikeness > 0.5


def test_more_paths_than_numbers_can_say_make_no_score_that_is_none():
    nodes = [helper.make_node("Relu", ["x"], ["v0"]), helper.make_node("Sigmoid", ["x"], ["v1"])]
    for number in range(2, 3_000):
        pair = [f"v{number - 2}", f"v{number - 1}"]
        nodes.append(helper.make_node("Add", pair, [f"v{number}" if number < 2_999 else "y"]))
    assert np.isfinite(predict(image_model(nodes)).score)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 100])
def test_a_file_that_is_no_model_is_said(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(UnsupportedModelError, match=r"net\.onnx is not an ONNX model"):
        predict(tmp_path / "net.onnx")


def test_damaged_models_have_features_or_are_refused():
    content = model_of("nasbench201").SerializeToString()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(len(content), size=4):
            damaged[place] = random.integers(256)
        try:
            features = features_of_model(parse(bytes(damaged), "it"))
        except UnsupportedModelError:
            refused += 1
        else:
            assert np.isfinite(features).all()
    assert 0 < refused < 300
