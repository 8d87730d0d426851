"""The page of results: tables of measured predictors beside published figures, and pictures of them.

It is made of the JSON files that `onnx-bench evaluate` and `python -m builders` write, and of nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

from builders import design_tables, style_ranking
from onnx_bench_dataset import spaces
from onnx_bench_dataset.drawing import draw
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.surrogates import evaluate
from onnx_bench_dataset.surrogates.evaluate import Measured

PICTURES = Path("docs/images")
"""Where pictures lie, beside the page."""


class Published(NamedTuple):
    """What others report of a task like one of ours."""

    task: str
    """How the name of our task begins."""
    space: str
    figure: str
    """Which figure: `rho` or `tau`."""
    value: float
    method: str
    source: str
    differs: str
    """What is otherwise there."""


_ONNX_NET = ("ONNX-Net", "arXiv 2510.04938", "the model is selected on the tested space")
_GENNAPE = ("GENNAPE", "arXiv 2211.17226", "")
_NN_FORMER = ("NN-Former", "arXiv 2507.00880", "rows that trained test, too")
PUBLISHED = (
    Published("nasbench101 (50,000) to", "nasbench201", "rho", 0.747, *_ONNX_NET),
    Published("nasbench101 (200) to", "nasbench201", "rho", 0.739, *_ONNX_NET),
    Published("nasbench101 (5,000) to", "nasbench201", "rho", 0.760, *_ONNX_NET),
    Published("nasbench101 (50,000) to", "nasbench201", "rho", 0.815, *_GENNAPE),
    Published("all but nasbench201", "all of the family", "tau", 0.390, *_ONNX_NET),
    Published("nasbench101, 0.02%", "nasbench101", "tau", 0.709, *_NN_FORMER),
    Published("nasbench101, 1.00%", "nasbench101", "tau", 0.877, *_NN_FORMER),
    Published("nasbench201, 1.00%", "nasbench201", "tau", 0.804, *_NN_FORMER),
    Published("nasbench201, 10.00%", "nasbench201", "tau", 0.890, *_NN_FORMER),
)
"""Figures of papers; a share of labels as in `protocols.WITHIN_SHARES`."""

_TITLES = {
    "zero-shot": "NAS-Bench-101 to NAS-Bench-201, without a label of the latter",
    "leave-one-family-out": "One family left out",
    "within-space": "Few labels of one space",
    "within-space-published": "Few labels of one space, isomorphic copies of what trains among the tests",
    "pairs": "Every space to every other, 5,000 rows of one alone",
    "few-shot": "Other spaces, and a few labels of the tested one",
}

_SYMBOL = {"rho": "ρ", "tau": "τ"}


class _Result(NamedTuple):
    predictor: str
    rows: list[Measured]


def page(folder: Path) -> str:
    """Return the page of the results in a folder, and draw its pictures into `docs/images` beside the folder.

    Raises:
        BuildError: there are no results.
        PredictorError: a file holds none.
    """
    found = {protocol: _read(folder / protocol) for protocol in _TITLES}
    if not any(found.values()):
        raise BuildError(f"{folder} holds no results: make some with `onnx-bench evaluate`")
    parts = [_INTRODUCTION]
    for protocol, results in found.items():
        if results:
            parts += [f"## {_TITLES[protocol]}", *_section(protocol, results, folder.parent / PICTURES)]
    texts = folder / "texts.json"
    if texts.exists():
        made = json.loads(texts.read_text(encoding="utf-8"))
        parts += ["## Texts of two styles under one recipe", style_ranking.table(made)]
    designs = folder / "design.json"
    if designs.exists():
        made = json.loads(designs.read_text(encoding="utf-8"))
        parts += ["## Architectures designed without search", design_tables.markdown(made)]
        parts += design_pictures(made["spaces"], folder.parent / PICTURES)
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """# Results

Kendall's τ and Spearman's ρ between predictions and accuracies, means over training seeds ± their deviation;
in brackets the 95 % interval over test rows. *Regret* is how many points of accuracy the best of the 1 %
predicted best lies below the best, *precision* the share of those 1 % that are among the best 1 %. Nothing of
a tested space is seen before it is predicted. Figures of papers are as they report them, with what is
otherwise there. `onnx-bench evaluate PREDICTOR --protocol …` makes each file in `results/`, `python -m
builders results` this page.

The few features by which `features` carries over to other spaces were chosen while transfers between all
spaces of the data set could be seen, those of these tables among them; everything else is learned from
training rows alone ([docs/predictors.md](docs/predictors.md)). Published methods that are marked so choose
their model on the tested space, too."""


def _read(folder: Path) -> list[_Result]:
    results = []
    for path in sorted(folder.glob("*.json")):
        about, rows = evaluate.read(path)
        results.append(_Result(str(about["predictor"]), rows))
    return results


def _section(protocol: str, results: Sequence[_Result], pictures: Path) -> Iterator[str]:
    if protocol in _GRIDS:
        for result in results:
            yield _grid(result, *_GRIDS[protocol])
        return
    every = [row for result in results for row in result.rows]
    tested = list(dict.fromkeys((row.task, row.space, row.label) for row in every))
    for task, space, label in tested:
        rows = [
            (result.predictor, row)
            for result in results
            for row in result.rows
            if (row.task, row.space) == (task, space)
        ]
        yield _table(task, space, label, rows)
    drawn = _scatter(protocol, results, pictures)
    if drawn:
        yield f"![Predicted rank and accuracy]({PICTURES}/{drawn})"
    if protocol == "zero-shot":
        yield f"![τ against training rows]({PICTURES}/{_curve(results, pictures)})"


def _table(task: str, space: str, label: str, rows: Sequence[tuple[str, Measured]]) -> str:
    first = rows[0][1]
    surrogate = "" if label == "trained" else f"; labels: {label}"
    lines = [
        f"**{task}**, tested on {space} ({first.test_rows:,} rows{surrogate})",
        "",
        "| predictor | τ | ρ | regret | precision |",
        "| --- | --- | --- | --: | --: |",
    ]
    ordered = sorted(rows, key=lambda each: -each[1].mean.tau)
    for predictor, row in ordered:
        fewer = "" if row.test_rows == first.test_rows else f" ({row.test_rows:,} rows)"
        lines.append(
            f"| `{predictor}`{fewer} | {row.mean.tau:.3f} ± {row.deviation.tau:.3f} "
            f"({row.low.tau:.2f} to {row.high.tau:.2f}) | {row.mean.rho:.3f} ± {row.deviation.rho:.3f} "
            f"({row.low.rho:.2f} to {row.high.rho:.2f}) | {row.mean.regret:.2f} | {row.mean.precision:.2f} |"
        )
    for known in PUBLISHED:
        if task.startswith(known.task) and space == known.space:
            values = {"tau": "", "rho": "", known.figure: f"{known.value:.3f}"}
            differs = f"; {known.differs}" if known.differs else ""
            lines.append(
                f"| {known.method}, as published ({known.source}{differs}) | {values['tau']} | "
                f"{values['rho']} | | |"
            )
    return "\n".join(lines)


def _grid(result: _Result, pattern: str, line: str, column: str) -> str:
    """Return the τ of many tasks, where they differ in two things that their names say."""
    found: dict[str, dict[str, str]] = {}
    for row in result.rows:
        match = re.fullmatch(pattern, row.task)
        assert match is not None, row.task
        cell = f"{row.mean.tau:.3f} ± {row.deviation.tau:.3f}"
        found.setdefault(match[line], {})[match[column]] = cell
    columns = list(dict.fromkeys(name for cells in found.values() for name in cells))
    rows = " to ".join(dict.fromkeys(f"{f(row.test_rows for row in result.rows):,}" for f in (min, max)))
    surrogates = dict.fromkeys(row.space for row in result.rows if row.label != "trained")
    return "\n".join(
        [
            f"τ of `{result.predictor}`, {rows} rows tested"
            + "".join(f"; labels of {space} are a surrogate's" for space in surrogates),
            "",
            f"| ↓ {line.replace('_', ' ')}, → {column.replace('_', ' ')} | {' | '.join(columns)} |",
            f"| --- |{' --: |' * len(columns)}",
            *[
                f"| {name} | {' | '.join(cells.get(column, '') for column in columns)} |"
                for name, cells in found.items()
            ],
        ]
    )


_GRIDS = {
    "pairs": (r"(?P<trained_on>\w+) \(.*\) to (?P<tested_on>\w+)", "trained_on", "tested_on"),
    "few-shot": (r"others and (?P<labels>\d+) rows to (?P<tested_on>\w+)", "tested_on", "labels"),
}
"""Protocols of many tasks: what their names say, and what of it is a line and a column of a table."""


def _scatter(protocol: str, results: Sequence[_Result], pictures: Path) -> str:
    """Draw predicted rank and accuracy for every test of the predictor with the highest mean τ."""
    if protocol not in ("zero-shot", "leave-one-family-out"):
        return ""
    best = max(results, key=lambda result: np.mean([row.mean.tau for row in result.rows]))
    rows = [row for row in best.rows if not row.space.startswith("all of")]
    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4 * columns, 3 * lines), squeeze=False)
    for axis, row in zip(axes.flat, rows, strict=False):
        rank, accuracy = np.array(row.points).T
        axis.scatter(100 * rank, accuracy, s=6, alpha=0.5, linewidths=0)
        axis.set_ylim(*_range(accuracy))
        axis.set_title(f"{row.task}\n{row.space}: τ {row.mean.tau:.2f}", fontsize=9)
        axis.set_xlabel("predicted rank, percent", fontsize=8)
        axis.set_ylabel("accuracy", fontsize=8)
    for axis in list(axes.flat)[len(rows) :]:
        axis.set_axis_off()
    figure.suptitle(f"`{best.predictor}`", fontsize=10)
    return _saved(figure, pictures, f"{protocol}.png")


def _range(accuracy: Any) -> tuple[float, float]:
    """Return the range that shows all but the lowest twentieth, which may be far below."""
    low, high = np.quantile(accuracy, 0.05), accuracy.max()
    margin = 0.05 * (high - low) + 1e-3
    return float(low - margin), float(high + margin)


def _curve(results: Sequence[_Result], pictures: Path) -> str:
    figure, axis = plt.subplots(figsize=(6, 4))
    for result in results:
        sizes = [row.train_rows for row in result.rows]
        axis.errorbar(
            sizes,
            [row.mean.tau for row in result.rows],
            [row.deviation.tau for row in result.rows],
            marker="o",
            markersize=3,
            label=result.predictor,
        )
    axis.set_xscale("log")
    axis.set_xlabel("training rows of NAS-Bench-101")
    axis.set_ylabel("τ on NAS-Bench-201")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return _saved(figure, pictures, "zero-shot-rows.png")


def design_pictures(found: Mapping[str, Any], pictures: Path) -> Iterator[str]:
    """Draw quartiles of accuracies beside those of baselines, and the first design of the first seed."""
    figure, axes = plt.subplots(len(found), 1, figsize=(8, 2 + 2 * len(found)), squeeze=False)
    for axis, (space, one) in zip(axes.flat, found.items(), strict=True):
        methods = list(one["methods"].items())[::-1]
        for place, (_, method) in enumerate(methods):
            axis.plot(method["quartiles"], [place, place], linewidth=5, solid_capstyle="butt", color="C0")
            axis.plot(method["median"], place, "o", color="black", markersize=4)
        axis.axvline(one["99th percentile"], color="C3", linestyle="--", linewidth=1)
        axis.set_yticks(range(len(methods)), [name for name, _ in methods], fontsize=8)
        axis.set_ylim(-0.7, len(methods) - 0.3)
        axis.set_title(design_tables.TITLES[space], fontsize=9)
        axis.grid(axis="x", alpha=0.3)
    axes.flat[-1].set_xlabel(
        "quartiles and median, percent; dashed: 99th percentile of the space", fontsize=8
    )
    yield f"![Accuracies of designs and of baselines]({PICTURES}/{_saved(figure, pictures, 'designs.png')})"
    for space, one in found.items():
        name = f"design-{space}.png"
        (pictures / name).write_bytes(draw(spaces.get(space).diagram(one["example"]), "png"))
        yield f"The first design of the first seed for {space}:"
        yield f"![A design for {space}]({PICTURES}/{name})"


def _saved(figure: Any, pictures: Path, name: str) -> str:
    pictures.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(pictures / name, dpi=90, metadata={"Software": None})
    plt.close(figure)
    return name
