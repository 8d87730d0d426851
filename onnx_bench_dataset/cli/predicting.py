"""The command `predict`: how accurate networks become, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnx_bench_dataset.cli.commands import app, one_message
from onnx_bench_dataset.cli.files import STANDARD
from onnx_bench_dataset.cli.info import printable
from onnx_bench_dataset.errors import OnnxBenchError
from onnx_bench_dataset.graphs.network import Network
from onnx_bench_dataset.surrogates import Predictor, predictor_file, registry
from onnx_bench_dataset.surrogates.features import NAMES
from onnx_bench_dataset.surrogates.prediction import (
    CALIBRATION,
    Estimate,
    calibrated_predictor,
    default_predictor,
)
from onnx_bench_dataset.surrogates.reading import features_of_model, parse

if TYPE_CHECKING:  # an extra, which no other command waits for
    from onnx_bench_dataset.surrogates.calibrated import CalibratedPredictor

_console = Console()
_errors = Console(stderr=True)


@app.command("predict")
def predict_networks(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL.onnx...", help="ONNX files; `-` is standard input.")
    ],
    predictor: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A predictor that was saved; unless `python -m builders predictor` made it, it tells scores "
            "alone.",
            show_default="the predictor of this package",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same, and more, as JSON.")] = False,
) -> None:
    """Predict how accurate networks become on CIFAR-10, without training them.

    For each network: where it stands among networks of known accuracy, in percent of them that it is above;
    its expected test accuracy; both with intervals that hold nine in ten; the most similar networks of known
    accuracy; and how unlike everything known it is, from 0 to 1. Weights are not read. Files that cannot be
    used are named, and the rest is predicted.

    Examples:

    - `onnx-bench predict net.onnx`

    - `onnx-bench predict candidates/*.onnx --json | jq '.predictions[] | [.file, .accuracy.value]'`

    - `onnx-bench predict net.onnx --predictor mine.onnxbench`
    """
    with one_message():
        chosen = _read_predictor(predictor)
        wanted = list(dict.fromkeys(models))
        files, networks = _read_networks(wanted, _reads_features(chosen))
        made: Mapping[str, Any] = {}
        if isinstance(chosen, Predictor):
            rows = _scored(chosen, networks)
        else:
            rows, made = _predicted(chosen, networks), chosen.made
        named = [{"file": file, **row} for file, row in zip(files, rows, strict=True)]
        if as_json:
            typer.echo(json.dumps({"predictor": dict(made), "predictions": named}, indent=2))
        else:
            for table in _tables(named):
                _console.print(table)
            if made:
                _console.print(f"learned from {made['rows']:,} rows of data {made['data']}", style="dim")
    if len(files) < len(wanted):
        raise typer.Exit(1)


def _read_predictor(path: Path | None) -> CalibratedPredictor | Predictor:
    if path is None:
        return default_predictor()
    if CALIBRATION not in predictor_file.read(path)[2]:
        return registry.load(path)
    return calibrated_predictor(path)


def _reads_features(predictor: CalibratedPredictor | Predictor) -> bool:
    return not isinstance(predictor, Predictor) or predictor.name == "features"


def _read_networks(files: Sequence[str], as_features: bool) -> tuple[list[str], list[Any]]:
    """Return the files that can be used, and features or the row of each; say what is wrong with others."""
    found: dict[str, Any] = {}
    for file in files:
        try:
            content = sys.stdin.buffer.read() if file == STANDARD else Path(file).read_bytes()
            model = parse(content, "it")
            found[file] = features_of_model(model) if as_features else Network.from_model(model)._asdict()
        except (OnnxBenchError, OSError) as error:
            reason = error.strerror or error if isinstance(error, OSError) else error
            message = Text(f"error: {printable(f'{file}: {reason}')}", style="bold red")
            _errors.print(message, highlight=False, soft_wrap=True)
    return list(found), list(found.values())


def _matrix(networks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.array(networks, np.float32).reshape(-1, len(NAMES))


def _scored(predictor: Predictor, networks: Sequence[Any]) -> list[dict[str, Any]]:
    """Return scores, and unlikeness where the predictor tells it."""
    if not networks:
        return []
    if not _reads_features(predictor):
        import pyarrow as pa

        return [{"score": score} for score in predictor.predict(pa.Table.from_pylist(networks)).tolist()]
    from onnx_bench_dataset.surrogates.graph_features import GraphFeatures

    assert isinstance(predictor, GraphFeatures)
    explained = zip(*(each.tolist() for each in predictor.explain(_matrix(networks))), strict=True)
    return [{"score": score, "unlikeness": unlikeness} for score, unlikeness in explained]


def _predicted(predictor: CalibratedPredictor, networks: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            **each._asdict(),
            "percentile": each.percentile._asdict(),
            "accuracy": each.accuracy._asdict(),
            "nearest": [neighbour._asdict() for neighbour in each.nearest],
        }
        for each in predictor.predict(_matrix(networks))
    ]


def _tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Return the tables that show predictions and the nearest known networks, or scores alone."""
    if not rows:
        return []
    if "accuracy" not in rows[0]:
        scores = _table(*rows[0])
        for row in rows:
            values = (f"{value:.4g}" for name, value in row.items() if name != "file")
            scores.add_row(printable(row["file"]), *values)
        return [scores]
    predictions = _table("file", "above, % of known", "accuracy, %", "unlikeness")
    nearest = _table("file", "nearest known", "accuracy, %", "distance")
    for row in rows:
        file = printable(row["file"])
        intervals = (_interval(row["percentile"], 0), _interval(row["accuracy"], 1))
        predictions.add_row(file, *intervals, f"{row['unlikeness']:.2f}")
        for each in row["nearest"]:
            nearest.add_row(file, each["id"], f"{each['accuracy']:.1f}", f"{each['distance']:.2f}")
    return [predictions, nearest]


def _table(*columns: str) -> Table:
    table = Table()
    for name in columns:
        is_text = name in ("file", "nearest known")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    return table


def _interval(estimate: Mapping[str, float], digits: int) -> str:
    value, low, high = (f"{estimate[name]:.{digits}f}" for name in Estimate._fields)
    return f"{value} ({low} to {high})"
