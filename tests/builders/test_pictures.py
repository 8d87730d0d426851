"""`python -m builders pictures`: what it reads, what it draws, and that the card shows it."""

from collections import Counter
from math import log2

import matplotlib.image
import pytest

from builders import card, manifest, pictures
from builders.labels import LabelledArchitecture, no_progress
from builders.manifest import SpaceRecord
from builders.shards import plan, write_catalog, write_shard
from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.graphs import simplify
from onnx_bench_dataset.text import encode

ROWS = 12


def record(folder, space):
    """Write a space of which every second row has a label."""
    drawn = (
        ["maxpool3x3:0 output:0,1"] * ROWS if space == "nasbench101" else spaces.get(space).sample(ROWS, 2)
    )
    rows = [
        LabelledArchitecture(
            str(number),
            architecture,
            "cifar10",
            90.0 + number if number % 2 else None,
            None,
            (),
            None,
            "train",
        )
        for number, architecture in enumerate(drawn)
    ]
    shards = tuple(write_shard(folder, task) for task in plan(space, "train", rows))
    catalog = write_catalog(folder, f"catalog/{space}/train-00000-of-00001.parquet", [s.path for s in shards])
    return SpaceRecord("", shards, (catalog,), (), ())


@pytest.fixture
def folder(tmp_path):
    out = tmp_path / "onnx-bench"
    records = {space: record(out, space) for space in ("nasbench101", "nasbench201")}
    manifest.write(out, records)
    (out / "README.md").write_text(card.readme(records))
    return out


def test_the_pictures_are_there_and_the_card_shows_them(folder):
    drawn = pictures.draw(folder, ROWS, 1, no_progress)
    shown = (folder / "README.md").read_text()
    for path in drawn:
        assert matplotlib.image.imread(path).std() > 0  # not one colour
        assert f"](pictures/{path.name})" in shown
    assert "| `nasbench101`, `nasbench201` | 0.23 |" in shown
    again = [path.read_bytes() for path in drawn]
    assert [path.read_bytes() for path in pictures.draw(folder, ROWS, 1, no_progress)] == again
    assert (folder / "README.md").read_text() == shown


def test_operations_are_those_of_the_inference_form(folder):
    facts = pictures.read(folder, ROWS, 1, no_progress)["nasbench201"]
    expected = Counter()
    for architecture in spaces.get("nasbench201").sample(ROWS, 2):
        model = simplify(spaces.get("nasbench201").model(architecture))
        expected.update(node.op_type for node in model.graph.node)
        assert pictures.operations(encode(model)) == Counter(node.op_type for node in model.graph.node)
    assert facts.operations == expected
    assert len(facts.numbers["macs"]) == ROWS
    assert sum(accuracy > 0 for accuracy in facts.numbers["accuracy"]) == ROWS // 2


def test_divergence_is_that_of_the_definition():
    one, two = {"Conv": 3, "Relu": 1}, {"Conv": 1, "Add": 1}
    middle = {"Conv": (3 / 4 + 1 / 2) / 2, "Relu": 1 / 8, "Add": 1 / 4}
    left = 3 / 4 * log2(3 / 4 / middle["Conv"]) + 1 / 4 * log2(1 / 4 / middle["Relu"])
    right = 1 / 2 * log2(1 / 2 / middle["Conv"]) + 1 / 2 * log2(1 / 2 / middle["Add"])
    assert pictures.divergence(one, two) == pytest.approx((left + right) / 2)
    assert pictures.divergence(one, one) == 0


def test_a_folder_that_cannot_be_drawn_is_one_error(folder, tmp_path):
    with pytest.raises(BuildError):
        pictures.draw(tmp_path / "nothing", ROWS, 1, no_progress)
    (folder / "README.md").write_text("# nothing")
    with pytest.raises(BuildError, match="<!-- pictures -->"):
        pictures.draw(folder, ROWS, 1, no_progress)
