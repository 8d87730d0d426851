"""Features are chosen by what carries over between the families that may be seen, and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_folder
from sklearn.linear_model import Ridge
from typer.testing import CliRunner

from builders import panels
from builders.__main__ import app
from builders.labels import no_progress
from builders.panels import Budget, Known, choose, measure_blind
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.surrogates import evaluate, lines
from onnx_bench_dataset.surrogates.features import NAMES

BUDGET = Budget(panels=3, rows=40, seeds=1, test_rows=None)


def family(name: str, sign: int, seed: int) -> Known:
    """Labels grow with `macs` in every family, and more so with `depthwise`, whose sign is the family's."""
    random = np.random.default_rng(seed)
    features = np.zeros((300, len(NAMES)), np.float32)
    features[:, NAMES.index("macs")] = random.normal(size=300)
    features[:, NAMES.index("count_depthwise")] = random.normal(size=300)
    labels = features[:, NAMES.index("macs")] + 1.5 * sign * features[:, NAMES.index("count_depthwise")]
    return Known.of(name, features, labels.astype(np.float64))


def test_what_is_alike_everywhere_is_chosen() -> None:
    spaces = [family("a", 1, 0), family("b", -1, 1), family("c", 1, 2), family("d", -1, 3)]
    found = choose(spaces, 60, no_progress)
    assert found
    assert {name.removeprefix("log ") for panel in found for name in panel} == {"macs"}


def test_the_same_is_chosen_again() -> None:
    spaces = [family("a", 1, 0), family("b", 1, 1)]
    assert choose(spaces, 20, no_progress) == choose(spaces, 20, no_progress)


def test_one_family_says_nothing_of_others() -> None:
    with pytest.raises(BuildError, match="only one"):
        choose([family("a", 1, 0), family("a", 1, 1)], 1, no_progress)


def test_a_line_is_a_ridge_regression_at_the_scale_of_least_squares() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(200, len(NAMES))).astype(np.float32)
    panel = ("macs", "paths", "log width")
    targets = features[:, NAMES.index("macs")] + random.normal(size=200)
    targets -= targets.mean()
    found = lines.fit(panel, features, targets, np.zeros(200, np.int64)).of(features)
    values = lines.panel_values(panel, features)
    standard = (values - values.mean(0)) / values.std(0)
    expected = Ridge(alpha=200 * (0.03 + 3 / 200)).fit(standard, targets).predict(standard)
    assert np.corrcoef(found, expected)[0, 1] == pytest.approx(1)
    assert (found @ targets) / (found @ found) == pytest.approx(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "rows"
    counts = {"nasbench101": 5, "nasbench201": 60, "natsbench_size": 40, "nasbench_macro": 50}
    tiny_folder.make(path, counts)
    return str(path)


def test_the_choice_never_sees_the_tested_family(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def noted(spaces: list[Known], *others: object) -> list[lines.Panel]:
        seen.append(sorted(space.family for space in spaces))
        return choose(spaces, *others)

    monkeypatch.setattr(panels, "choose", noted)
    found = measure_blind(folder, BUDGET, no_progress)
    assert seen == [
        ["nasbench201", "nasbench201", "nasbench_macro"],
        ["nasbench101", "nasbench_macro"],
        ["nasbench101", "nasbench201", "nasbench201"],
    ]
    assert [row.family for row in found["leave-one-family-out"] if not row.space.startswith("all")] == [
        *("nasbench101", "nasbench201", "nasbench201", "nasbench_macro")
    ]
    assert {row.family for row in found["zero-shot"]} == {"nasbench201"}


def test_results_stand_beside_those_of_evaluate(folder: str, tmp_path) -> None:
    options = ["--panels", "2", "--rows", "30", "--seeds", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, ["blind", folder, *options])
    assert done.exit_code == 0, done.output
    for protocol in ("zero-shot", "leave-one-family-out"):
        about, rows = evaluate.read(tmp_path / protocol / "features-blind.json")
        assert about["predictor"] == "features-blind"
        assert rows
