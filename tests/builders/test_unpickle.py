import bz2
import gzip
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_formats import build, call, frame, frame_of, name, number_type, value, whole, write

from builders import unpickle
from onnx_bench_dataset.errors import SourceError

MEGABYTE = 1 << 20


class Command:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.function, self.arguments


def peak_memory(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        unpickle.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_is_read_back(tmp_path: Path, compress: Callable[[bytes], bytes], protocol: int) -> None:
    data = {
        "200": OrderedDict(a=[1, 2.5, None, True]),
        ("cifar10", 777): {"name": "|none~0|", "seeds": (7, 8)},
    }
    path = write(tmp_path / "file", compress(pickle.dumps(data, protocol=protocol)))
    assert unpickle.load(path) == data


def test_sets_and_bytes_are_read_back(tmp_path: Path) -> None:
    data = [{1, 2}, frozenset("ab"), b"bytes"]
    assert unpickle.load(write(tmp_path / "file", pickle.dumps(data, protocol=4))) == data


@pytest.mark.parametrize(
    "number", [np.float64(0.25), np.float32(0.5), np.int64(-3), np.uint8(7), np.bool_(True)]
)
def test_numbers_of_numpy_become_plain_numbers(tmp_path: Path, number: np.generic) -> None:
    loaded = unpickle.load(write(tmp_path / "file", pickle.dumps([number])))
    assert loaded == [number]
    assert type(loaded[0]) in (float, int, bool)


def test_a_frame_gives_its_columns(tmp_path: Path) -> None:
    columns = {
        "index": np.arange(3, dtype="<i8"),
        "accuracy": np.array([0.1, 0.2, 0.3]),
        "seconds": np.array([4.0, 5.0, 6.0]),
    }
    loaded = unpickle.load_frame(write(tmp_path / "file", gzip.compress(frame(columns))))
    assert list(loaded) == list(columns)
    for key, column in columns.items():
        np.testing.assert_array_equal(loaded[key], column)


def test_the_published_frames_and_lists(published: Path) -> None:
    accuracies = unpickle.load_frame(published / "nasbench101/accuracies.pkl.gz")
    params = unpickle.load_frame(published / "nasbench101/params.pkl.gz")
    assert list(accuracies) == ["index", "accuracy"]
    assert list(params) == ["index", "params", "time=[s]", "time_pure=[s]"]
    assert accuracies["accuracy"].shape == params["params"].shape == (423_624,)
    assert accuracies["accuracy"][0] == pytest.approx(0.920606, abs=1e-6)
    assert params["params"][0] == 8.55553
    hashes = unpickle.load(published / "nasbench101/nb101_hash.txt")
    assert len(hashes) == 7290
    assert hashes[0] == "4ba4240744d5e0b1366265fec2eed553"


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("touch {}",), "system"),
        (eval, ("open('{}', 'w')",), "eval"),
        (exec, ("open('{}', 'w')",), "exec"),
        (open, ("{}", "w"), ".open"),
        (getattr, ("{}", "strip"), "getattr"),
        (np.load, ("{}",), ".load"),
        (bytearray, (b"{}",), "bytearray"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_leaves_no_trace(
    tmp_path: Path, function: Callable[..., Any], arguments: tuple[Any, ...], named: str, protocol: int
) -> None:
    trace = tmp_path / "trace"
    filled = [part.format(trace) if isinstance(part, str) else part for part in arguments]
    path = write(tmp_path / "file", pickle.dumps([Command(function, *filled)], protocol=protocol))
    text = refused(path)
    assert named in text
    assert "nothing in it was run" in text
    assert not trace.exists()


def test_a_partial_call_stays_inert(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    partial = call(name("functools", "partial"), name("posix", "system"), value(f"touch {trace}"))
    assert "posix.system" in refused(write(tmp_path / "file", whole(call(partial))))
    marker = name("pandas.core.internals.blocks", "new_block")
    maker = build(call(name("functools", "partial"), marker), marker, b")", value({}), value(None))
    refused(write(tmp_path / "file", whole(call(maker, value(f"touch {trace}")))))
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"not a pickle at all",
        b"\x80\x04.",
        b"\x80\x09N.",
        whole(b"Pname\n"),
        whole(b"\x82\x01"),
        whole(b"h\x07"),
        whole(b"\x97"),
        whole(b"N") + b"more",
        b"\x1f\x8b but not gzip",
        b"BZh9 but not bzip2",
        whole(call(name("numpy", "dtype"), value("V99999999999"))),
        whole(
            build(
                call(name("numpy", "dtype"), value("f8")), *map(value, (3, ">", None, None, None, -1, -1, 0))
            )
        ),
        whole(build(call(name("numpy", "dtype"), value("f8")), *map(value, (3, "<", ("f8", 2), None, None)))),
        whole(call(name("numpy.core.multiarray", "scalar"), number_type("f8"), value(b"short"))),
        whole(call(name("numpy.core.multiarray", "scalar"), number_type("f8"), value(bytes(16)))),
        whole(call(name("numpy.core.multiarray", "scalar"), number_type("O8"), value(bytes(8)))),
    ],
)
def test_what_is_not_a_whole_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "get it from its publisher again" in refused(write(tmp_path / "file", content))


def test_a_missing_file_is_an_error_of_the_source(tmp_path: Path) -> None:
    refused(tmp_path / "nothing")


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
def test_every_shorter_file_is_refused(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    content = compress(pickle.dumps({"architectures": ["|none~0|", 0.25], "count": np.float64(2)}))
    for length in range(len(content)):
        refused(write(tmp_path / "file", content[:length]))


def test_no_flipped_byte_changes_what_a_compressed_file_says(tmp_path: Path) -> None:
    content = bytearray(frame_of("accuracy", [0.25, 0.5, 0.75]))
    for position in range(len(content)):
        content[position] ^= 0x41
        path = write(tmp_path / "file", bytes(content))
        with suppress(SourceError):
            np.testing.assert_array_equal(unpickle.load_frame(path)["accuracy"], [0.25, 0.5, 0.75])
        content[position] ^= 0x41


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_a_bomb_is_refused_without_unfolding_it(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path / "file", compress(bytes(100 * MEGABYTE)))
    assert path.stat().st_size < MEGABYTE

    def load() -> None:
        with pytest.raises(SourceError, match="more than 1,048,576 bytes"):
            unpickle.load(path, limit=MEGABYTE)

    assert peak_memory(load) < 16 * MEGABYTE


@pytest.mark.parametrize(
    "content",
    [
        whole(b"Nr" + struct.pack("<I", 2**32 - 1)),
        whole(b"\x8e" + struct.pack("<Q", 2**60)),
        whole(b"\x96" + struct.pack("<Q", 2**33)),
        whole(b"\x8d" + struct.pack("<Q", 2**40)),
        whole(b"B" + struct.pack("<I", 2**32 - 1)),
        whole(b"\x95" + struct.pack("<Q", 2**50)),
        whole(
            call(
                name("numpy.core.multiarray", "_reconstruct"),
                name("numpy", "ndarray"),
                value((2**40,)),
                value(1),
            )
        ),
    ],
)
def test_sizes_that_a_pickle_claims_take_no_memory(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "file", content)

    def load() -> None:
        with suppress(SourceError):
            unpickle.load(path)

    assert peak_memory(load) < 2 * MEGABYTE


def test_a_tuple_that_doubles_again_and_again_is_refused(tmp_path: Path) -> None:
    key = b")" + b"2\x86" * 20
    assert "unfolds" in refused(write(tmp_path / "file", whole(b"}" + key + b"Ns")))


def test_copying_a_big_dict_again_and_again_is_refused(tmp_path: Path) -> None:
    copies = call(name("collections", "OrderedDict"), value({1: 2}))
    refused(write(tmp_path / "file", whole(copies)))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"accuracy": [0.5]}),
        whole(name("pandas.core.frame", "DataFrame") + b")\x81"),
        frame({"accuracy": np.arange(3.0), "params": np.arange(4.0)}),
    ],
)
def test_what_is_not_a_whole_frame_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceError, match="file"):
        unpickle.load_frame(write(tmp_path / "file", content))
