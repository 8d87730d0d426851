"""Files of predictors: a zip archive of JSON and plain numbers, with a checksum of every member.

`predictor.json` names the predictor, the version of the format, its settings and the SHA-256 of the other
members. Nothing in such a file is code: it may come from anywhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_bench_dataset.errors import PredictorError

FORMAT = 1
"""Changes when files of before can no longer be read."""

MAX_BYTES = 2**31
"""Of all members, uncompressed: what a file may ask for when it is read, and may hold when it is written."""

_HEAD = "predictor.json"
_DAMAGE = (  # what a damaged archive may raise where it is read
    *(OSError, ValueError, KeyError, EOFError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
_DATE = (1980, 1, 1, 0, 0, 0)  # files of equal content are equal


def write(path: Path, name: str, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
    """Write a predictor's file, whole or not at all.

    Raises:
        PredictorError: it would hold more than `MAX_BYTES`, and could not be read again.
    """
    if (size := sum(map(len, members.values()))) > MAX_BYTES:
        raise PredictorError(
            f"{path} would hold {size:,} bytes, of {MAX_BYTES:,} at most: take a smaller model"
        )
    head = {
        "format": FORMAT,
        "predictor": name,
        "settings": settings,
        "sha256": {member: hashlib.sha256(content).hexdigest() for member, content in members.items()},
    }
    contents = {_HEAD: json.dumps(head, indent=1).encode(), **members}
    aside = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        with aside.open("wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for member, content in contents.items():
                    entry = zipfile.ZipInfo(member, _DATE)
                    archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)


def read(path: Path) -> tuple[str, dict[str, Any], dict[str, bytes]]:
    """Return the name, the settings and the members of a predictor's file.

    Raises:
        PredictorError: there is none, it is damaged or altered, or another version wrote it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise _wrong(path, f"it holds more than {MAX_BYTES:,} bytes")
            head = json.loads(archive.read(_HEAD))
            if not isinstance(head, dict) or head.get("format") != FORMAT:
                raise PredictorError(
                    f"{path} was written by another version of onnx-bench: fit the predictor anew and save it"
                )
            members = {name: archive.read(name) for name in archive.namelist() if name != _HEAD}
    except FileNotFoundError as error:
        raise PredictorError(f"there is no file {path}") from error
    except _DAMAGE as error:
        raise _wrong(path, str(error)) from error
    known = head.get("sha256")
    if known != {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}:
        raise _wrong(path, "its contents are not those that were written")
    name, settings = head.get("predictor"), head.get("settings")
    if not isinstance(name, str) or not isinstance(settings, dict):
        raise _wrong(path, "it does not say which predictor it is of")
    return name, settings, members


def from_array(array: NDArray[Any]) -> bytes:
    """Return a member that holds an array of numbers."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def to_array(member: bytes) -> NDArray[Any]:
    """Return the array of a member.

    Raises:
        ValueError: it holds none, or one of objects, which would be code.
    """
    made: NDArray[Any] = np.load(io.BytesIO(member), allow_pickle=False)
    return made


def _wrong(path: Path, reason: str) -> PredictorError:
    return PredictorError(f"{path} is no sound file of a predictor: {reason}. Get it again, or fit it anew")
