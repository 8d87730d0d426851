"""Publish a dataset folder on the Hugging Face Hub: verified before, compared after, never half a data set.

Card, manifest and deletions are part of the last commit, which is the only one unless there are very many
files: what a config of the card names is there. What is interrupted goes on where it stopped, because each
run, and each try within it, begins with what the Hub has and sends what differs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from huggingface_hub import DatasetInfo

from builders import manifest
from builders.hub import WAITS, CommitUnansweredError, Differences, HubRepository
from builders.labels import Progress
from builders.verify import strangers, verify
from onnx_bench_dataset.errors import UploadError

CARD = "README.md"
ROWS = 500
"""Rows of each space that are recomputed from their graphs before an upload."""

Say = Callable[[str], None]

_LAST = (manifest.FILE, CARD)
_FILES_A_COMMIT = 1_000  # as many as the client's own uploads of folders put into one
_SHOWN = 20  # paths that an error lists


def publish(
    folder: Path,
    repository: HubRepository,
    *,
    private: bool = False,
    tag: str | None = None,
    dry_run: bool = False,
    force: bool = False,
    rows: int = ROWS,
    workers: int,
    progress: Progress,
    say: Say,
) -> None:
    """Make a repository hold what a folder holds, as one version.

    Args:
        folder: the dataset folder, `onnx-bench` say.
        repository: where to publish it; it is made if there is none.
        private: whether a repository that is made is private.
        tag: a version, `v1.2.3`, to call the commit by.
        dry_run: whether to say what would be done, and to send nothing.
        force: whether to replace files that are not of this data set.
        rows: how many rows of each space are recomputed from their graphs; all else is checked for all.
        workers: processes that do so.
        progress: draws the progress of it.
        say: is given lines that say what was checked and what is done.

    Raises:
        UploadError: the folder is not as it was built, the repository holds other data, the tag is that of
            another content, or the Hub refuses something or cannot be reached.
        BuildError: the folder is no dataset folder.
    """
    if tag is not None and not re.fullmatch(r"v(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", tag, re.ASCII):
        raise UploadError(f"{tag!r} is no version: give three numbers, as in v1.2.3")
    if not dry_run:
        repository.refuse_without_rights()
    _verify(folder, rows, workers, progress, say)
    info = repository.info()
    if private and info is not None and not info.private:
        raise UploadError(
            f"{repository.url} is there already and is public: make it private in its settings, or leave "
            "--private out"
        )
    differences = _planned(folder, repository, info, force)
    is_tagged = _is_tagged(folder, repository, info, tag)
    for line in _describe(folder, repository, info, differences, private):
        say(line)
    if tag and not is_tagged:
        say(f"to tag: {tag}")
    if dry_run:
        say("nothing was sent: this was a dry run")
        return
    if differences:
        repository.refuse_card((folder / CARD).read_text(encoding="utf-8"))
    if info is None:
        repository.create(private)
    commit = _send(folder, repository, f"onnx-bench {tag}" if tag else "onnx-bench", force)
    if tag and not is_tagged:
        repository.tag(tag, commit)
    refuse_differences(folder, repository, tag or commit)
    say(f"{repository.name} at {tag or commit} serves what {folder} holds, every file by its digest")


def refuse_differences(folder: Path, repository: HubRepository, revision: str) -> None:
    """Raise `UploadError` with the files in which a folder and a revision of a repository differ."""
    manifest.read(folder)
    if differences := repository.compare(folder, revision):
        lines = list(differences.lines())
        raise UploadError(
            f"{repository.name} at {revision} is not {folder}:\n" + "\n".join(f"  {line}" for line in lines)
        )


def _verify(folder: Path, rows: int, workers: int, progress: Progress, say: Say) -> None:
    reports = verify(folder, workers, progress, rows)
    failures = [
        f"  {space}, {check}: {example}"
        for space, report in reports.items()
        for check, examples in report.examples.items()
        for example in examples
    ]
    if failures:
        raise UploadError(
            f"{folder} is not as it was built, so nothing was uploaded. `python -m builders verify {folder}` "
            "checks all of it:\n" + "\n".join(failures[:_SHOWN])
        )
    read, recomputed = (
        sum(getattr(report, name) for report in reports.values()) for name in ("rows", "recomputed")
    )
    say(
        f"verified {folder}: files, digests, columns, ids, labels and catalog of {read:,} rows in "
        f"{len(reports)} spaces; {recomputed:,} of them recomputed from their graphs"
    )


def _planned(folder: Path, repository: HubRepository, info: DatasetInfo | None, force: bool) -> Differences:
    """Return what is to be done; refuse a repository with files that no version of ours has put there."""
    if info is None:
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        names = (path.relative_to(folder).as_posix() for path in files)
        return Differences(tuple(name for name in names if not name.startswith(".")), (), ())
    differences = repository.compare(folder, str(info.sha))
    if not force and (other := _other_data(repository, str(info.sha), differences)):
        raise UploadError(
            f"{repository.url} holds other data, which would be replaced or deleted: choose another name, or "
            f"do it with --force: {_listed(other)}"
        )
    return differences


def _other_data(repository: HubRepository, revision: str, differences: Differences) -> list[str]:
    """Return the published files that would be lost without being ours.

    Ours are those of our manifest; where there is none, the card that a repository may begin with.
    """
    replaced = [path for path in (*differences.changed, *differences.gone) if path != CARD]
    if not replaced:
        return []
    published = repository.manifest(revision)
    return replaced if published is None else strangers(differences.gone, published)


def _is_tagged(folder: Path, repository: HubRepository, info: DatasetInfo | None, tag: str | None) -> bool:
    """Whether the tag is there, on the content of the folder; refuse one on another content."""
    if tag is None or info is None or tag not in repository.tags():
        return False
    if repository.compare(folder, tag):
        raise UploadError(
            f"{repository.name} has {tag} already, with another content, and versions do not change: choose "
            f"the next version (`--check --tag {tag}` lists the differences)"
        )
    return True


def _send(folder: Path, repository: HubRepository, title: str, force: bool) -> str:
    """Commit what differs until nothing does, and return the head."""
    waits = iter(WAITS)
    while True:
        info = repository.info()
        if info is None:
            raise UploadError(f"{repository.url} is not there, although it was made: run the command again")
        head = str(info.sha)
        try:
            for added, deleted in _commits(_planned(folder, repository, info, force)):
                head = repository.commit(folder, added, deleted, title, head)
            return head
        except CommitUnansweredError as error:
            planned = next(waits, None)
            if planned is None:
                raise
            wait = max(planned, error.wait)
        time.sleep(wait)


def _commits(differences: Differences) -> Iterator[tuple[list[str], list[str]]]:
    """Divide differences among commits, as (files to add, files to delete)."""
    changed = sorted({*differences.new, *differences.changed})
    last = [path for path in changed if path in _LAST]
    others = [path for path in changed if path not in _LAST]
    while len(others) > _FILES_A_COMMIT:
        yield others[:_FILES_A_COMMIT], []
        del others[:_FILES_A_COMMIT]
    if differences:
        yield others + last, list(differences.gone)


def _describe(
    folder: Path, repository: HubRepository, info: DatasetInfo | None, differences: Differences, private: bool
) -> Iterator[str]:
    """Say what is to be done, one thing in a line."""
    if info is None:
        yield f"to make: {'private' if private else 'public'} repository {repository.url}"
    for path in sorted({*differences.new, *differences.changed}):
        yield f"to upload: {path}, {(folder / path).stat().st_size:,} bytes"
    for path in differences.gone:
        yield f"to delete: {path}"
    if not differences:
        yield f"{repository.name} has all of it already: nothing to upload"


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more
