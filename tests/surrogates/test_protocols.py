"""Protocols and figures: which rows train and test, what is seen, and what is written and shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import kendalltau
from typer.testing import CliRunner

from builders import results
from builders.__main__ import app as builders_app
from onnx_bench_dataset import cli, spaces
from onnx_bench_dataset.cli import evaluating
from onnx_bench_dataset.errors import BuildError, PredictorError, UnknownNameError
from onnx_bench_dataset.surrogates import evaluate, new, protocols
from onnx_bench_dataset.surrogates.evaluate import figures
from onnx_bench_dataset.surrogates.predictor import Predictor
from onnx_bench_dataset.surrogates.protocols import Data, tasks
from onnx_bench_dataset.surrogates.registry import PREDICTORS
from tests.builders import tiny_folder

COUNTS = {"nasbench101": 5, "nasbench201": 60, "natsbench_size": 40, "nasbench_macro": 50}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "rows"
    tiny_folder.make(path, COUNTS)
    return str(path)


@pytest.fixture
def data(folder: str) -> Data:
    return Data(folder, ["text", "num_params"])


def test_spaces_of_a_family_are_together(data: Data) -> None:
    assert data.families() == {
        "nasbench101": ["nasbench101"],
        "nasbench201": ["nasbench201", "natsbench_size"],
        "nasbench_macro": ["nasbench_macro"],
    }


def test_rows_that_nobody_learns_from_are_not_read(data: Data) -> None:
    for learned, alone in zip(
        tasks("leave-one-family-out", data, 0),
        tasks("leave-one-family-out", replace(data, learns=False), 0),
        strict=True,
    ):
        assert alone.train.column_names == ["accuracy", "group"]
        assert alone.train.equals(learned.train.select(["accuracy", "group"]))
        assert alone.test.equals(learned.test)


def test_a_family_that_is_left_out_trains_nothing(data: Data) -> None:
    found = {task.family: task for task in tasks("leave-one-family-out", data, 0)}
    assert found.keys() == data.families().keys()
    task = found["nasbench201"]
    assert set(task.test["space"].to_pylist()) == {"nasbench201", "natsbench_size"}
    assert len(task.train) == COUNTS["nasbench101"] + COUNTS["nasbench_macro"]
    assert set(task.train["text"].to_pylist()).isdisjoint(task.test["text"].to_pylist())
    assert set(task.train["group"].to_pylist()) == {0, 1}


def test_what_trains_says_nothing_of_its_space(data: Data) -> None:
    for task in tasks("leave-one-family-out", data, 0):
        assert task.train.column_names == ["text", "num_params", "accuracy", "group"]


def test_zero_shot_trains_on_one_space_and_tests_on_all_of_the_other(data: Data) -> None:
    found = list(tasks("zero-shot", data, 0))
    assert [task.name for task in found] == [
        f"nasbench101 ({count}) to nasbench201" for count in ("50", "200", "1,000", "5,000", "50,000")
    ]
    assert all(len(task.test) == COUNTS["nasbench201"] for task in found)


def test_pairs_are_those_of_different_families(data: Data) -> None:
    names = {task.name.replace(" (5)", "").partition(" to ")[::2] for task in tasks("pairs", data, 0)}
    assert ("nasbench101", "natsbench_size") in names
    assert not any({"nasbench201", "natsbench_size"} == {source.split(" (")[0], to} for source, to in names)
    assert len(names) == 1 * 3 + 2 * 2 + 1 * 3


def test_isomorphic_networks_are_never_on_both_sides(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "WITHIN_SHARES", {"nasbench201": (0.5,)})
    (task,) = tasks("within-space", data, 0)
    assert len(task.train) == 30
    assert set(task.train["text"].to_pylist()).isdisjoint(task.test["text"].to_pylist())
    known = len(set(data.rows("nasbench201")["graph_hash"].to_pylist()))
    seen = len(set(task.train["text"].to_pylist()))
    assert len(set(task.test["text"].to_pylist())) == known - seen


def test_published_tables_test_copies_of_what_trains(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "WITHIN_SHARES", {"nasbench201": (0.5,)})
    (task,) = tasks("within-space-published", data, 0)
    assert len(task.test) == COUNTS["nasbench201"] - len(task.train) == 30


def test_the_command_names_every_protocol() -> None:
    assert tuple(protocols.PROTOCOLS) == evaluating._PROTOCOLS


def test_a_seed_draws_the_same_rows_and_another_others(data: Data) -> None:
    first, again, other = (next(tasks("pairs", data, seed)).train for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_few_rows_of_the_tested_space_are_a_group_and_do_not_test(data: Data) -> None:
    found = {task.name: task for task in tasks("few-shot", data, 0)}
    none, ten = (found[f"others and {count} rows to nasbench_macro"] for count in (0, 10))
    assert len(ten.train) == len(none.train) + 10
    assert set(ten.train["group"].to_pylist()) == {0, 1, 2, 3}
    assert len(ten.test) == len(none.test) - 10


def test_published_shares_are_85_424_and_4236_cells_and_156_and_1562_networks() -> None:
    counts = {"nasbench101": 423_624, "nasbench201": 15_625}
    found = [round(s * counts[space]) for space, shares in protocols.WITHIN_SHARES.items() for s in shares]
    assert found == [85, 424, 4_236, 156, 1_562]


def test_labels_of_a_surrogate_never_train(tmp_path: Path) -> None:
    counts = {"nasbench201": 20, "nasbench_macro": 20}
    records = {}
    tmp_path.mkdir(exist_ok=True)
    for space, count in counts.items():
        rows = tiny_folder.rows_of(space, count)
        if space == "nasbench_macro":
            rows = [replace(row, label="surrogate") for row in rows]
        records[space] = tiny_folder.add_space(tmp_path, space, rows)
    tiny_folder.finish(tmp_path, records)
    (pair,) = tasks("pairs", Data(str(tmp_path), ["text"]), 0)
    assert pair.name.startswith("nasbench201")
    (row,) = evaluate.evaluate(lambda: new("ngram-ridge"), "pairs", str(tmp_path), seeds=1)
    assert row.label == "surrogate"


def test_unknown_protocols_and_spaces_are_named(data: Data, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="leave-one-family-out"):
        next(tasks("zeroshot", data, 0))
    with pytest.raises(UnknownNameError, match="no rows of nasbench301"):
        data.rows("nasbench301")
    tiny_folder.make(tmp_path / "one", {"nasbench201": 10})
    with pytest.raises(PredictorError, match="nothing can be carried over"):
        next(tasks("pairs", Data(str(tmp_path / "one"), ["text"]), 0))


# Figures.


@given(st.lists(st.tuples(st.integers(-5, 5), st.floats(10, 95, width=32)), min_size=2, max_size=60))
def test_figures_are_those_of_their_definitions(rows: list[tuple[int, float]]) -> None:
    scores, accuracies = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    found = figures(scores, accuracies)
    if np.ptp(scores) > 0 and np.ptp(accuracies) > 0:
        assert found.tau == pytest.approx(kendalltau(scores, accuracies).statistic)
    else:
        assert found.tau == found.rho == 0
    best = scores == scores.max()
    assert found.regret >= accuracies.max() - accuracies[best].max() - 1e-9
    assert found.regret <= accuracies.max() - accuracies[best].min() + 1e-9


def test_a_perfect_order_costs_nothing_and_its_opposite_all() -> None:
    accuracies = np.linspace(10, 90, 500)
    assert figures(accuracies, accuracies) == pytest.approx((1, 1, 0, 1))
    assert figures(-accuracies, accuracies) == pytest.approx((-1, -1, 80 * 495 / 499, 0))


def test_equal_scores_win_nothing_by_the_order_of_the_file() -> None:
    accuracies = np.linspace(90, 10, 1_000)
    assert figures(np.zeros(1_000), accuracies).precision < 0.2


class Truth(Predictor):
    """Knows every accuracy; says nothing of spaces."""

    name, columns, learns = "truth", ("text",), True

    def __init__(self, known: dict[str, float]) -> None:
        self.known, self.seen = known, []  # type: ignore[var-annotated]

    def learn(self, networks, accuracies, groups, seed):  # type: ignore[no-untyped-def]
        self.seen.append((networks.column_names, len(accuracies)))

    def score(self, networks: pa.Table) -> np.ndarray:  # type: ignore[type-arg]
        assert networks.column_names == ["text"]
        return np.array([self.known[text] for text in networks["text"].to_pylist()])

    def state(self):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    @classmethod
    def from_state(cls, settings, members):  # type: ignore[no-untyped-def]
        raise NotImplementedError


def test_one_who_knows_everything_has_tau_1_on_every_space(folder: str, data: Data) -> None:
    macro = data.rows("nasbench_macro")
    known = dict(zip(macro["text"].to_pylist(), macro["accuracy"].to_pylist(), strict=True))
    rows = evaluate.evaluate(
        lambda: Truth(known), "leave-one-family-out", folder, seeds=2, only=["nasbench_macro"]
    )
    (row,) = rows
    assert row.mean == pytest.approx((1, 1, 0, 1))
    assert row.deviation == pytest.approx((0, 0, 0, 0))
    assert row.test_rows == COUNTS["nasbench_macro"]


def test_a_family_of_two_spaces_has_figures_of_each_and_of_both(folder: str) -> None:
    rows = evaluate.evaluate(lambda: new("params"), "leave-one-family-out", folder, only=["nasbench201"])
    assert [row.space for row in rows] == ["nasbench201", "natsbench_size", "all of the family"]
    assert rows[2].test_rows == rows[0].test_rows + rows[1].test_rows
    for row in rows:
        assert row.low.tau <= row.mean.tau <= row.high.tau
    assert len(rows[0].points) == COUNTS["nasbench201"]


# Predictors that learn little or nothing.


def test_graphs_are_shown_without_what_their_files_say_of_their_origin() -> None:
    from onnx_bench_dataset.surrogates.visible import networks

    model = spaces.get("nasbench201").model(spaces.get("nasbench201").sample(1, 0)[0])
    model.metadata_props.add(key="space", value="nasbench201")
    table = pa.table({"onnx": pa.array([model.SerializeToString()], pa.large_binary())})
    (content,) = networks(table, ["onnx"])["onnx"].to_pylist()
    bare = onnx.load_model_from_string(content)
    assert not bare.metadata_props
    assert bare.graph == model.graph


@pytest.mark.parametrize("name", ["nearest-text", "ngram-ridge"])
def test_texts_that_were_learned_are_ranked_and_kept_in_a_file(name: str, data: Data, tmp_path: Path) -> None:
    from onnx_bench_dataset.surrogates import load

    rows = data.rows("nasbench_macro")
    predictor = new(name)
    with pytest.raises(PredictorError, match="call fit first"):
        predictor.predict(rows)
    scores = predictor.fit(rows).predict(rows)
    # labels follow no rule here: of five neighbours only one, the text itself, tells
    assert kendalltau(scores, rows["accuracy"].to_numpy()).statistic > 0.3
    predictor.save(tmp_path / "kept")
    assert load(tmp_path / "kept").predict(rows) == pytest.approx(scores, abs=1e-9)


def test_a_proxy_is_a_predictor(folder: str) -> None:
    from onnx_bench_dataset.proxies import scores

    data = Data(folder, ["onnx"])
    rows = data.rows("nasbench201").slice(0, 3)
    found = new("l2_norm").predict(rows)
    for score, content in zip(found, rows["onnx"].to_pylist(), strict=True):
        model = onnx.load_model_from_string(content)
        del model.metadata_props[:]
        assert score == pytest.approx(scores(model, ["l2_norm"], batch=16)["l2_norm"])


def test_chance_ranks_by_its_seed(data: Data) -> None:
    rows = data.rows("nasbench201")
    first, again, other = (new("random").fit(rows, seed).predict(rows) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


# The commands.


def test_the_command_shows_a_table_and_writes_results(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluating, "_console", Console(width=160))
    for name in ("params", "ngram-ridge"):
        done = CliRunner().invoke(
            cli.app,
            ["evaluate", name, "--protocol", "leave-one-family-out", "--data", folder, "--seeds", "2"],
        )
        assert done.exit_code == 0, done.output
        assert "all but nasbench_macro" in done.output
    about, rows = evaluate.read(tmp_path / "results/leave-one-family-out/params.json")
    assert about["predictor"] == "params"
    assert rows == [
        row._replace(seconds=rows[number].seconds, **_rounded(row))
        for number, row in enumerate(
            evaluate.evaluate(lambda: new("params"), "leave-one-family-out", folder, seeds=2)
        )
    ]

    done = CliRunner().invoke(builders_app, ["results"])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "RESULTS.md").read_text()
    assert f"| `params` | {rows[0].mean.tau:.3f} ±" in page
    assert "ONNX-Net, as published (arXiv 2510.04938; the model is selected on the tested space)" in page
    assert (tmp_path / "docs/images/leave-one-family-out.png").read_bytes()[:4] == b"\x89PNG"


def test_protocols_of_many_tasks_are_shown_as_a_table_each(folder: str, tmp_path: Path) -> None:
    for protocol in ("pairs", "few-shot"):
        rows = evaluate.evaluate(lambda: new("params"), protocol, folder, seeds=1, only=["to nasbench201"])
        evaluate.write(tmp_path / f"results/{protocol}/params.json", "params", protocol, rows, {})
    page = results.page(tmp_path / "results")
    assert "| ↓ trained on, → tested on | nasbench201 |\n| --- | --: |\n| nasbench101 | " in page
    assert "| ↓ tested on, → labels | 0 | 5 | 10 | 20 | 50 |\n| --- |" + " --: |" * 5 in page
    assert f"| nasbench201 | {rows[0].mean.tau:.3f} ± 0.000 |" in page
    assert page.count("τ of `params`, ") == 2


def _rounded(row: evaluate.Measured) -> dict[str, evaluate.Figures]:
    return {
        name: evaluate.Figures(*[round(number, 4) for number in getattr(row, name)])
        for name in ("mean", "deviation", "low", "high")
    }


def test_options_reach_the_predictor_and_mistakes_are_said(folder: str) -> None:
    def output(*arguments: str) -> str:
        done = CliRunner().invoke(cli.app, ["evaluate", *arguments, "--data", folder])
        assert done.exit_code == 1
        return done.output

    assert "there is no predictor" in output("parms", "--protocol", "pairs")
    assert "there is no protocol" in output("params", "--protocol", "pair")
    assert "write it as key=value" in output("params", "--protocol", "pairs", "--option", "epochs")
    assert "does not take these options" in output("params", "--protocol", "pairs", "--option", "epochs=3")
    assert "has one of the words" in output("params", "--protocol", "pairs", "--only", "nothing")


def test_every_predictor_of_the_registry_is_there() -> None:
    from onnx_bench_dataset.surrogates.registry import find

    for name in PREDICTORS:
        assert issubclass(find(name), Predictor)
        assert new(name).name == name


def test_pages_of_nothing_or_of_broken_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="onnx-bench evaluate"):
        results.page(tmp_path)
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs/broken.json").write_text(json.dumps({"predictor": "x", "results": [{"task": 1}]}))
    with pytest.raises(PredictorError, match="holds no results"):
        results.page(tmp_path)
