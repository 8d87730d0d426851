"""Commands of `python -m builders` that measure a dataset folder, and fill documents with what they find."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builders import digits_noise, marks
from builders.console import CORES, Workers, one_message, progress
from builders.texts import LEAST_VOCABULARY, MARK, measure, tables
from onnx_bench_dataset.digits import table as digits_table
from onnx_bench_dataset.loading import NAME


def measure_texts(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows of each space to measure.")] = 5_000,
    vocabulary: Annotated[
        int, typer.Option(min=LEAST_VOCABULARY, help="Tokens that the tokenizer of a style has.")
    ] = 8_000,
    every_row: Annotated[
        bool, typer.Option("--all", help="Decode the texts of all rows, not of the measured ones alone.")
    ] = False,
    workers: Workers = CORES,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Put the tables into this file, between the marks `<!-- texts -->` and `<!-- /texts -->`. "
            "Without it they are printed.",
        ),
    ] = None,
) -> None:
    """Measure how long texts are in every style, in characters and tokens, and how many decode exactly.

    Examples:

    - `python -m builders texts onnx-bench`

    - `python -m builders texts onnx-bench --rows 500 --vocabulary 2000`

    - `python -m builders texts onnx-bench --all --out docs/text.md`
    """
    with one_message():
        if out:
            marks.check(out, MARK)
        made = tables(measure(folder, rows, vocabulary, every_row, workers, progress), vocabulary)
        if out:
            marks.fill(out, MARK, made)
    if not out:
        typer.echo(made)


def compare_texts(
    folder: Annotated[Path, typer.Argument(help="Dataset folder, with nasbench101 and nasbench201.")] = Path(
        "onnx-bench"
    ),
    rows: Annotated[int, typer.Option(min=2, help="Rows of a space to train on, and to rank.")] = 1_000,
    epochs: Annotated[int, typer.Option(min=1, help="Times that a row is seen.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each kind.")] = 2,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens of a text; the rest is cut.")] = 512,
    workers: Workers = CORES,
    out: Annotated[Path, typer.Option(metavar="FILE", help="What was found, as JSON.")] = Path(
        "results/texts.json"
    ),
) -> None:
    """Compare how well our text and that of ONNX-Net rank networks, read by the same small language model.

    It is trained alike on texts of either style, on NAS-Bench-101 and on NAS-Bench-201, and ranks held-out
    rows of both. Takes about twenty minutes of a core; needs the extra `neural`.

    Examples:

    - `python -m builders compare onnx-bench`

    - `python -m builders compare onnx-bench --rows 200 --seeds 1 --out /tmp/texts.json`
    """
    from builders import style_ranking  # loads PyTorch, which no other command waits for

    with one_message():
        budget = style_ranking.Budget(rows, rows, epochs, seeds, max_length)
        found = style_ranking.compare(folder, budget, workers, progress)
        style_ranking.write(found, out)
        typer.echo(style_ranking.table(found))


def measure_blind(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Data set: a folder or a repository.")] = NAME,
    panels: Annotated[int, typer.Option(min=1, help="Groups of features to choose.")] = 50,
    rows: Annotated[int, typer.Option(min=10, help="Rows of each space that the choice sees.")] = 1_000,
    seeds: Annotated[int, typer.Option(min=1, help="Times that all is drawn and fitted anew.")] = 3,
    test_rows: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Rows of a space that test at most.", show_default="all"),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of results.")] = Path("results"),
) -> None:
    """Measure the predictor `features` on families that took no part in the choice of its features.

    For each family, the features that carry over are chosen by what carries over among the others alone. The
    results stand beside those of `onnx-bench evaluate`. Needs the extra `predict`; takes half an hour.

    Examples:

    - `python -m builders blind onnx-bench --test-rows 5000`

    - `python -m builders blind onnx-bench --panels 5 --rows 200 --seeds 1 --test-rows 500 --out /tmp/results`
    """
    from builders import panels as choice  # loads LightGBM, which no other command waits for
    from onnx_bench_dataset.surrogates import evaluate

    with one_message("nothing is kept"):
        budget = choice.Budget(panels, rows, seeds, test_rows)
        found = choice.measure_blind(data, budget, progress)
        for protocol, measured in found.items():
            target = out / protocol / f"{choice.NAME}.json"
            evaluate.write(target, choice.NAME, protocol, measured, {"data": data, **budget._asdict()})
            typer.echo(f"wrote {target}")


def draw_pictures(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.")] = Path("onnx-bench"),
    sample: Annotated[
        int, typer.Option(min=1, help="Networks of each space whose operations are counted.")
    ] = 2_000,
    workers: Workers = CORES,
) -> None:
    """Draw pictures of a dataset folder into it, and show them in its card.

    Accuracies and sizes of each space, accuracy against multiply-accumulates, and how far apart the spaces
    are in the operations that they use. A later build takes the pictures away: they would show old data.

    Examples:

    - `python -m builders pictures onnx-bench`

    - `python -m builders pictures onnx-bench --sample 500`
    """
    from builders.pictures import draw  # loads matplotlib, which no other command waits for

    with one_message():
        for path in draw(folder, sample, workers, progress):
            typer.echo(path)


def measure_noise(
    table: Annotated[
        Path, typer.Option(metavar="FILE", help="Table of measured accuracies.", show_default="the package's")
    ] = digits_table.BUNDLED,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Put the result into this file, between the marks `<!-- digits -->` and `<!-- /digits -->`. "
            "Without it, it is printed.",
        ),
    ] = None,
) -> None:
    """Measure how much the labels of `digits` differ between seeds, and how well one seed ranks as another.

    Examples:

    - `python -m builders noise`

    - `python -m builders noise --out docs/digits.md`
    """
    with one_message():
        made = digits_noise.markdown(digits_table.read(table))
        if out:
            marks.fill(out, digits_noise.MARK, made)
    if not out:
        typer.echo(made)


def write_results(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the JSON files of `onnx-bench evaluate`.")
    ] = Path("results"),
    out: Annotated[Path, typer.Option(metavar="FILE.md", help="Page to write.")] = Path("RESULTS.md"),
) -> None:
    """Make the page of results, tables and pictures, of what was measured.

    Examples:

    - `python -m builders results`

    - `python -m builders results ~/results --out /tmp/RESULTS.md`
    """
    with one_message():
        from builders import results  # draws pictures, which no other command waits for

        out.write_text(results.page(folder), encoding="utf-8")
    typer.echo(f"wrote {out}")
