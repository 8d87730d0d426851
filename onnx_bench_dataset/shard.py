"""Reading a shard, from a disk or over HTTP: the bytes that are asked for, and no thread left behind.

Arrow reads a file of Python's (any that is not local) in its own threads, ahead of what was asked for. When a
process ends before they have, Python is gone while they need it, which aborts. So a remote shard is read
here, and Arrow gets bytes: those of the wanted columns, in an image of the file that is empty elsewhere.
Nothing is read ahead, and no read outlives the call that wanted it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from onnx_bench_dataset.errors import LoadError

_REQUESTS = 8  # at a time
_WINDOW = 1 << 22  # bytes of row groups that are fetched together
_GAP = 1 << 10  # bytes between two columns that are cheaper to read than to ask twice
_FOOTER_SHARE, _LEAST_FOOTER, _MOST_FOOTER = 64, 1 << 12, 1 << 16

Ranges = list[tuple[int, int]]


class Shard:
    """A local Parquet file, whose row groups are read one by one."""

    def __init__(self, path: str) -> None:
        """Name the file; it is opened when it is needed."""
        self.path = path

    @cached_property
    def _file(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.path, pre_buffer=False)

    @property
    def metadata(self) -> pq.FileMetaData:
        """What the footer says about rows, row groups and columns."""
        return self._file.metadata

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self._file.schema_arrow

    def row_groups(self, condition: ds.Expression | None = None) -> list[int]:
        """Return the row groups whose statistics leave room for a row of which `condition` holds."""
        if condition is None:
            return list(range(self.metadata.num_row_groups))
        fragment = ds.ParquetFileFormat().make_fragment(self._source())
        return [group.id for group in fragment.subset(condition).row_groups]

    def tables(self, groups: Sequence[int], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield row groups, each as one table of the columns that are asked for, in the file's order."""
        for group in groups:
            yield self._file.read_row_group(group, columns=columns, use_threads=False)

    def _source(self) -> Any:
        return pa.OSFile(self.path)


class RemoteShard(Shard):
    """A Parquet file of any file system that `fsspec` knows, such as the Hub's."""

    def __init__(self, path: str, options: Mapping[str, Any] | None = None) -> None:
        """Name the file by its URL, with the options of its file system (`token`, `endpoint`)."""
        super().__init__(path)
        self._options = tuple(sorted((options or {}).items()))

    @property
    def _opened(self) -> _RemoteFile:
        return _open(self.path, self._options)

    @property
    def metadata(self) -> pq.FileMetaData:
        """What the footer says, which is read once."""
        return self._opened.metadata

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.metadata.schema.to_arrow_schema()

    def tables(self, groups: Sequence[int], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield row groups as `Shard` does; small ones are fetched together."""
        for window, ranges in self._windows(groups, columns):
            image = self._opened.image(ranges)
            file = pq.ParquetFile(pa.BufferReader(image), metadata=self.metadata, pre_buffer=False)
            for group in window:
                yield file.read_row_group(group, columns=columns, use_threads=False)

    def _windows(
        self, groups: Sequence[int], columns: Sequence[str] | None
    ) -> Iterator[tuple[list[int], Ranges]]:
        """Yield consecutive row groups that are worth fetching together, with the bytes that are needed."""
        window: list[int] = []
        ranges: Ranges = []
        for group in groups:
            wanted = _column_ranges(self.metadata, group, columns)
            if window and sum(stop - start for start, stop in (*ranges, *wanted)) > _WINDOW:
                yield window, ranges
                window, ranges = [], []
            window.append(group)
            ranges.extend(wanted)
        if window:
            yield window, ranges

    def _source(self) -> Any:
        return pa.BufferReader(self._opened.image([]))


class _RemoteFile:
    """The bytes of a remote file; its footer is kept."""

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        self.path = path
        self.system, self.name = fsspec.core.url_to_fs(path, **options)
        self.size: int = self.system.info(self.name)["size"]
        self.footer = self._read_footer()
        self.metadata = pq.read_metadata(pa.BufferReader(self.footer))

    def image(self, ranges: Ranges) -> pa.Buffer:
        """Return the file as it is at the ranges and in its footer, zeros elsewhere, which take no memory."""
        image = np.zeros(self.size, dtype=np.uint8)
        image[self.size - len(self.footer) :] = np.frombuffer(self.footer, dtype=np.uint8)
        if len(ranges) == 1:
            pieces = [self._read(*ranges[0])]
        else:
            with ThreadPoolExecutor(_REQUESTS) as pool:
                pieces = list(pool.map(lambda wanted: self._read(*wanted), ranges))
        for (start, stop), piece in zip(ranges, pieces, strict=True):
            image[start:stop] = np.frombuffer(piece, dtype=np.uint8)
        return pa.py_buffer(image)

    def _read_footer(self) -> bytes:
        guess = min(max(self.size // _FOOTER_SHARE, _LEAST_FOOTER), _MOST_FOOTER, self.size)
        tail = self._read(self.size - guess, self.size)
        needed = int.from_bytes(tail[-8:-4], "little") + 8
        if tail[-4:] != b"PAR1" or needed > self.size:
            raise LoadError(f"{self.path} is damaged: it does not end as a Parquet file")
        if needed > guess:
            tail = self._read(self.size - needed, self.size - guess) + tail
        return tail[-needed:]

    def _read(self, start: int, stop: int) -> bytes:
        with self.system.open(self.name, "rb", cache_type="none") as file:
            file.seek(start)
            content: bytes = file.read(stop - start)
        if len(content) != stop - start:
            raise LoadError(f"{self.path} was cut short on the way: {len(content)} bytes of {stop - start}")
        return content


@lru_cache(maxsize=1024)
def _open(path: str, options: tuple[tuple[str, Any], ...]) -> _RemoteFile:
    """Open a remote file once: its URL holds the commit, so what it holds never changes."""
    return _RemoteFile(path, dict(options))


def open_shard(path: str, options: Mapping[str, Any] | None = None) -> Shard:
    """Return the shard at a path or URL; `options` are those of the URL's file system."""
    return RemoteShard(path, options) if "://" in path else Shard(os.fspath(path))


def _column_ranges(metadata: pq.FileMetaData, group: int, columns: Sequence[str] | None) -> Ranges:
    """Return where the columns of a row group are, neighbours joined."""
    ranges: Ranges = []
    for index in range(metadata.num_columns):
        column = metadata.row_group(group).column(index)
        if columns is not None and column.path_in_schema.partition(".")[0] not in columns:
            continue
        start = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
        stop = start + column.total_compressed_size
        if ranges and 0 <= start - ranges[-1][1] <= _GAP:
            ranges[-1] = ranges[-1][0], stop
        else:
            ranges.append((start, stop))
    return ranges
