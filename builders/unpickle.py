"""Pickles from outside, read without running anything that is in them.

A pickle is a program: it names functions and calls them. Here every name is looked up in a short list of
inert stand-ins, so a benchmark's pickle yields its dicts, lists, strings, numbers and array columns, and any
other pickle is refused with the name of the function that it asked for. What NumPy and pandas would have done
to rebuild arrays and frames is done here, since crafted arguments to their functions can crash a process.
"""

from __future__ import annotations

import bz2
import gzip
import io
import pickle
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from onnx_bench_dataset.errors import SourceError

DEFAULT_LIMIT = 64 << 20
"""Most bytes that a pickle may have when decompressed, where the caller names no other limit."""

_CHUNK = 1 << 18
_TUPLE_LIMIT = 1000
_NUMBER_CODES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"}


class NumberType:
    """Stands for `numpy.dtype`: a plain number, or "O" for Python objects."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        """Take the arguments that NumPy pickles."""
        if code not in _NUMBER_CODES | {"O8"}:
            raise ValueError(f"array elements of type {code!r}")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order, and nothing that would make this more than a number."""
        _, order, *rest = state
        if order not in ("<", "|") or any(rest[:3]):
            raise ValueError("array elements that are not plain little-endian numbers")

    def decode(self, content: bytes) -> NDArray[Any]:
        """Return the flat array whose memory `content` is."""
        if self.code == "O8":
            raise ValueError("objects given as bytes")
        return np.frombuffer(content, dtype=f"<{self.code}")


class _Array:
    """Stands for `numpy.ndarray`; `values` is set when the pickle has given its content."""

    values: NDArray[Any] | list[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if isinstance(content, list):
            if shape != (len(content),):
                raise ValueError("an array of objects that is not a plain list")
            self.values = content
        else:
            self.values = kind.decode(content).reshape(shape, order="F" if fortran else "C")


def number(kind: NumberType, content: bytes) -> int | float | bool:
    """Stands for `numpy.core.multiarray.scalar`."""
    if len(content) > 8:
        raise ValueError("a number of more than 8 bytes")
    (value,) = kind.decode(content).tolist()
    return cast("int | float | bool", value)


def _array(_type: object, _shape: object, _code: object) -> _Array:
    return _Array()


class _Marker:
    """Stands for a class or function that the pickle only mentions."""


class _BlockMaker:
    """Stands for `functools.partial(new_block)`: gathers a block's values and its columns' numbers."""

    def __init__(self, _function: type[_Marker]) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass

    def __call__(self, values: _Array, columns: slice) -> tuple[_Array, slice]:
        return values, columns


class _Blocks:
    """Stands for pandas' `BlockManager`."""

    def __init__(self, blocks: tuple[tuple[_Array, slice], ...], axes: list[dict[str, Any]]) -> None:
        self.blocks = blocks
        self.axes = axes


class _Frame:
    """Stands for pandas' `DataFrame`."""

    _mgr: _Blocks


def _ordered_dict() -> dict[Any, Any]:
    """Stands for `collections.OrderedDict`, which is pickled empty and then filled."""
    return {}


def _index(_type: object, content: dict[str, Any]) -> dict[str, Any]:
    return content


_STAND_INS: Mapping[tuple[str, str], Any] = {
    ("builtins", "slice"): slice,
    ("collections", "OrderedDict"): _ordered_dict,
    ("numpy", "dtype"): NumberType,
    ("numpy", "ndarray"): _Marker,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy.core.multiarray", "scalar"): number,
    ("numpy._core.multiarray", "scalar"): number,
    ("functools", "partial"): _BlockMaker,
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas.core.indexes.base", "Index"): _Marker,
    ("pandas.core.indexes.base", "_new_Index"): _index,
    ("pandas.core.indexes.range", "RangeIndex"): _Marker,
    ("pandas.core.internals.blocks", "new_block"): _Marker,
    ("pandas.core.internals.managers", "BlockManager"): _Blocks,
}


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler in Python: unlike the one in C, it keeps its memo in a dict.

    A pickle may name any slot of the memo, and the C unpickler makes an array up to that slot.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def __init__(self, file: BinaryIO, source: Path) -> None:
        super().__init__(file)
        self._source = source
        self._tuples: dict[int, tuple[tuple[Any, ...], int]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise SourceError(
                f"{self._source} asks for {module}.{name}, which a benchmark's file has no need of; nothing "
                "in it was run. Delete it and get the file from its publisher"
            )
        return _STAND_INS[module, name]

    def weigh(self) -> None:
        """Refuse tuples in tuples that unfold without end: hashing one as a dict key would never finish."""
        made: tuple[Any, ...] = self.stack[-1]
        weight = len(made) + sum(self._tuples[id(item)][1] for item in made if id(item) in self._tuples)
        if weight > _TUPLE_LIMIT:
            raise ValueError("a tuple that unfolds to more than a thousand items")
        self._tuples[id(made)] = made, weight


def _weighing(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def load_tuple(unpickler: _Unpickler) -> None:
        load(unpickler)
        unpickler.weigh()

    return load_tuple


del _Unpickler.dispatch[pickle.BYTEARRAY8[0]]  # it fills memory of any size before it reads
for _opcode in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _Unpickler.dispatch[_opcode[0]] = _weighing(pickle._Unpickler.dispatch[_opcode[0]])


def load(path: Path, *, limit: int = DEFAULT_LIMIT) -> Any:
    """Return what the pickle at `path` holds; gzip and bzip2 are undone first.

    Raises `SourceError` if it would run code, is damaged or incomplete, or has more than `limit` bytes.
    """
    content = io.BytesIO(_content(path, limit))
    try:
        value = _Unpickler(content, path).load()
    except SourceError:
        raise
    except Exception as error:  # a damaged pickle can fail in any of its operations
        raise SourceError(_damaged(path, f"{type(error).__name__}: {error}")) from error
    if content.read(1):
        raise SourceError(_damaged(path, "it goes on after its end"))
    return value


def load_frame(path: Path, *, limit: int = DEFAULT_LIMIT) -> dict[str, NDArray[Any]]:
    """Return the columns, by name, of the pandas frame pickled at `path`."""
    frame = load(path, limit=limit)
    if not isinstance(frame, _Frame):
        raise SourceError(f"{path} does not hold a pandas frame: get the file from its publisher again")
    try:
        return _columns(frame._mgr)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise SourceError(_damaged(path, f"its frame is not whole ({error})")) from error


def _columns(blocks: _Blocks) -> dict[str, NDArray[Any]]:
    names = list(blocks.axes[0]["data"].values)
    rows = len(range(*(blocks.axes[1][key] for key in ("start", "stop", "step"))))
    columns: dict[str, NDArray[Any]] = {}
    for array, numbers in blocks.blocks:
        chosen = names[numbers]
        values = cast("NDArray[Any]", array.values)
        if values.shape != (len(chosen), rows):
            raise ValueError(f"columns {chosen} have shape {values.shape}")
        columns.update(zip(chosen, values, strict=True))
    return {name: columns[name] for name in names}


def _content(path: Path, limit: int) -> bytearray:
    content = bytearray()
    try:
        with path.open("rb") as file:
            stream = _decompressed(file)
            while chunk := stream.read(_CHUNK):
                content += chunk
                if len(content) > limit:
                    raise SourceError(f"{path} has more than {limit:,} bytes inside, too many for its kind")
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(_damaged(path, str(error))) from error
    return content


def _decompressed(file: BinaryIO) -> BinaryIO:
    magic = file.read(3)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if magic == b"BZh":
        return cast("BinaryIO", bz2.BZ2File(file))
    return file


def _damaged(path: Path, reason: str) -> str:
    return f"{path} is damaged or another file ({reason[:300]}): get it from its publisher again"
