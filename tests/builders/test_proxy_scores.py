"""The builder step that adds zero-cost proxies to the metrics of rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_folder import make

from builders import manifest, proxies
from builders.labels import no_progress
from builders.proxies import NOISE, Scoring, add_scores
from builders.row_groups import row_groups
from builders.verify import verify
from onnx_bench_dataset.errors import BuildError, UnknownNameError
from onnx_bench_dataset.loading import load_onnx
from onnx_bench_dataset.proxies import scores

SPACE, OTHER = "natsbench_size", "nasbench_macro"
ROWS, SCORED = 10, 4
WANTED = Scoring(("synflow", "naswot"), limit=SCORED, batch=3, seed=2)


def rows_of(folder: Path, space: str = SPACE) -> list[dict]:
    return [
        row for path in sorted((folder / "data" / space).iterdir()) for row in pq.read_table(path).to_pylist()
    ]


def scored(row: dict) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in row["metrics"] if metric["dataset"] == NOISE}


def run(folder: Path, wanted: Scoring = WANTED, spaces: tuple[str, ...] = (SPACE,)) -> str:
    (outcome,) = add_scores(folder, spaces, wanted, workers=1, progress=no_progress)
    return outcome.reason


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "onnx-bench"
    make(folder, {SPACE: ROWS, OTHER: 3})
    return folder


@pytest.fixture(scope="module")
def folder(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored") / "onnx-bench"
    make(folder, {SPACE: ROWS, OTHER: 3})
    assert run(folder) == "built"
    return folder


def test_scores_are_those_of_the_graphs(folder: Path) -> None:
    with_scores = [row for row in rows_of(folder) if scored(row)]
    assert len(with_scores) == SCORED
    row = with_scores[0]
    assert scored(row) == scores(load_onnx(row), WANTED.names, batch=3, seed=2)
    metric = next(metric for metric in row["metrics"] if metric["name"] == "naswot")
    assert {**metric, "value": 0} == {
        "dataset": "noise",
        "split": "batch of 3",
        "name": "naswot",
        "epochs": 0,
        "seeds": 1,
        "value": 0,
    }


def test_all_else_stays(before: Path, folder: Path) -> None:
    for old, new in zip(rows_of(before), rows_of(folder), strict=True):
        assert new["metrics"][: len(old["metrics"])] == old["metrics"]
        assert {**new, "metrics": 0} == {**old, "metrics": 0}
    assert rows_of(before, OTHER) == rows_of(folder, OTHER)
    assert any(note == WANTED.note(SCORED) for note in manifest.read(folder)[SPACE].notes)
    assert all(report.ok for report in verify(folder, 1, no_progress, rows=2).values())


def test_the_same_again_changes_nothing_and_other_seeds_replace(folder: Path) -> None:
    assert run(folder) == "unchanged"
    first = [scored(row) for row in rows_of(folder)]
    assert run(folder, Scoring(("naswot",), limit=SCORED, batch=3, seed=5)) == "built"
    for old, new in zip(first, [scored(row) for row in rows_of(folder)], strict=True):
        assert old.keys() == new.keys()
        if old:
            assert old["synflow"] == new["synflow"]
            assert old["naswot"] != new["naswot"]
    notes = manifest.read(folder)[SPACE].notes
    assert sum(note.startswith("zero-cost proxies") for note in notes) == 1


def test_what_an_interrupted_run_scored_is_not_scored_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = list(row_groups(folder, SPACE, manifest.read(folder)[SPACE], SCORED))
    (chunk, *_) = proxies._chunks(groups, folder.parent, WANTED)
    found = proxies._score(WANTED, chunk)
    monkeypatch.setattr(proxies, "_scores_of", None)  # calling it would fail
    assert proxies._score(WANTED, chunk) == found


def test_what_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(BuildError, match="no rows of nasbench301"):
        run(folder, spaces=("nasbench301",))
    with pytest.raises(UnknownNameError, match="there is no proxy 'nas'"):
        run(folder, Scoring(("nas",)))
