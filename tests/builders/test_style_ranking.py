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
from builders.style_ranking import OURS, SPACES, THEIRS, VARIANTS, Budget, compare, table
from onnx_bench_dataset.errors import BuildError

CHECKOUT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:An input array is constant")  # few networks, some alike
BUDGET = Budget(train_rows=8, test_rows=3, epochs=1, seeds=1, max_length=256, draws=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "onnx-bench"
    tiny_folder.make(folder, dict.fromkeys(SPACES, 20))
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return compare(folder, BUDGET, 1, no_progress)


def test_styles_see_the_same_rows_as_often_and_ours_longer_too(found):
    shown = [(cost["source"], cost["variant"]) for cost in found["costs"]]
    assert shown == [(space, variant) for space in SPACES for variant in reversed(VARIANTS)]
    for ours, longer, theirs in (found["costs"][:3], found["costs"][3:]):
        assert ours["tokens"] == longer["tokens"] < theirs["tokens"]
        assert 3 * ours["read"] == longer["read"] <= 3 * BUDGET.train_rows * BUDGET.max_length
        assert theirs["read"] <= BUDGET.train_rows * BUDGET.max_length


def test_both_spaces_are_ranked_after_training_on_each(found):
    pairs = [(one["source"], one["target"]) for one in found["ranking"]]
    assert pairs == [(source, target) for source in SPACES for target in SPACES]
    for one in found["ranking"]:
        for measure in ("kendall", "spearman"):
            ours, theirs, lead = (one[measure][name][0] for name in (OURS, THEIRS, f"{OURS}, less {THEIRS}"))
            assert lead == pytest.approx(ours - theirs, abs=2e-3, nan_ok=True)


def test_intervals_are_those_of_draws_of_the_ranked_rows():
    random = np.random.default_rng(1)
    accuracies = random.normal(size=300)
    close, far = accuracies + random.normal(size=300) / 2, accuracies + 3 * random.normal(size=300)
    found = style_ranking.ranked(accuracies, {OURS: [close], THEIRS: [far]}, draws=200)["kendall"]
    mean, low, high = found[OURS]
    assert mean == pytest.approx(kendalltau(close, accuracies)[0], abs=1e-3)
    assert mean - 0.07 < low < mean < high < mean + 0.07
    assert found[f"{OURS}, less {THEIRS}"][1] > 0.2


def test_a_table_shows_all_that_was_found(found):
    lines = table(found).splitlines()
    assert lines[0].startswith(
        "8 rows to train on, seen 1 times, at most 256 tokens of a text, 3 rows to rank"
    )
    assert len([line for line in lines if line.startswith("| nasbench")]) == 4 * 2 + 6
    assert all(line.count("|") in (9, 7) for line in lines if line.startswith("|"))


def test_a_folder_without_these_spaces_is_refused(tmp_path):
    tiny_folder.make(tmp_path / "onnx-bench", {"nasbench201": 5})
    with pytest.raises(BuildError, match="has no rows of nasbench101: build them first"):
        compare(tmp_path / "onnx-bench", BUDGET, 1, no_progress)


@pytest.mark.slow
def test_the_command_writes_what_it_prints(folder, tmp_path):
    out = tmp_path / "results" / "texts.json"
    command = [sys.executable, "-m", "builders", "compare", folder, "--rows", "4", "--epochs", "1"]
    command += ["--seeds", "1", "--max-length", "32", "--out", out]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == table(json.loads(out.read_text())) + "\n"


@pytest.mark.slow
def test_our_text_ranks_unseen_spaces_better_than_that_of_onnx_net():
    if not (built := os.environ.get("ONNX_BENCH_FOLDER")):
        pytest.skip("ONNX_BENCH_FOLDER does not name a built folder")
    found = compare(Path(built), Budget(train_rows=400, test_rows=400, seeds=1, draws=10), 2, no_progress)
    for one in found["ranking"]:
        if one["source"] != one["target"]:
            assert one["kendall"][f"{OURS}, less {THEIRS}"][0] > 0.1, (one["source"], one["target"])
