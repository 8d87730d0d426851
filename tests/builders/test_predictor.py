"""The default predictor as the builders make it: of which rows, and the same to the last byte."""

import dataclasses

import pytest
import tiny_folder
from threadpoolctl import threadpool_info, threadpool_limits

from builders import predictor
from builders.__main__ import main
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.surrogates.calibrated import CalibratedPredictor

ROWS = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Made-up labels for two families and a space that is only ranked; one row of each is not labelled."""
    path = tmp_path_factory.mktemp("data") / "onnx-bench"
    path.mkdir()
    records = {}
    for space in ("nasbench201", "nasbench_macro", "transnasbench101"):
        rows = tiny_folder.rows_of(space, 80, labelled=79)
        if space == "transnasbench101":
            rows = [dataclasses.replace(row, dataset="taskonomy/class_scene", metrics=()) for row in rows]
        records[space] = tiny_folder.add_space(path, space, rows)
    guessed = [
        dataclasses.replace(row, label="surrogate") for row in tiny_folder.rows_of("natsbench_size", 5)
    ]
    records["natsbench_size"] = tiny_folder.add_space(path, "natsbench_size", guessed)
    tiny_folder.finish(path, records)
    return path


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "default.onnxbench"
    predictor.make(folder, path, ROWS)
    return path


def test_it_says_which_rows_of_which_data_made_it(folder, made):
    said = CalibratedPredictor.load(made).made
    assert said["train"] == {"nasbench201": 64, "nasbench_macro": 64, "transnasbench101": 64}
    assert said["calibrate"] == {"nasbench201": 4, "nasbench_macro": 4}
    assert said["rows"] == 200
    assert said["data"] == predictor.fingerprint(
        {space: predictor.manifest.read(folder)[space] for space in said["train"]}
    )


def test_networks_of_other_data_are_no_known_ones(made):
    ids = CalibratedPredictor.load(made).known.ids
    assert {each.partition("/")[0] for each in ids} == {"nasbench201", "nasbench_macro"}
    assert len(ids) == 128


def test_nothing_is_known_where_too_few_rows_calibrate(made):
    found = CalibratedPredictor.load(made)
    features = found.known.features[:1].astype("float32")
    assert found.predict(features)[0].percentile[1:] == (0, 100)


def test_it_is_the_same_to_the_last_byte_when_it_is_made_again(folder, made, tmp_path):
    with pytest.raises(SystemExit) as done:
        main(["predictor", str(folder), "--rows", str(ROWS), "--out", str(tmp_path / "again.onnxbench")])
    assert done.value.code == 0
    assert (tmp_path / "again.onnxbench").read_bytes() == made.read_bytes()


def test_other_rows_are_other_data(folder):
    records = predictor.manifest.read(folder)
    some = {space: records[space] for space in ("nasbench201", "nasbench_macro")}
    assert predictor.fingerprint(some) != predictor.fingerprint(records)


def test_a_folder_without_trained_labels_of_cifar10_is_refused(tmp_path):
    record = tiny_folder.add_space(tmp_path, "nasbench_macro", tiny_folder.rows_of("nasbench_macro", 10, 0))
    tiny_folder.finish(tmp_path, {"nasbench_macro": record})
    with pytest.raises(BuildError, match="no trained labels of cifar10"):
        predictor.make(tmp_path, tmp_path / "out.onnxbench", ROWS)


def test_it_is_learned_on_one_thread_whatever_there_is(folder, tmp_path, monkeypatch):
    threads = []

    def noted(*others):
        threads.extend(each["num_threads"] for each in threadpool_info())
        return fit(*others)

    fit = CalibratedPredictor.fit
    monkeypatch.setattr(CalibratedPredictor, "fit", noted)
    with threadpool_limits(2):
        predictor.make(folder, tmp_path / "made.onnxbench", ROWS)
    assert set(threads) == {1}
