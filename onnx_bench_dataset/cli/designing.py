"""The command `design`: new architectures of what experts' best cells have in common, written as files.

PyTorch is loaded when the command runs, which no other command waits for.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from onnx_bench_dataset import spaces
from onnx_bench_dataset.cli.commands import app, one_message
from onnx_bench_dataset.cli.files import check_free, serialized, write
from onnx_bench_dataset.drawing import draw
from onnx_bench_dataset.errors import OnnxBenchError
from onnx_bench_dataset.loading import NAME
from onnx_bench_dataset.text import encode

if TYPE_CHECKING:
    from onnx_bench_dataset.design import Design

_TABLE = "designs.csv"


@app.command("design")
@one_message()
def design_architectures(
    space: Annotated[
        str, typer.Option(metavar="SPACE", help="nasbench101, nasbench201 or nasbench301.")
    ] = "nasbench101",
    count: Annotated[int, typer.Option("-n", min=1, help="Architectures to design.")] = 10,
    experts: Annotated[int, typer.Option(metavar="K", help="Best cells to learn from.")] = 20,
    expert_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Learn from these: an architecture of NAS-Bench-101 on each line."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="For all that is drawn.")] = 0,
    data: Annotated[
        str, typer.Option(metavar="PATH", help="Data set: a folder or a repository on the Hugging Face Hub.")
    ] = NAME,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write into.")] = Path("designs"),
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Design new architectures without search; needs PyTorch.

    A graph attention network learns from the best cells of NAS-Bench-101 which vertices they link and by
    which operations. What is designed is no expert and no isomorphic twin of one, and nobody looks at its
    accuracy. For each design there are its graph, with weights as inputs, its text and a picture of its cell;
    `designs.csv` lists them, the best first.

    Examples:

    - `onnx-bench design`

    - `onnx-bench design --space nasbench301 -n 3 --out darts-cells`

    - `onnx-bench design --space nasbench201 --experts 50 --seed 1`

    - `onnx-bench design --expert-file my-cells.txt`
    """
    check_free(str(out / _TABLE), force)
    designs = _designed(space, count, experts, expert_file, seed, data)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OnnxBenchError(f"cannot make {out}: {error.strerror or error}") from error
    table = Table("design", "weight")
    table.add_column("architecture", overflow="fold")
    for number, found in enumerate(designs):
        name = f"{space}-{number:03}"
        write_design(space, found.architecture, out / name, force)
        table.add_row(name, f"{found.weight:.2f}", found.architecture)
    write(str(out / _TABLE), _csv(space, designs), force)
    Console().print(table)
    typer.echo(f"wrote {len(designs):,} designs into {out}")


def write_design(space: str, architecture: str, path: Path, force: bool = False) -> None:
    """Write the graph, the text and the picture of an architecture as `path` with .onnx, .txt and .png."""
    chosen = spaces.get(space)
    model = chosen.model(architecture)
    files = {
        ".onnx": serialized(model),
        ".txt": encode(model).removesuffix("\n").encode() + b"\n",
        ".png": draw(chosen.diagram(architecture), "png"),
    }
    for suffix, content in files.items():
        write(f"{path}{suffix}", content, force)


def _designed(
    space: str, count: int, experts: int, expert_file: Path | None, seed: int, data: str
) -> list[Design]:
    """Learn and design.

    Raises:
        OnnxBenchError: PyTorch is not installed, or what is asked for cannot be had.
    """
    from onnx_bench_dataset.design import check_space, design, learn, measured_cells, read_experts

    check_space(space)
    given = read_experts(expert_file) if expert_file else None
    cells = measured_cells(data)
    knowledge = cells.knowledge(experts, seed)
    if given:
        knowledge = knowledge._replace(experts=given, ranked_by=f"listed in {expert_file}")
    return design(space, learn(knowledge, seed), count, seed)


def _csv(space: str, designs: Sequence[Design]) -> bytes:
    content = io.StringIO()
    lines = csv.writer(content, lineterminator="\n")
    lines.writerow(("design", "weight", "architecture"))
    for number, found in enumerate(designs):
        lines.writerow((f"{space}-{number:03}", f"{found.weight:.4f}", found.architecture))
    return content.getvalue().encode()
