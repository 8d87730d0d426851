"""The predictor on features of graphs: what it learns, what it leaves aside, and how sure it says it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, spearmanr

from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import LoadError, PredictorError, TextError
from onnx_bench_dataset.surrogates import lines, load, new
from onnx_bench_dataset.surrogates.features import NAMES, of_texts
from onnx_bench_dataset.surrogates.graph_features import PANELS, GraphFeatures, features_of, normal_scores

SPACE = spaces.get("nasbench201")


def rows_of(cells: list[str]) -> pa.Table:
    texts = [SPACE.network(cell).text for cell in cells]
    made = dict(zip(NAMES, of_texts(texts).T.astype(float), strict=True))
    good = 2 * made["count_convolutions"] + made["count_pointwise"] - made["count_averages"]
    return pa.table({"text": texts, "accuracy": 50 + good / 10})  # of operations that the output depends on


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return rows_of(SPACE.sample(90, 0))


@pytest.fixture(scope="module")
def fitted(rows: pa.Table) -> GraphFeatures:
    predictor = new("features").fit(rows, seed=1)
    assert isinstance(predictor, GraphFeatures)
    return predictor


def features(table: pa.Table) -> NDArray[np.float32]:
    return features_of(table["text"].to_pylist())


def grouped(table: pa.Table, *groups: int) -> pa.Table:
    return table.append_column("group", [list(groups)])


def test_it_learns_an_order_that_features_tell(fitted: GraphFeatures, rows: pa.Table) -> None:
    others = rows_of(SPACE.sample(150, 1)[90:])
    found = fitted.predict(others)
    assert np.isfinite(found).all()
    assert spearmanr(found, others["accuracy"].to_numpy()).statistic > 0.9
    assert spearmanr(fitted.predict(rows), rows["accuracy"].to_numpy()).statistic > 0.95


def test_scores_are_on_the_scale_of_normal_scores(fitted: GraphFeatures, rows: pa.Table) -> None:
    found = fitted.predict(rows)
    assert abs(found.mean()) < 0.1
    assert 0.8 < found.std() < 1.1


def test_a_score_depends_on_its_row_alone(fitted: GraphFeatures, rows: pa.Table) -> None:
    found = fitted.predict(rows)
    assert np.allclose(fitted.predict(rows.slice(7, 1)), found[7])
    assert np.allclose(fitted.predict(rows.take(list(range(90))[::-1])), found[::-1])
    assert fitted.predict(rows.slice(0, 0)).shape == (0,)


def test_a_seed_makes_the_same_scores_to_the_bit(fitted: GraphFeatures, rows: pa.Table) -> None:
    assert np.array_equal(new("features").fit(rows, seed=1).predict(rows), fitted.predict(rows))


def test_a_file_holds_all_of_it(fitted: GraphFeatures, rows: pa.Table, tmp_path: Path) -> None:
    fitted.save(tmp_path / "one")
    fitted.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    again = load(tmp_path / "one")
    others = rows_of(SPACE.sample(20, 5))
    assert np.allclose(again.predict(others), fitted.predict(others), atol=1e-4)
    again.save(tmp_path / "three")
    assert np.array_equal(load(tmp_path / "three").predict(others), again.predict(others))


def test_labels_count_by_their_rank_in_their_group(rows: pa.Table) -> None:
    groups = [number % 2 for number in range(90)]
    labels = rows["accuracy"].to_numpy()
    shifted = np.where(np.array(groups) == 1, np.exp(labels / 20) - 900, labels)
    first = new("features").fit(grouped(rows, *groups)).predict(rows)
    second = new("features").fit(grouped(rows.set_column(1, "accuracy", [shifted]), *groups)).predict(rows)
    assert np.array_equal(first, second)


def test_a_handful_of_rows_does_not_outweigh_many() -> None:
    """Five rows whose labels say the opposite of 400 others."""
    generator = np.random.default_rng(0)
    table = generator.normal(size=(405, len(NAMES))).astype(np.float32)
    place = NAMES.index("macs")
    groups = np.repeat([0, 1], [400, 5])
    targets = np.where(groups == 0, 1.0, -1.0) * table[:, place]
    targets -= np.where(groups == 0, targets[:400].mean(), targets[400:].mean())
    weight = lines.fit(("macs", "layers"), table, targets, groups).weights[0]
    assert 0.8 < weight < 1


def test_groups_of_many_rows_count_alike() -> None:
    generator = np.random.default_rng(0)
    table = generator.normal(size=(4_200, len(NAMES))).astype(np.float32)
    groups = np.repeat([0, 1], [4_000, 200])
    slopes = np.where(groups == 0, 1.0, 0.0)
    values = table[:, NAMES.index("macs")].astype(np.float64)
    targets = lines.centered(slopes * values, groups)
    assert lines.fit(("macs", "layers"), table, targets, groups).weights[0] == pytest.approx(0.5, abs=0.05)


def test_groups_without_an_order_are_left_aside(fitted: GraphFeatures, rows: pa.Table) -> None:
    strange = rows_of(SPACE.sample(10, 9))
    strange = strange.set_column(1, "accuracy", [[50.0] * 9 + [99.0]])
    table = pa.concat_tables([grouped(rows, *[5] * 90), grouped(strange, *[7] * 9, 8)])
    assert np.array_equal(new("features").fit(table, seed=1).predict(rows), fitted.predict(rows))


def test_normal_scores() -> None:
    labels = np.array([3.0, 1.0, 2.0, 50.0, 50.0, 9.0, 7.0, 7.0])
    groups = np.array([4, 4, 4, 1, 1, 2, 3, 3])
    found = normal_scores(labels, groups)
    assert np.allclose(found[:3], norm.ppf([5 / 6, 1 / 6, 3 / 6]))
    assert np.isnan(found[3:]).all()
    tied = normal_scores(np.array([1.0, 2.0, 2.0, 3.0]), np.zeros(4, np.int64))
    assert tied[1] == tied[2]
    assert tied.sum() == pytest.approx(0)


def test_what_was_trained_on_is_alike_and_what_is_far_is_not(fitted: GraphFeatures, rows: pa.Table) -> None:
    near = fitted.explain(features(rows)).unlikeness
    far = fitted.explain(features(rows) * 30 + 500).unlikeness
    assert ((near >= 0) & (near <= 1)).all()
    assert np.median(near) < 0.1
    assert (far > 0.99).all()


def test_far_from_what_was_trained_on_the_lines_go_on(fitted: GraphFeatures, rows: pa.Table) -> None:
    learned = fitted._learned
    assert learned is not None
    far = features(rows) * 30 + 500
    straight = np.mean([line.of(far) for line in learned.lines], axis=0)
    assert np.allclose(fitted.score_features(far), straight, rtol=0.02)


def test_panels_are_of_features() -> None:
    for panel in PANELS:
        assert {name.removeprefix("log ") for name in panel} <= set(NAMES)


def test_features_are_remembered_and_come_in_the_order_of_texts(rows: pa.Table) -> None:
    texts = rows["text"].to_pylist()[:9]
    expected = of_texts(texts)
    for order in ([8, 1, 1, 0], list(range(9)), []):
        assert np.array_equal(features_of([texts[number] for number in order]), expected[order])


def test_networks_without_layers_are_scored(fitted: GraphFeatures, rows: pa.Table) -> None:
    dead = "onnx-net 1\nopset 18\ninput [1,8]\noutput $0"
    assert np.isfinite(fitted.predict(pa.table({"text": [dead]}))).all()
    table = pa.concat_tables([rows.slice(0, 20), pa.table({"text": [dead], "accuracy": [10.0]})])
    assert np.isfinite(new("features").fit(table).predict(table)).all()


def test_two_rows_are_enough(rows: pa.Table) -> None:
    ordered = rows.sort_by("accuracy").take([0, 89])
    assert np.isfinite(new("features").fit(ordered).predict(rows)).all()


def test_rows_that_are_all_the_same_network(rows: pa.Table) -> None:
    table = pa.table({"text": rows["text"].to_pylist()[:1] * 30, "accuracy": np.arange(30.0)})
    found = new("features").fit(table).predict(table)
    assert np.isfinite(found).all()
    assert np.ptp(found) < 1e-9


def test_what_cannot_be_learned_from_is_said(rows: pa.Table, fitted: GraphFeatures) -> None:
    with pytest.raises(PredictorError, match="all labels are equal"):
        new("features").fit(rows.set_column(1, "accuracy", [[90.0] * 90]))
    with pytest.raises(PredictorError, match="90 of 90 rows have no label"):
        new("features").fit(rows.set_column(1, "accuracy", [[float("nan")] * 90]))
    with pytest.raises(PredictorError, match="90 of 90 rows have no label"):
        new("features").fit(rows.set_column(1, "accuracy", [pa.nulls(90, pa.float64())]))
    with pytest.raises(PredictorError, match="nothing to learn from"):
        new("features").fit(rows.drop_columns("accuracy"))
    with pytest.raises(LoadError, match="no column text"):
        new("features").fit(rows.drop_columns("text"))
    with pytest.raises(LoadError, match="no column text"):
        fitted.predict(rows.drop_columns("text"))
    with pytest.raises(TextError):
        fitted.predict(pa.table({"text": ["onnx-net 1"]}))
    for use in (lambda new: new.predict(rows), lambda new: new.state(), lambda new: new.save("nowhere")):
        with pytest.raises(PredictorError, match="the predictor features has learned nothing yet"):
            use(new("features"))


def test_a_file_of_other_features_is_refused(fitted: GraphFeatures) -> None:
    told, members = fitted.state()
    for change in ({"features": [*NAMES[1:], NAMES[0]]}, {"panels": []}):
        with pytest.raises(PredictorError, match="reads other features than this version makes"):
            GraphFeatures.from_state({**told, **change}, members)


def test_an_absent_extra_is_named() -> None:
    program = """
import sys
sys.modules["lightgbm"] = None
from onnx_bench_dataset.surrogates.registry import new
new("features")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert "the predictor features needs lightgbm: pip install 'onnx-bench-dataset[predict]'" in done.stderr
