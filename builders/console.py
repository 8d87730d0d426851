"""What the commands of a checkout share: an option, progress, tables, one message for what went wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from builders.build import Outcome
from builders.labels import Item
from builders.manifest import SpaceRecord
from builders.verify import CHECKS, Report
from onnx_bench_dataset.errors import OnnxBenchError

console = Console(stderr=False)

CORES = os.cpu_count() or 1
Workers = Annotated[int, typer.Option(min=1, help="Worker processes.", show_default="one per core")]
"""An option that most commands have; its default is `CORES`."""

_INTERRUPTED = 130  # what a shell reports for a process ended by Ctrl-C


@contextmanager
def one_message(kept: str = "finished shards are kept") -> Iterator[None]:
    """Turn errors that a user can mend, and Ctrl-C, into one message and an exit status.

    `kept` says what an interrupted command leaves for the next run.
    """
    try:
        yield
    except OnnxBenchError as error:
        console.print(f"error: {error}", style="bold red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print(f"interrupted; {kept}, run the same command again to go on")
        raise typer.Exit(_INTERRUPTED) from None


def progress(
    iterable: Iterable[Item], *, desc: str | None = None, total: int | None = None
) -> Iterable[Item]:
    """Return the items of `iterable`, and draw on stderr how far it is."""
    return tqdm(iterable, desc=desc, total=total, file=sys.stderr, dynamic_ncols=True, mininterval=0.5)


def build_table(outcomes: list[Outcome], out: Path) -> Table:
    """Return what became of each space of the folder `out`."""
    table = Table(title=f"{out}")
    table.add_column("space", min_width=max(len(outcome.space) for outcome in outcomes))
    for name in ("rows", "train", "test"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("labels", "size", "result"):
        table.add_column(name)
    for outcome in outcomes:
        record = outcome.record
        if record is None:
            table.add_row(outcome.space, "", "", "", "", "", "skipped, see below")
            continue
        table.add_row(
            outcome.space,
            f"{record.rows():,}",
            f"{record.rows('train'):,}",
            f"{record.rows('test'):,}",
            _labels(record),
            f"{record.bytes / 1e6:.1f} MB",
            f"{outcome.reason}, {outcome.seconds:.0f} s",
        )
    return table


def _labels(record: SpaceRecord) -> str:
    """Name the labels, with counts where there are several kinds."""
    if len(record.labels) == 1:
        return next(iter(record.labels))
    return "\n".join(f"{count:,} {label}" for label, count in record.labels.items())


def verify_table(reports: dict[str, Report]) -> Table:
    """Return how often each check failed in each space."""
    table = Table(title="failures by check")
    table.add_column("check")
    for space in reports:
        table.add_column(space, justify="right")
    table.add_row("rows read", *(f"{report.rows:,}" for report in reports.values()))
    recomputed = (f"{report.recomputed:,}" for report in reports.values())
    table.add_row("rows recomputed", *recomputed, end_section=True)
    for check in CHECKS:
        table.add_row(check, *(str(report.failures[check]) for report in reports.values()))
    return table
