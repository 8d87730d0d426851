"""Publish a dataset folder on the Hugging Face Hub: `python upload.py NAMESPACE/NAME`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from builders.console import console, one_message, progress
from builders.hub import HubRepository
from builders.publishing import ROWS, publish, refuse_differences

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def upload(
    name: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="Repository on the Hub.")],
    folder: Annotated[Path, typer.Option(help="Dataset folder to publish.")] = Path("onnx-bench"),
    private: Annotated[bool, typer.Option("--private", help="Make a new repository a private one.")] = False,
    tag: Annotated[
        str | None, typer.Option(metavar="vX.Y.Z", help="Version to call what is published by.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and send nothing.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only compare the folder with what is published (newest, or --tag); exit 1 if they differ.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a repository's other files, which are not of this data set."),
    ] = False,
    rows: Annotated[
        int,
        typer.Option(
            min=1,
            help="Rows of each space that are recomputed from their graphs; the rest is checked for all.",
        ),
    ] = ROWS,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Address of the Hub.", show_default="HF_ENDPOINT or the public one"),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that verify.", show_default="one per core")
    ] = os.cpu_count() or 1,
) -> None:
    """Publish a dataset folder on the Hugging Face Hub; what is interrupted goes on where it stopped.

    The folder is verified first. What the Hub has already is not sent again, what the folder no longer has
    is deleted, and in the end the Hub's files are compared with those of the folder. The token is that of
    `HF_TOKEN` or of `hf auth login`.

    Examples:

    - `python upload.py someone/onnx-bench --tag v1.0.0`

    - `python upload.py someone/onnx-bench --folder /tmp/onnx-bench --private --dry-run`

    - `python upload.py --check someone/onnx-bench`
    """
    with one_message("what was sent is kept"):
        repository = HubRepository(name, endpoint)
        if check:
            refuse_differences(folder, repository, tag or "main")
            _say(f"{name} at {tag or 'main'} serves what {folder} holds")
        else:
            publish(
                folder,
                repository,
                private=private,
                tag=tag,
                dry_run=dry_run,
                force=force,
                rows=rows,
                workers=workers,
                progress=progress,
                say=_say,
            )
        if not dry_run:
            _say(repository.url)


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    app()
