"""TFRecord files, read without TensorFlow.

A file is a run of records, each of them: the length of its data (8 bytes, little-endian), a masked CRC-32C of
those 8 bytes, the data, and a masked CRC-32C of the data. A mask is a rotation by 15 bits and an offset.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from onnx_bench_dataset.errors import SourceError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


def masked_crc32c(data: bytes) -> int:
    """Return the checksum that a TFRecord file stores for `data`."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read(path: Path) -> Iterator[bytes]:
    """Yield the data of every record of the file at `path`, in order.

    Raises `SourceError`, with the number and position of the record, where a checksum does not hold or the
    file ends too early. A length is believed only if its checksum holds and the file is long enough.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=1 << 20) as file:
        number = position = 0
        while position < size:
            data = _record(file, size - position)
            if isinstance(data, str):
                raise SourceError(
                    f"{path}: record {number + 1}, at byte {position:,} of {size:,}: {data}. The file is "
                    "damaged or not a TFRecord file: get it from its publisher again"
                )
            yield data
            number += 1
            position += _HEADER.size + len(data) + _FOOTER.size


def _record(file: BinaryIO, left: int) -> bytes | str:
    """Return the data of the record that starts here, or what is wrong with it."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return "the file ends inside the record's length"
    length, crc = _HEADER.unpack(header)
    if crc != masked_crc32c(header[:8]):
        return "the checksum of the record's length does not hold"
    if length > left - _HEADER.size - _FOOTER.size:
        return f"the record should have {length:,} bytes, the file ends before them"
    data = file.read(length)
    (crc,) = _FOOTER.unpack(file.read(_FOOTER.size))
    return data if crc == masked_crc32c(data) else "the checksum of the record's data does not hold"
