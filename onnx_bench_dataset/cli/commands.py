"""The commands of `onnx-bench`: models to text and back, what is in a model, looking at a network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import track
from rich.text import Text

from onnx_bench_dataset import __version__
from onnx_bench_dataset.cli.export import Layout, Row, export_rows, read_quietly
from onnx_bench_dataset.cli.files import (
    STANDARD,
    check_free,
    read_model,
    read_text,
    serialized,
    weights_as_inputs,
    write,
)
from onnx_bench_dataset.cli.info import facts, printable, tables
from onnx_bench_dataset.cli.scoring import scored, scores_table
from onnx_bench_dataset.cli.viewing import (
    file_name,
    find_diagram,
    find_model,
    find_obstacle,
    for_viewing,
    view,
)
from onnx_bench_dataset.drawing import FORMATS, draw
from onnx_bench_dataset.errors import OnnxBenchError
from onnx_bench_dataset.graphs import fill_weights, simplify
from onnx_bench_dataset.loading import NAME
from onnx_bench_dataset.text import STYLES, decode, encode

_console = Console()
_errors = Console(stderr=True)

app = typer.Typer(
    name="onnx-bench",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Networks of neural architecture search as ONNX graphs and as text.

    `onnx-bench COMMAND -h` shows the options of a command, with examples.""",
)

_ModelFile = Annotated[str, typer.Argument(metavar="MODEL.onnx", help="ONNX file; `-` is standard input.")]
_Data = Annotated[
    str, typer.Option(metavar="PATH", help="Data set: a folder or a repository on the Hugging Face Hub.")
]
_Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there already.")]


@contextmanager
def one_message() -> Iterator[None]:
    """Turn errors into one message and exit status 1."""
    try:
        yield
    except BrokenPipeError:  # what reads our output, `head` say, has had enough: nobody to tell
        raise
    except OnnxBenchError as error:
        _fail(str(error), error)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), error)
    except Exception as error:  # files that break the rules of ONNX find faults in anything that reads them
        _fail(f"{type(error).__name__}: {error}; if the input is sound, please report this", error)


def _fail(message: str, cause: Exception) -> NoReturn:
    _errors.print(Text(f"error: {printable(message)}", style="bold red"), highlight=False, soft_wrap=True)
    raise typer.Exit(1) from cause


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"onnx-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Read the options that come before the command."""


@app.command("encode")
@one_message()
def encode_file(
    model: _ModelFile,
    style: Annotated[str, typer.Option(metavar="NAME", help=f"One of {', '.join(STYLES)}.")] = STYLES[0],
    simplified: Annotated[
        bool,
        typer.Option(
            "--simplify",
            help=f"Bring the model into inference form first. `{STYLES[0]}` always does; the other styles "
            "describe the file as it is, unless this is given.",
        ),
    ] = False,
    out: Annotated[
        str, typer.Option(metavar="FILE", help="Text file to write; `-` is standard output.")
    ] = STANDARD,
    force: _Force = False,
) -> None:
    """Describe a model as text, without the values of weights.

    Weights that the model keeps in other files are read only where the text depends on them.

    Examples:

    - `onnx-bench encode resnet.onnx`

    - `onnx-bench encode resnet.onnx --style chain-slim --simplify --out resnet.txt`

    - `curl -s https://example.org/net.onnx | onnx-bench encode - | head`
    """
    check_free(out, force)
    given = read_model(model, weights=False)
    if simplified or style == STYLES[0]:
        given = weights_as_inputs(given)
    text = encode(simplify(given) if simplified else given, style)
    write(out, text.removesuffix("\n").encode() + b"\n", force)


@app.command("decode")
@one_message()
def decode_file(
    text: Annotated[str, typer.Argument(metavar="TEXT.txt", help="Text; `-` is standard input.")],
    out: Annotated[str, typer.Option(metavar="FILE", help="ONNX file to write; `-` is standard output.")],
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Draw weights from this seed, so that the file runs. Without it the weights are graph inputs"
            " with type and shape.",
        ),
    ] = None,
    force: _Force = False,
) -> None:
    """Turn a text of the style `onnx-net` into the model that it describes.

    Examples:

    - `onnx-bench decode net.txt --out net.onnx`

    - `onnx-bench decode net.txt --out net.onnx --seed 0`

    - `onnx-bench encode net.onnx | onnx-bench decode - --out inference-form.onnx`
    """
    check_free(out, force)
    model = decode(read_text(text))
    write(out, serialized(model if seed is None else fill_weights(model, seed=seed)), force)


@app.command()
@one_message()
def info(
    model: _ModelFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Show inputs, sizes and operations of a model, and how long its text is in each style.

    Counts are of the file as it is, and of its inference form: batch normalization folded, no-ops gone. Texts
    and the graph's hash are of the inference form.

    Examples:

    - `onnx-bench info resnet.onnx`

    - `onnx-bench info resnet.onnx --json | jq .as_stored.macs`
    """
    known = facts(read_model(model, weights=False))
    if as_json:
        typer.echo(json.dumps(known, indent=2))
        return
    for table in tables(known):
        _console.print(table)
    for note in known["notes"]:
        _console.print(Text(printable(note), style="yellow"), soft_wrap=True)


@app.command()
@one_message()
def proxies(
    model: _ModelFile,
    names: Annotated[
        list[str] | None,
        typer.Option("--proxy", metavar="NAME", help="Proxy to compute.", show_default="all that there are"),
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Inputs that are drawn, standard normal.")] = 64,
    seed: Annotated[
        int, typer.Option(metavar="N", help="For inputs, classes, and weights that the model lacks.")
    ] = 0,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="What PyTorch computes on, `cuda` say.")
    ] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Score a network without training it, by zero-cost proxies; needs PyTorch.

    Examples:

    - `onnx-bench proxies net.onnx`

    - `onnx-bench proxies net.onnx --proxy naswot --proxy synflow --seed 1`

    - `onnx-bench proxies net.onnx --device cuda --json | jq .naswot`
    """
    found = scored(
        read_model(model, weights=True),
        names,
        batch,
        seed,
        device,
        lambda chosen: track(chosen, description="proxies", console=_errors, transient=True),
    )
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _console.print(scores_table(found))


@app.command()
@one_message()
def show(
    network: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of a row, such as `nasbench201/06111`, or an ONNX file."),
    ],
    data: _Data = NAME,
    training: Annotated[
        bool, typer.Option("--training", help="Show the graph as stored, not its inference form.")
    ] = False,
    seed: Annotated[
        int, typer.Option(metavar="N", help="For the weights, where the graph has none of its own.")
    ] = 0,
    open_viewer: Annotated[
        bool, typer.Option("--open/--no-open", help="Open it, or only write the file.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="ONNX file to write; it runs, and its values show their shapes."),
    ] = None,
    force: _Force = False,
) -> None:
    """Look at a network in netron, with the shape of every value; Ctrl-C ends it.

    Where nothing can be opened, the file is written into the current folder.

    Examples:

    - `onnx-bench show nasbench201/06111`

    - `onnx-bench show nasbench201/06111 --training --no-open --out cell.onnx`

    - `onnx-bench show resnet.onnx`
    """
    if out == Path(STANDARD):
        raise OnnxBenchError("show writes a file: name one")
    obstacle = find_obstacle() if open_viewer else "--no-open"
    target = out or (Path(file_name(network, training)) if obstacle else None)
    if target:
        check_free(str(target), force)
    content = serialized(for_viewing(find_model(network, data), training, seed))
    if target:
        write(str(target), content, force)
        typer.echo(f"wrote {target} ({len(content) / 1e6:.1f} MB)")
    if obstacle:
        typer.echo(
            f"Not opened: {obstacle}. Drop the file on https://netron.app, or where there is a screen\n"
            f"  pip install 'onnx-bench-dataset[show]'\n  netron --browse {target}"
        )
    else:
        view(target.name if target else file_name(network, training), content)


@app.command("draw")
@one_message()
def draw_network(
    network: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of a row, such as `nasbench201/06111`, or an ONNX file."),
    ],
    out: Annotated[
        str,
        typer.Option(metavar="FILE", help=f"Picture to write, which ends in .{' or .'.join(FORMATS)}."),
    ],
    data: _Data = NAME,
    whole: Annotated[
        bool, typer.Option("--network", help="Draw the whole network, not the cell or the widths.")
    ] = False,
    force: _Force = False,
) -> None:
    """Draw a picture of an architecture, or of any network.

    An architecture is drawn as its search space describes it: the cell with the operations on its nodes or
    edges, say. A network is drawn in inference form, blocks that repeat in it once.

    Examples:

    - `onnx-bench draw nasbench201/06111 --out cell.png`

    - `onnx-bench draw nasbench201/06111 --network --out network.svg`

    - `onnx-bench draw resnet.onnx --out resnet.png`
    """
    form = Path(out).suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise OnnxBenchError(f"{out} is no name of a picture: it must end in .{' or .'.join(FORMATS)}")
    check_free(out, force)
    write(out, draw(find_diagram(network, data, whole), form), force)
    typer.echo(f"wrote {out}")


@app.command()
@one_message()
def export(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="`all`, a space, or `zero-shot-<family>`.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write into.")],
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="`train` or `test`.", show_default="all that there are"),
    ] = None,
    data: _Data = NAME,
    layout: Annotated[
        Layout, typer.Option(help="`onnxnet` is what the published code of ONNX-Net reads.")
    ] = Layout.PLAIN,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows of each split.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="For the weights.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Write rows as ONNX files with weights, accuracy in the first metadata property, and tables of them.

    `plain` writes `<id>.onnx`, the graph as stored, and `labels.csv`. `onnxnet` writes a folder `onnx` laid
    out like the ONNX-Bench release, graphs in inference form, and `train.csv` and `val.csv` with their texts,
    which ONNX-Net's training script takes as `--data_path`.

    Examples:

    - `onnx-bench export nasbench201 --split test --out nets`

    - `onnx-bench export zero-shot-nasbench201 --out for-onnxnet --layout onnxnet --limit 1000`
    """
    read_quietly()
    made = export_rows(
        config,
        split,
        out,
        data=data,
        layout=layout,
        limit=limit,
        seed=seed,
        force=force,
        progress=_progress,
    )
    typer.echo(f"wrote {made.files:,} models and {', '.join(map(str, made.tables))}")
    if made.unlabelled:
        _errors.print(f"{made.unlabelled:,} rows without a label were left out", style="yellow")


def _progress(rows: Iterable[Row], what: str, total: int | None) -> Iterable[Row]:
    return track(rows, description=what, total=total, console=_errors)
