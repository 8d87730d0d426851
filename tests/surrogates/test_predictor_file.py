"""A predictor's file is read whole and unaltered, by the version that wrote it, or not at all."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from onnx_bench_dataset.errors import PredictorError, UnknownNameError
from onnx_bench_dataset.surrogates import load, new, predictor_file
from onnx_bench_dataset.surrogates.predictor import Predictor
from onnx_bench_dataset.surrogates.registry import PREDICTORS, find

MEMBERS = {"a.npy": bytes(range(256)), "b.txt": b"words " * 50}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "predictor"
    predictor_file.write(path, "params", {"number": 1, "list": [1.5, "x"]}, MEMBERS)
    return path


def rewritten(path: Path, **changes: object) -> None:
    """Change what the head says; the rest stays sound."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    head = {**json.loads(contents.pop("predictor.json")), **changes}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"predictor.json": json.dumps(head).encode(), **contents}.items():
            archive.writestr(name, content)


def test_what_is_written_is_read(path: Path) -> None:
    assert predictor_file.read(path) == ("params", {"number": 1, "list": [1.5, "x"]}, MEMBERS)


def test_equal_predictors_have_equal_files(path: Path, tmp_path: Path) -> None:
    predictor_file.write(tmp_path / "again", "params", {"number": 1, "list": [1.5, "x"]}, MEMBERS)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_byte_that_is_altered_changes_nothing_unseen(path: Path) -> None:
    """Some bytes of an archive, dates for one, say nothing; whichever it is, no other contents are read."""
    expected = predictor_file.read(path)
    sound = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for place in range(len(sound)):
        altered = bytearray(sound)
        altered[place] ^= generator.randrange(1, 256)
        path.write_bytes(altered)
        try:
            assert predictor_file.read(path) == expected
        except PredictorError:
            refused += 1
    assert refused > len(sound) / 2


def test_a_file_that_is_cut_is_refused(path: Path) -> None:
    sound = path.read_bytes()
    for length in range(0, len(sound), 7):
        path.write_bytes(sound[:length])
        with pytest.raises(PredictorError, match="no sound file of a predictor"):
            predictor_file.read(path)


def test_altered_contents_are_refused(path: Path) -> None:
    for changes in ({"sha256": {}}, {"sha256": {"a.npy": "0" * 64}}, {"sha256": None}):
        rewritten(path, **changes)
        with pytest.raises(PredictorError, match="its contents are not those that were written"):
            predictor_file.read(path)


def test_another_version_is_said(path: Path) -> None:
    rewritten(path, format=predictor_file.FORMAT + 1)
    with pytest.raises(PredictorError, match="written by another version of onnx-bench"):
        predictor_file.read(path)


@pytest.mark.parametrize("changes", [{"predictor": None}, {"settings": [1]}, {"predictor": 3}])
def test_a_head_that_says_nothing_is_refused(path: Path, changes: dict[str, object]) -> None:
    rewritten(path, **changes)
    with pytest.raises(PredictorError, match="does not say which predictor"):
        predictor_file.read(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"nan", b"[" * 100_000, b"\xff\xfe", b"\0" * 100])
def test_a_head_that_is_no_json_is_refused(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("predictor.json", content)
    with pytest.raises(PredictorError):
        predictor_file.read(path)


def test_what_is_no_file_of_a_predictor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="there is no file"):
        load(tmp_path / "nothing")
    with pytest.raises(PredictorError):
        load(tmp_path)
    for content in (b"", b"PK", b"words", bytes(1000)):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(PredictorError, match="no sound file of a predictor"):
            load(tmp_path / "other")


def test_a_bomb_is_not_unpacked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_file, "MAX_BYTES", 1_000_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("predictor.json", b"{}")
        archive.writestr("zeros", bytes(2_000_000))
    assert path.stat().st_size < 10_000
    with pytest.raises(PredictorError, match="more than 1,000,000 bytes"):
        predictor_file.read(path)
    # the same, with a directory that states a smaller size
    content = path.read_bytes().replace((2_000_000).to_bytes(4, "little"), (20).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(PredictorError):
        predictor_file.read(path)


def test_too_much_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_file, "MAX_BYTES", 100)
    with pytest.raises(PredictorError, match="would hold 556 bytes, of 100 at most"):
        predictor_file.write(tmp_path / "large", "params", {}, MEMBERS)
    assert list(tmp_path.iterdir()) == []


def test_what_fails_to_be_written_leaves_the_old_file(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(TypeError):
        predictor_file.write(path, "params", {"number": object()}, MEMBERS)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["predictor"]


class Trap:
    """Leaves a mark when it is unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return spring, ()


def spring() -> None:
    Trap.sprung = True


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    predictor = fitted()
    settings, members = predictor.state()
    array = np.empty(1, dtype=object)
    array[0] = Trap()
    for name in members:
        content = pickled(array) if name.endswith(".npy") else pickle.dumps(Trap())
        predictor_file.write(tmp_path / "trap", "features", settings, {**members, name: content})
        with pytest.raises(PredictorError, match="no sound file of the predictor features"):
            load(tmp_path / "trap")
    assert not Trap.sprung
    pickle.loads(pickle.dumps(Trap()))
    assert Trap.sprung  # it would have been


def pickled(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@cache
def fitted() -> Predictor:
    operations = ["Relu", "Conv", "Tanh"]
    texts = [
        "\n".join(
            [
                "onnx-net 1\nopset 18\ninput [1,8,8,8]\nRelu $0",
                *["Conv 1 w[8,8,3,3] pads=[1,1,1,1]" if op == "Conv" else f"{op} 1" for op in operations * n],
                "output 1",
            ]
        )
        for n in range(1, 40)
    ]
    return new("features").fit(pa.table({"text": texts, "accuracy": [float(n) for n in range(1, 40)]}))


def test_members_that_are_missing_or_of_another_shape_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    settings, members = fitted().state()
    for name in members:
        less = {key: content for key, content in members.items() if key != name}
        for changed in (less, {**less, name: pickled(np.zeros((2, 3)))}):
            predictor_file.write(tmp_path / "less", "features", settings, changed)
            with pytest.raises(PredictorError, match="no sound file of the predictor features"):
                load(tmp_path / "less")
    for key in ("features", "panels"):
        predictor_file.write(tmp_path / "less", "features", {**settings, key: None}, members)
        with pytest.raises(PredictorError):
            load(tmp_path / "less")


def test_an_unknown_predictor_is_said(tmp_path: Path) -> None:
    predictor_file.write(tmp_path / "other", "of tomorrow", {}, {})
    with pytest.raises(
        UnknownNameError, match="there is no predictor 'of tomorrow'; there are random, params"
    ):
        load(tmp_path / "other")
    with pytest.raises(PredictorError, match="the predictor params does not take these options"):
        new("params", depth=3)


def test_the_registry_names_predictors_as_they_name_themselves() -> None:
    for name in ("random", "params", "macs", "depth", "features"):
        assert name in PREDICTORS
        assert find(name).name == name
        assert find(name).summary
