"""`python -m builders compare`: styles are trained alike, and what is found is written and shown."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_folder
from scipy.stats import kendalltau

from builders import style_ranking
from builders.labels import no_progress
from builders.style_ranking import SPACES, STYLES_COMPARED, Budget, compare, table
from onnx_bench_dataset.errors import BuildError

CHECKOUT = Path(__file__).parents[2]
BUDGET = Budget(train_rows=8, test_rows=3, epochs=1, seeds=1, max_length=256, draws=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "onnx-bench"
    tiny_folder.make(folder, dict.fromkeys(SPACES, 20))
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return compare(folder, BUDGET, no_progress)


def test_every_style_reads_the_same_rows(found):
    assert [(cost["source"], cost["style"]) for cost in found["costs"]] == [
        (space, style) for space in SPACES for style in STYLES_COMPARED
    ]
    for cost in found["costs"]:
        assert 0 < cost["read"] <= BUDGET.train_rows * BUDGET.epochs * BUDGET.max_length
    ours, theirs = found["costs"][:2]
    assert ours["tokens"] < theirs["tokens"]
    assert ours["cut"] == 0


def test_both_spaces_are_ranked_after_training_on_each(found):
    pairs = [(one["source"], one["target"]) for one in found["ranking"]]
    assert pairs == [(source, target) for source in SPACES for target in SPACES]
    for one in found["ranking"]:
        for measure in ("kendall", "spearman"):
            ours, theirs = (one[measure][style][0] for style in STYLES_COMPARED)
            assert one[measure]["difference"][0] == pytest.approx(ours - theirs, abs=2e-3, nan_ok=True)


def test_intervals_are_those_of_draws_of_the_ranked_rows():
    random = np.random.default_rng(1)
    accuracies = random.normal(size=300)
    close, far = accuracies + random.normal(size=300) / 2, accuracies + 3 * random.normal(size=300)
    found = style_ranking.ranked(accuracies, dict(zip(STYLES_COMPARED, ([close], [far]), strict=True)), 200)
    mean, low, high = found["kendall"]["onnx-net"]
    assert mean == pytest.approx(kendalltau(close, accuracies)[0], abs=1e-3)
    assert mean - 0.07 < low < mean < high < mean + 0.07
    assert found["kendall"]["difference"][1] > 0.2


def test_a_table_shows_all_that_was_found(found):
    lines = table(found).splitlines()
    assert lines[0].startswith(
        "8 rows to train on, seen 1 times, at most 256 tokens of a text, 3 rows to rank"
    )
    assert len([line for line in lines if line.startswith("| nasbench")]) == 4 * 2 + 4
    assert all(line.count("|") == 7 for line in lines if line.startswith("|"))


def test_a_folder_without_these_spaces_is_refused(tmp_path):
    tiny_folder.make(tmp_path / "onnx-bench", {"nasbench201": 5})
    with pytest.raises(BuildError, match="has no rows of nasbench101: build them first"):
        compare(tmp_path / "onnx-bench", BUDGET, no_progress)


@pytest.mark.slow
def test_the_command_writes_what_it_prints(folder, tmp_path):
    out = tmp_path / "results" / "texts.json"
    command = [sys.executable, "-m", "builders", "compare", folder, "--rows", "4", "--epochs", "1"]
    command += ["--seeds", "1", "--max-length", "32", "--out", out]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == table(json.loads(out.read_text())) + "\n"


@pytest.mark.slow
def test_our_text_ranks_better_than_that_of_onnx_net():
    if not (built := os.environ.get("ONNX_BENCH_FOLDER")):
        pytest.skip("ONNX_BENCH_FOLDER does not name a built folder")
    found = compare(Path(built), Budget(train_rows=400, test_rows=400, seeds=1, draws=10), no_progress)
    for one in found["ranking"]:
        assert one["kendall"]["difference"][0] > 0, (one["source"], one["target"])
