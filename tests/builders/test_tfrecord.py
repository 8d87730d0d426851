import random
import struct
import tracemalloc
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_formats import masked, tfrecord, write

from builders import tfrecord as reader
from onnx_bench_dataset.errors import SourceError

RECORDS = [b"first", b"", b"third" * 10]


def test_checksums_are_crc32c_rotated_and_shifted() -> None:
    assert google_crc32c.value(b"123456789") == 0xE3069283
    assert reader.masked_crc32c(b"123456789") == (0x2507C60D + 0xA282EAD8) % 2**32
    assert struct.pack("<I", reader.masked_crc32c(b"123456789")) == masked(b"123456789")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(records=st.lists(st.binary(max_size=300), max_size=5))
def test_records_are_read_back_in_order(tmp_path: Path, records: list[bytes]) -> None:
    assert list(reader.read(write(tmp_path / "file", tfrecord(records)))) == records


def test_a_file_that_ends_inside_a_record_is_refused_after_the_whole_ones(tmp_path: Path) -> None:
    content = tfrecord(RECORDS)
    ends = {len(tfrecord(RECORDS[:count])): count for count in range(4)}
    for length in range(len(content)):
        path = write(tmp_path / "file", content[:length])
        if length in ends:
            assert list(reader.read(path)) == RECORDS[: ends[length]]
            continue
        found = []
        with pytest.raises(SourceError, match="the file ends") as caught:
            found.extend(reader.read(path))
        whole = sum(end <= length for end in ends) - 1
        assert f"record {whole + 1}, at byte" in str(caught.value)
        assert str(path) in str(caught.value)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    content = bytearray(tfrecord(RECORDS))
    for position in range(len(content)):
        content[position] ^= 1 << position % 8
        with pytest.raises(SourceError, match="checksum"):
            list(reader.read(write(tmp_path / "file", bytes(content))))
        content[position] ^= 1 << position % 8


@pytest.mark.parametrize("length", [2**60, 2**64 - 1, 2**31, 6])
def test_a_length_beyond_the_file_takes_no_memory(tmp_path: Path, length: int) -> None:
    header = struct.pack("<Q", length)
    path = write(tmp_path / "file", header + masked(header) + b"short" + masked(b"short"))
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=f"should have {length:,} bytes"):
            list(reader.read(path))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(1000)
    with pytest.raises(
        SourceError, match="record 1, at byte 0 of 1,000: the checksum of the record's length"
    ):
        list(reader.read(write(tmp_path / "file", noise)))
