"""Command line of the builders: `python -m builders`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from builders import digits_noise, retraining
from builders.build import Where
from builders.build import build as build_spaces
from builders.console import CORES, Workers, build_table, console, one_message, progress, verify_table
from builders.design_command import measure_designs
from builders.digits import SPACE as DIGITS
from builders.import_files import import_files, report_path
from builders.import_rows import Import
from builders.measuring_commands import (
    compare_texts,
    draw_pictures,
    measure_blind,
    measure_noise,
    measure_texts,
    write_results,
)
from builders.merge import merge as merge_parts
from builders.parts import Part
from builders.predictor_command import make_predictor
from builders.registry import BENCHMARKS
from builders.sampling import DRAWN_AT_ONCE, ROWS_PER_SHARD, Sample
from builders.sampling import sample as draw_sample
from builders.verify import verify as verify_folder
from onnx_bench_dataset.digits import table as digits_table
from onnx_bench_dataset.errors import UnknownNameError
from onnx_bench_dataset.spaces import SPACES

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Build the onnx-bench data set from published benchmark files.

    Without a command it builds: `python -m builders` makes every space into `onnx-bench`,
    `python -m builders nasbench201 --limit 500` a small one to try.""",
)

_Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Use the workers of this dask scheduler, tcp://host:8786 say. They must see the dataset folder "
        "under the same path.",
        show_default="processes of this machine",
    ),
]
_Shards = Annotated[
    str | None,
    typer.Option(
        metavar="i/n",
        help="Make only the shards of part i of n, counted from 0, in the folder OUT.part-i-of-n.",
        show_default="all",
    ),
]
_OUT = Path("onnx-bench")
_Out = Annotated[Path, typer.Option(help="Dataset folder to make or bring up to date.")]
_Sources = Annotated[
    Path | None,
    typer.Option(
        envvar="ONNX_BENCH_SOURCES",
        help="Folder of published files, laid out as <space>/<file>. What it lacks is downloaded.",
    ),
]
_SHOWN = 10  # lines of a report that are printed


@app.command()
def build(
    spaces: Annotated[
        list[str] | None, typer.Argument(metavar="[SPACE]...", help="Spaces to build; all by default.")
    ] = None,
    out: _Out = _OUT,
    sources: _Sources = None,
    workers: Workers = CORES,
    scheduler: _Scheduler = None,
    shards: _Shards = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows of each space.")] = None,
) -> None:
    """Build spaces into a dataset folder; what is interrupted goes on where it stopped.

    On several machines: with a dask cluster, whose workers write into a folder that all of them share, or in
    parts, which share nothing and are joined by `merge`. The result is the same to the last byte.

    Examples:

    - `python -m builders`

    - `python -m builders nasbench101 --sources ~/benchmarks --workers 8`

    - `python -m builders --limit 1000 --out /tmp/onnx-bench`

    - `python -m builders --scheduler tcp://node1:8786 --out /scratch/onnx-bench`

    - `python -m builders --shards $SLURM_ARRAY_TASK_ID/8`
    """
    with one_message():
        where = _where(workers, scheduler, shards)
        _build(spaces, _folder(out, where), sources, where, limit)


@app.command()
def merge(
    parts: Annotated[list[Path], typer.Argument(metavar="PART...", help="Folders of all parts.")],
    out: _Out = _OUT,
    workers: Workers = CORES,
) -> None:
    """Join the parts of a build, made with `--shards`, into a dataset folder.

    Parts that are missing, double, altered, or made by different versions are refused.

    Example: `python -m builders merge onnx-bench.part-*`
    """
    with one_message():
        console.print(build_table(merge_parts(parts, out, workers=workers, progress=progress), out))


@app.command()
def sample(
    space: Annotated[str, typer.Argument(help="Space to draw from.")],
    rows: Annotated[int, typer.Option(min=1, help="Architectures to draw.")],
    seed: Annotated[int, typer.Option(min=0, help="What the random numbers depend on.")] = 0,
    rows_per_shard: Annotated[
        int, typer.Option(min=DRAWN_AT_ONCE, help="Rows that one task puts into a train and a test shard.")
    ] = ROWS_PER_SHARD,
    out: _Out = _OUT,
    workers: Workers = CORES,
    scheduler: _Scheduler = None,
    shards: _Shards = None,
) -> None:
    """Draw rows without labels from a space that is too large to list.

    A row depends on its space, the seed and its number alone: more rows, another shard size or other workers
    leave it as it is. Architectures are drawn anew for every thousand rows, so that some occur twice.

    Examples:

    - `python -m builders sample einspace --rows 100000 --out einspace-sample`

    - `python -m builders sample hnasbench201 --rows 5000 --seed 1`

    - `python -m builders sample einspace --rows 100000000 --shards $SLURM_ARRAY_TASK_ID/1000`
    """
    with one_message():
        where = _where(workers, scheduler, shards)
        folder = _folder(out, where)
        wanted = Sample(space, rows, seed, rows_per_shard)
        outcome = draw_sample(wanted, folder, where=where, progress=progress)
        console.print(build_table([outcome], folder))


@app.command("import")
def import_onnx(
    folder: Annotated[Path, typer.Argument(help="Folder of ONNX files.")],
    space: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Space that the networks belong to: one of ONNX-Bench, whose folder and splits are then "
            "found by the names of the release, or a new name.",
        ),
    ],
    metrics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Table of labels: columns `file` (path in FOLDER), `accuracy` (percent) and, where wanted, "
            "`dataset`, `label`, `split`, `epochs`, `seeds`. It comes before what the files say.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the accuracies were measured on, where neither table nor file says it.",
            show_default="cifar10 in the layout of the release",
        ),
    ] = None,
    out: _Out = _OUT,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Where to list the files that cannot be used, with the reason.",
            show_default="OUT-NAME-import.csv",
        ),
    ] = None,
    sources: _Sources = None,
    workers: Workers = CORES,
) -> None:
    """Make a space from ONNX files: rows without weights, in inference form, with the labels of the files.

    A label is the accuracy, in percent, in the metadata property `accuracy` of a file, in the layout of the
    ONNX-Bench release its first property, or a line of the table. Of files with the same network and the same
    label the first is kept. Files that cannot be used are listed, and the rest is built. Rows of the space
    that the dataset folder has are replaced.

    Examples:

    - `python -m builders import ~/ONNX-Bench --space einspace`

    - `python -m builders import ~/models --space my_models --metrics ~/accuracies.csv --dataset cifar100`
    """
    with one_message():
        wanted = Import(folder, space, metrics, dataset)
        listing = report or report_path(out, space)
        outcome, found = import_files(
            wanted, out, listing, sources=sources, workers=workers, progress=progress
        )
        console.print(build_table([outcome], out))
        for note in outcome.record.notes if outcome.record else ():
            console.print(f"{space}: {note}", style="yellow", highlight=False, markup=False)
        for file, result, reason in found.lines[:_SHOWN]:
            console.print(f"{file}: {result}: {reason}", highlight=False, markup=False, soft_wrap=True)
        if found.lines:
            console.print(
                f"all {len(found.lines):,} are in {listing}", highlight=False, markup=False, soft_wrap=True
            )


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.")] = Path("onnx-bench"),
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="Rows of each space that are recomputed from their graphs; all by default."),
    ] = None,
    workers: Workers = CORES,
) -> None:
    """Check every row of a built folder anew, without trusting the build; exit 1 on any failure.

    Files, digests, columns, ids, labels and the catalog are checked for all rows, whatever `--rows` says.

    Examples:

    - `python -m builders verify onnx-bench`

    - `python -m builders verify onnx-bench --rows 500`
    """
    with one_message():
        reports = verify_folder(folder, workers, progress, rows)
    console.print(verify_table(reports))
    for space, report in reports.items():
        for check, examples in report.examples.items():
            for example in examples:
                console.print(f"{space}, {check}: {example}", style="red", highlight=False, markup=False)
    if not all(report.ok for report in reports.values()):
        raise typer.Exit(1)


@app.command()
def proxies(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.")],
    spaces: Annotated[list[str], typer.Argument(metavar="SPACE...", help="Spaces whose rows are scored.")],
    names: Annotated[
        str, typer.Option("--proxies", metavar="NAME,...", help="Proxies, `onnx-bench proxies -h` has them.")
    ] = "synflow,naswot",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Rows of each space, drawn at random; all by default.")
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Inputs of noise that a network is shown.")] = 64,
    seed: Annotated[int, typer.Option(metavar="N", help="For weights, inputs and classes.")] = 0,
    workers: Workers = CORES,
) -> None:
    """Add zero-cost proxies to the metrics of rows in a dataset folder; needs PyTorch.

    What is interrupted goes on where it stopped. Building a space anew leaves its scores out.

    Examples:

    - `python -m builders proxies onnx-bench nasbench201 --limit 500`

    - `python -m builders proxies onnx-bench nasbench201 nasbench301 --proxies synflow --batch 32`
    """
    from builders.proxies import Scoring, add_scores

    with one_message():
        wanted = Scoring(tuple(dict.fromkeys(names.split(","))), limit, batch, seed)
        outcomes = add_scores(folder, spaces, wanted, workers=workers, progress=progress)
        console.print(build_table(outcomes, folder))


@app.command()
def retrain(
    table: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Table to write; what is finished is kept in FILE.journal."),
    ] = Path("digits.parquet"),
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first networks, of all spaces in turn.")
    ] = None,
    workers: Workers = CORES,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="What PyTorch trains on.")] = "cpu",
) -> None:
    """Train the networks of `digits` anew, and say how far their labels are from those of the package.

    It is also called `python -m builders digits --retrain`. What is interrupted goes on where it stopped.

    Examples:

    - `python -m builders digits --retrain`

    - `python -m builders digits --retrain --limit 60 --table /tmp/digits.parquet`
    """
    with one_message():
        made = retraining.retrain(table, limit, workers=workers, device=device, progress=progress)
        typer.echo(digits_noise.markdown(made))
        typer.echo(digits_noise.agreement(made, digits_table.read()))


app.command("texts")(measure_texts)
app.command("compare")(compare_texts)
app.command("pictures")(draw_pictures)
app.command("noise")(measure_noise)
app.command("blind")(measure_blind)
app.command("design")(measure_designs)
app.command("predictor")(make_predictor)
app.command("results")(write_results)


def _where(workers: int, scheduler: str | None, shards: str | None) -> Where:
    return Where(workers, scheduler, Part.parse(shards) if shards else None)


def _folder(out: Path, where: Where) -> Path:
    return where.part.folder(out) if where.part else out


def _build(
    spaces: list[str] | None, out: Path, sources: Path | None, where: Where, limit: int | None
) -> None:
    unknown = [space for space in spaces or () if space not in BENCHMARKS]
    if without_table := [space for space in unknown if space in SPACES]:
        raise UnknownNameError(
            f"{', '.join(without_table)} has no published table of labels: `python -m builders import` makes "
            "its rows of ONNX files, `python -m builders sample` of architectures drawn at random"
        )
    if unknown:
        raise UnknownNameError(f"no space is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    chosen = [BENCHMARKS[space] for space in dict.fromkeys(spaces or BENCHMARKS)]
    outcomes = build_spaces(chosen, out, sources=sources, where=where, limit=limit, progress=progress)
    console.print(build_table(outcomes, out))
    for outcome in outcomes:
        for source in outcome.record.sources if outcome.record else ():
            console.print(
                f"{outcome.space}: {source.path} ({source.origin})", highlight=False, soft_wrap=True
            )
        for note in outcome.record.notes if outcome.record else ():
            console.print(f"{outcome.space}: {note}", style="yellow", highlight=False)
    skipped = [outcome for outcome in outcomes if outcome.record is None]
    for outcome in skipped:
        console.print(f"{outcome.space} was skipped: {outcome.reason}", style="yellow", highlight=False)
    if skipped and [outcome.space for outcome in outcomes if outcome.record] == [DIGITS]:
        console.print(
            f"{DIGITS} was built, whose labels come with this package. For the published benchmarks run the "
            "same command with a network, or with their files in a folder that --sources names "
            "(builders/sources.csv lists them)",
            highlight=False,
        )
    if len(skipped) == len(outcomes) or (spaces and skipped):
        raise typer.Exit(1)
    if where.part:
        console.print(f"Join all {where.part.count} parts with python -m builders merge", highlight=False)
        return
    console.print(
        f'Load it beside the folder with datasets.load_dataset("{out.name}"), check it with '
        f"python -m builders verify {out}",
        highlight=False,
    )


def main(arguments: Sequence[str]) -> None:
    """Run the command line; arguments that begin with no command are those of `build`."""
    commands = {each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands}
    if arguments[:1] == [DIGITS] and "--retrain" in arguments:
        arguments = ["retrain", *(each for each in arguments[1:] if each != "--retrain")]
    is_command = arguments and arguments[0] in {*commands, "--help", "-h"}
    app([*arguments] if is_command else ["build", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
