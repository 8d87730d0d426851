"""The command `python -m builders predictor`: makes the default predictor of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builders.console import console, one_message
from onnx_bench_dataset.surrogates.prediction import DEFAULT


def make_predictor(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.")] = Path("onnx-bench"),
    rows: Annotated[int, typer.Option(min=100, help="Rows to learn from and to calibrate with.")] = 50_000,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="File to write.", show_default="the package's")
    ] = DEFAULT,
) -> None:
    """Make the predictor of `onnx-bench predict` from the trained labels of a dataset folder.

    The same folder makes the same file, to the last byte, on one machine. Needs the extra `predict`.

    Examples:

    - `python -m builders predictor onnx-bench`

    - `python -m builders predictor my-spaces --rows 5000 --out mine.onnxbench`
    """
    from builders import predictor  # loads LightGBM, which no other command waits for

    with one_message():
        made = predictor.make(folder, out, rows).made
        for space, count in made["train"].items():
            console.print(f"{space}: {count:,} rows, {made['calibrate'].get(space, 0):,} to calibrate")
        typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.2f} MB), of data {made['data']}")
