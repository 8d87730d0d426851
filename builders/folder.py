"""A dataset folder that changes as a whole or not at all.

New content is made in `<folder>.building` beside the folder and put in its place by renaming when all of it
is there and on disk; until then the folder keeps what it had. An interrupted build finds its finished shards
in `<folder>.building` again if nothing that they depend on has changed. The folder of a part of a build is
made in the same way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from builders import manifest, parts
from builders.manifest import SpaceRecord
from builders.parts import Part
from builders.shards import TEMPORARY, ShardRecord, Target
from builders.sources import sha256
from onnx_bench_dataset.errors import BuildError

_ASIDE = "unfinished-"


class Staging:
    """The place where the next content of a dataset folder is made; get one from `staging`."""

    def __init__(self, out: Path, part: Part | None = None) -> None:
        """Stage for the folder `out`, which is to hold `part` of a build, or a whole dataset."""
        self.out = out
        self.part = part
        self.root = _beside(out, ".building")
        self.folder = self.root / "folder"
        self.target = Target(self.folder, self.root / f"{_ASIDE}{uuid4().hex}")
        self.previous: dict[str, SpaceRecord] = {}

    def open(self) -> None:
        """Make ready, and take from what still works for an earlier build the place to write in."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for earlier in self.root.glob(f"{_ASIDE}*"):
            shutil.rmtree(earlier, ignore_errors=True)
        self.target.aside.mkdir()

    def close(self) -> None:
        """Delete what is unfinished."""
        shutil.rmtree(self.target.aside, ignore_errors=True)

    def begin(self, space: str, key: str) -> None:
        """Make ready for the shards of a space; finished ones stay if they were made under the same key."""
        note = self.root / f"{space}.key"
        if not note.exists() or note.read_text(encoding="utf-8") != key:
            self.discard(space)
            note.write_text(key, encoding="utf-8")

    def scratch(self, space: str) -> Path:
        """Return a folder for what the shards of a space are made from; it goes when they are published."""
        folder = self.root / f"{space}.files"
        folder.mkdir(exist_ok=True)
        for leftover in folder.glob(f"{TEMPORARY}*"):
            leftover.unlink()
        return folder

    def discard(self, space: str) -> None:
        """Forget what was made of a space."""
        (self.root / f"{space}.key").unlink(missing_ok=True)
        for part in ("data", "catalog", "gallery"):
            shutil.rmtree(self.folder / part / space, ignore_errors=True)

    def keep(self, space: str) -> SpaceRecord | None:
        """Take over a space from the previous content; None if there is none or it is damaged."""
        known = self.previous.get(space)
        if known is None or not all(_is_intact(self.out, shard) for shard in known.files):
            return None
        self.discard(space)
        for shard in known.files:
            target = self.folder / shard.path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self.out / shard.path, target)
            except OSError:  # a file system without hard links
                shutil.copyfile(self.out / shard.path, target)
        return known

    def publish(self, spaces: Mapping[str, SpaceRecord], readme: str) -> None:
        """Put the staged content in the place of the previous one, with its manifest and README.

        A part has no README, and a record of its own for a manifest.
        """
        self._remove_all_but(spaces)
        if self.part:
            parts.write(self.folder, self.part, spaces)
        else:
            manifest.write(self.folder, spaces)
            (self.folder / "README.md").write_text(readme, encoding="utf-8")
        for directory, _, files in os.walk(self.folder):
            for path in (Path(directory), *(Path(directory, name) for name in files)):
                _flush(path)
        old = _beside(self.out, ".old")
        if self.out.exists():
            self.out.rename(old)
        self.folder.rename(self.out)
        _flush(self.out.parent)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def _remove_all_but(self, spaces: Mapping[str, SpaceRecord]) -> None:
        wanted = {shard.path for known in spaces.values() for shard in known.files}
        for path in self.folder.rglob("*"):
            if path.is_file() and path.relative_to(self.folder).as_posix() not in wanted:
                path.unlink()


@contextmanager
def staging(out: Path, part: Part | None = None) -> Iterator[Staging]:
    """Stage the next content of the folder `out`, alone; with `part` it is no dataset folder but that part.

    Raises:
        BuildError: the folder holds something else, or another build is under way.
    """
    out = out.absolute()
    old = _beside(out, ".old")
    for folder in (out, old):
        _previous(folder, part)
    place = Staging(out, part)
    try:
        place.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.root / "lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise BuildError(f"another build of {out} is under way; wait for it or stop it") from None
    except OSError as error:
        raise BuildError(f"cannot write beside {out}: {error.strerror}; choose another --out") from error
    try:
        if old.exists():  # a build was stopped between two renamings
            if out.exists():
                shutil.rmtree(old)
            else:
                old.rename(out)
        place.previous = _previous(out, part)
        place.open()
        yield place
    except OSError as error:
        raise BuildError(
            f"cannot write {out}: {error.strerror or error}. It is as it was before; what is finished is "
            "kept for the next run of the same command"
        ) from error
    finally:
        place.close()
        lock.release()


def _previous(folder: Path, part: Part | None) -> dict[str, SpaceRecord]:
    """Return what a folder holds.

    Raises:
        BuildError: it is something that a build must not replace.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return {}
    if (folder / parts.FILE).exists():
        found, spaces = parts.read(folder)
        if found != part:
            wanted = f"part {part}" if part else "a dataset folder (`python -m builders merge` joins parts)"
            raise BuildError(f"{folder} is part {found} of a build, not {wanted}: choose another --out")
        return spaces
    if not (folder / manifest.FILE).exists():
        raise BuildError(
            f"{folder} holds other data, which a build would replace: move it away or choose another --out"
        )
    if part:
        raise BuildError(f"{folder} is a whole dataset folder, not part {part}: choose another --out")
    return manifest.read(folder)


def _is_intact(folder: Path, shard: ShardRecord) -> bool:
    path = folder / shard.path
    return path.is_file() and sha256(path) == shard.sha256


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(out.name + suffix)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
