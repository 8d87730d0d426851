"""The command `evaluate`: how well a predictor does under a protocol, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from onnx_bench_dataset.cli.commands import app, one_message
from onnx_bench_dataset.cli.export import read_quietly
from onnx_bench_dataset.errors import OnnxBenchError
from onnx_bench_dataset.loading import NAME
from onnx_bench_dataset.surrogates.registry import PREDICTORS, find, new

if TYPE_CHECKING:  # extras, which no other command waits for
    from onnx_bench_dataset.surrogates.evaluate import Measured
    from onnx_bench_dataset.surrogates.protocols import Task

_console = Console()
_errors = Console(stderr=True)

_PROTOCOLS = (
    *("zero-shot", "pairs", "leave-one-family-out"),
    *("within-space", "within-space-published", "few-shot"),
)


@app.command("evaluate")
@one_message()
def evaluate_predictor(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"Predictor: {', '.join(PREDICTORS)}.")],
    protocol: Annotated[str, typer.Option(metavar="NAME", help=f"One of {', '.join(_PROTOCOLS)}.")],
    data: Annotated[
        str, typer.Option(metavar="PATH", help="Data set: a folder or a repository on the Hugging Face Hub.")
    ] = NAME,
    seeds: Annotated[int, typer.Option(min=1, help="Times that all is drawn and fitted anew.")] = 5,
    test_rows: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Rows of a space that test at most.", show_default="all"),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Only tasks with this in their name.", show_default="all tasks"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the predictor, such as `epochs=3`."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="JSON to write.", show_default="results/<protocol>/<predictor>.json"
        ),
    ] = None,
) -> None:
    """Train a predictor on some search spaces, test it on others, and say how well it ranks.

    A predictor never sees which space a row is of. Training rows are drawn anew for each seed; figures are
    means over seeds, with the deviation between them and the 95 % interval over test rows. Rows whose label
    is a surrogate's never train; where they test, the table says so.

    Examples:

    - `onnx-bench evaluate features --protocol zero-shot`

    - `onnx-bench evaluate params --protocol leave-one-family-out --test-rows 5000`

    - `onnx-bench evaluate naswot --protocol leave-one-family-out --test-rows 200`

    - `onnx-bench evaluate onnxnet --protocol zero-shot --only "(200)" --option epochs=2 --seeds 1`
    """
    find(name)
    options = dict(map(_option, option or []))
    try:
        from onnx_bench_dataset.surrogates import evaluate
    except ModuleNotFoundError as error:
        raise OnnxBenchError(
            f"evaluate needs {error.name}: pip install 'onnx-bench-dataset[predict]'"
        ) from error

    read_quietly()
    rows = evaluate.evaluate(
        lambda: new(name, **options),
        protocol,
        data,
        seeds=seeds,
        test_rows=test_rows,
        only=only or (),
        progress=_progress,
    )
    target = out or Path("results") / protocol / f"{name}.json"
    about = {"data": data, "seeds": seeds, "test_rows": test_rows, "options": options}
    evaluate.write(target, name, protocol, rows, about)
    _console.print(results_table(rows))
    typer.echo(f"wrote {target}")


def _option(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if not found:
        raise OnnxBenchError(f"{text!r} is no option: write it as key=value, such as epochs=3")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _progress(tasks: Iterable[Task], what: str) -> Iterable[Task]:
    return track(tasks, description=what, console=_errors, transient=True)


def results_table(rows: Sequence[Measured]) -> Table:
    """Return the table that shows figures."""
    table = Table()
    table.add_column("task")
    table.add_column("tested")
    for heading in ("τ", "95 %", "ρ", "regret", "precision"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        tested = row.space if row.label == "trained" else f"{row.space} ({row.label})"
        table.add_row(
            row.task,
            tested,
            f"{row.mean.tau:.3f} ± {row.deviation.tau:.3f}",
            f"{row.low.tau:.2f}–{row.high.tau:.2f}",
            f"{row.mean.rho:.3f}",
            f"{row.mean.regret:.2f}",
            f"{row.mean.precision:.2f}",
        )
    return table
