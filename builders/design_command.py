"""The command `python -m builders design`: measure designs without search, and write the tables.

PyTorch is loaded when the command runs, which no other command waits for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from builders import design_tables, marks
from builders.console import console, one_message
from builders.sources import Sources
from onnx_bench_dataset.loading import NAME


def measure_designs(
    data: Annotated[str, typer.Option(metavar="PATH", help="Data set: a folder or a repository.")] = NAME,
    sources: Annotated[
        Path | None,
        typer.Option(
            envvar="ONNX_BENCH_SOURCES",
            help="Folder of published files, with the surrogate of NAS-Bench-301.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often to learn and design.")] = 20,
    ablation_seeds: Annotated[int, typer.Option(min=1, help="How often in each ablation.")] = 20,
    predictor: Annotated[str, typer.Option(help="Predictor to compare with.")] = "features",
    out: Annotated[Path, typer.Option(metavar="FILE", help="JSON to write.")] = Path("results/design.json"),
    docs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md", help="Document with a place for the tables; without it they are printed."
        ),
    ] = None,
) -> None:
    """Measure designs without search on NAS-Bench-101, NAS-Bench-201 and DARTS, with baselines and ablations.

    Example: `python -m builders design --data onnx-bench --docs docs/design.md`
    """
    with one_message("nothing is kept"):
        from builders.designs import Truth, ablations, measure
        from onnx_bench_dataset.design import measured_cells

        if docs:
            marks.check(docs, design_tables.MARK)
        truth = Truth(data, measured_cells(data), Sources(sources))
        results = measure(truth, seeds, predictor, console.print)
        _write(out, results)
        for name, summary in ablations(truth, ablation_seeds, console.print):
            results["ablations"][name] = summary
            _write(out, results)
        text = design_tables.markdown(results)
        if docs:
            marks.fill(docs, design_tables.MARK, text)
        else:
            typer.echo(text)


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
