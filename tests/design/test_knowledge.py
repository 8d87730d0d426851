"""Experts are the best cells of a data set, or those that a user lists."""

from dataclasses import replace

import pytest
from design.conftest import START, make_folder, rows

from onnx_bench_dataset.design import measured_cells, read_experts
from onnx_bench_dataset.errors import DesignError
from onnx_bench_dataset.spaces.nasbench101 import parse, write


def test_experts_have_the_highest_test_accuracies(data):
    cells = measured_cells(data)
    assert cells.ranked_by == "mean test accuracy, 108 epochs"
    best = sorted(rows(60), key=lambda row: -row.accuracy)[:8]
    assert sorted(cells.accuracies[:8]) == pytest.approx(sorted(row.accuracy for row in best))
    known = {row.architecture: row.accuracy for row in rows(60)}
    worst = min(known[write(cell)] for cell in cells.knowledge(8).experts)
    assert worst == pytest.approx(best[-1].accuracy)


def test_validation_accuracy_comes_first_where_every_cell_has_it(tmp_path):
    cells = measured_cells(make_folder(tmp_path / "rows", rows(30, validated=True)))
    assert cells.ranked_by == "mean validation accuracy, 108 epochs"
    assert list(cells.accuracies) == sorted(cells.accuracies)  # as the made-up labels are opposite
    mixed = [*rows(30, validated=True)[:29], *rows(30)[29:]]
    assert measured_cells(make_folder(tmp_path / "mixed", mixed)).ranked_by.startswith("mean test accuracy")


def test_ordinary_cells_depend_on_the_seed_alone(data):
    cells = measured_cells(data)
    assert cells.knowledge(3, seed=1).ordinary == cells.knowledge(8, seed=1).ordinary
    assert cells.knowledge(3, seed=1).ordinary != cells.knowledge(3, seed=2).ordinary


@pytest.mark.parametrize("experts", [0, 61])
def test_a_number_of_experts_that_cannot_be_had(data, experts):
    with pytest.raises(DesignError, match="from 1 to 60 can be had"):
        measured_cells(data).knowledge(experts)


def test_a_space_without_experts(tmp_path):
    unlabelled = [replace(row, accuracy=None, label=None, metrics=()) for row in rows(5)]
    with pytest.raises(DesignError, match="nobody to learn from"):
        measured_cells(make_folder(tmp_path / "rows", unlabelled))


def test_listed_experts(tmp_path):
    path = tmp_path / "experts.txt"
    path.write_text(f"{START}\n\noutput:0\n")
    assert read_experts(path) == (parse(START), parse("output:0"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            f"{START}\nconv5x5:0 output:1\n".encode(),
            "line 2: not an architecture of nasbench101: character 1",
        ),
        (b"\n", "holds no expert"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_files_of_experts_that_are_wrong(tmp_path, content, message):
    path = tmp_path / "experts.txt"
    path.write_bytes(content)
    with pytest.raises(DesignError, match=message):
        read_experts(path)
