"""The command line: what it prints, what it writes, and one message for whatever goes wrong."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import webbrowser

import huggingface_hub
import numpy as np
import onnx
import pytest
from test_loading import make_folder
from typer.testing import CliRunner

from onnx_bench_dataset import __version__, cli, load_onnx, load_row, spaces
from onnx_bench_dataset.graphs import fill_weights, graph_hash, measures, run, simplify
from onnx_bench_dataset.text import STYLES, decode, encode

CELL = "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|"
TEXT = """onnx-net 1
opset 18
input [1,3,8,8]
Conv $0 w[4,3,3,3] w[4] pads=[1,1,1,1]
Relu 1
output 1"""


@pytest.fixture(scope="module")
def network():
    """A network of NAS-Bench-201 in training form, its weights as inputs."""
    return spaces.get("nasbench201").model(CELL)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, network):
    """Work in a folder with a model, on a machine without a screen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    onnx.save(network, "net.onnx")
    return tmp_path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small data set."""
    path = tmp_path_factory.mktemp("data") / "rows"
    make_folder(path, spaces=["nasbench201"])
    return str(path)


def onnx_bench(*arguments, stdin=None):
    """Run the command line and return (standard output, standard error) of a success."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def failure(*arguments, stdin=None):
    """Run the command line and return the one message of a failure."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    return result.stderr.removeprefix("error: ").strip()


def process(*arguments, **options):
    command = [sys.executable, "-c", "from onnx_bench_dataset.cli import main; main()", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_version_and_help():
    assert onnx_bench("--version")[0] == f"onnx-bench {__version__}\n"
    for command in ("encode", "decode", "info", "show"):
        assert f"onnx-bench {command} " in onnx_bench(command, "-h")[0]


# encode


def test_encode_prints_the_text_and_nothing_else(network):
    for style in STYLES:
        expected = encode(network, style).removesuffix("\n") + "\n"
        assert onnx_bench("encode", "net.onnx", "--style", style) == (expected, "")


def test_published_styles_describe_the_file_unless_asked_to_simplify(network):
    plain, _ = onnx_bench("encode", "net.onnx", "--style", "chain-slim-base")
    simplified, _ = onnx_bench("encode", "net.onnx", "--style", "chain-slim-base", "--simplify")
    assert plain.count("BatchNormalization") > simplified.count("BatchNormalization")
    assert simplified.strip() == encode(simplify(network), "chain-slim-base").strip()
    assert onnx_bench("encode", "net.onnx", "--simplify") == onnx_bench("encode", "net.onnx")


def test_encode_reads_standard_input_and_writes_files(network, folder):
    text, _ = onnx_bench("encode", "-", stdin=network.SerializeToString())
    assert onnx_bench("encode", "net.onnx", "--out", "net.txt") == ("", "")
    assert (folder / "net.txt").read_text() == text


def test_encode_and_decode_make_a_pipeline(network):
    encoding = process("encode", "net.onnx")
    decoding = process("decode", "-", "--out", "again.onnx", stdin=encoding.stdout)
    assert decoding.communicate() == (b"", b"")
    assert (encoding.wait(), decoding.returncode) == (0, 0)
    assert graph_hash(onnx.load("again.onnx")) == graph_hash(network)


@pytest.mark.parametrize("style", STYLES)
def test_weights_in_other_files_are_not_needed(style, network, folder):
    filled = fill_weights(network, seed=0)
    expected = encode(filled, style).strip()
    onnx.save_model(filled, "far.onnx", save_as_external_data=True, location="far.data")
    (folder / "far.data").unlink()
    assert onnx_bench("encode", "far.onnx", "--style", style)[0].strip() == expected
    assert json.loads(onnx_bench("info", "far.onnx", "--json")[0])["as_stored"] == measures(network)._asdict()


def test_numbers_in_other_files_are_read_where_the_text_depends_on_them(folder):
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 18]>
        net (float[2,6] x) => (float[3,4] y) { y = Reshape(x, shape) }""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3, 4]), "shape"))
    text = encode(model)
    onnx.save_model(model, "far.onnx", save_as_external_data=True, location="far.data", size_threshold=0)
    assert onnx_bench("encode", "far.onnx")[0] == text + "\n"
    assert "name its file instead of -" in failure("encode", "-", stdin=(folder / "far.onnx").read_bytes())
    (folder / "far.data").unlink()
    assert "far.onnx keeps tensors in other files" in failure("encode", "far.onnx")


# decode


@pytest.mark.parametrize("text", [TEXT, TEXT + "\n", TEXT.replace("\n", "\r\n") + "\r\n"])
def test_decode_reads_texts_with_any_end_of_line(text, folder):
    (folder / "net.txt").write_bytes(text.encode())
    assert onnx_bench("decode", "net.txt", "--out", "out.onnx") == ("", "")
    assert onnx.load("out.onnx") == decode(TEXT)


def test_decode_leaves_weights_out_or_draws_them_from_a_seed():
    onnx_bench("decode", "-", "--out", "bare.onnx", stdin=TEXT)
    bare = onnx.load("bare.onnx")
    assert (len(bare.graph.input), len(bare.graph.initializer)) == (3, 0)
    onnx_bench("decode", "-", "--out", "filled.onnx", "--seed", 7, stdin=TEXT)
    filled = onnx.load("filled.onnx")
    assert (len(filled.graph.input), len(filled.graph.initializer)) == (1, 2)
    assert filled == fill_weights(bare, seed=7)
    assert run(filled)[0].shape == (1, 4, 8, 8)


def test_decode_writes_to_standard_output():
    decoding = process("decode", "-", "--out", "-", stdin=subprocess.PIPE)
    content, errors = decoding.communicate(TEXT.encode())
    assert (onnx.load_model_from_string(content), errors) == (decode(TEXT), b"")


# files


def test_a_file_is_written_over_only_when_asked(folder):
    (folder / "taken").write_text("mine")
    assert "taken is there already" in failure("decode", "-", "--out", "taken", stdin=TEXT)
    assert "taken is there already" in failure("encode", "net.onnx", "--out", "taken")
    assert "taken is there already" in failure("show", "net.onnx", "--out", "taken")
    assert (folder / "taken").read_text() == "mine"
    onnx_bench("decode", "-", "--out", "taken", "--force", stdin=TEXT)
    assert onnx.load("taken") == decode(TEXT)


def test_a_write_that_fails_leaves_what_was_there(folder, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    (folder / "taken").write_text("mine")
    monkeypatch.setattr(os, "fsync", full)
    message = failure("decode", "-", "--out", "taken", "--force", stdin=TEXT)
    assert message == "cannot write taken: No space left on device"
    assert (folder / "taken").read_text() == "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["net.onnx", "taken"]


def test_a_device_stays_a_device_and_a_link_a_link(folder):
    onnx_bench("encode", "net.onnx", "--out", "/dev/null", "--force")
    assert not os.path.isfile("/dev/null")
    (folder / "link.onnx").symlink_to("real.onnx")
    onnx_bench("decode", "-", "--out", "link.onnx", stdin=TEXT)
    assert (folder / "link.onnx").is_symlink()
    assert onnx.load("real.onnx") == decode(TEXT)


# info


def test_info_as_json_is_what_the_library_says(network):
    facts = json.loads(onnx_bench("info", "net.onnx", "--json")[0])
    simplified = simplify(network)
    assert facts["graph_hash"] == graph_hash(network)
    assert facts["opset"] == {"ai.onnx": 18}
    assert facts["inputs"] == [{"name": "input", "type": "float", "shape": [1, 3, 32, 32]}]
    assert facts["outputs"] == [{"name": "output", "type": "float", "shape": [1, 10]}]
    assert facts["weights"] == {"without_values": len(network.graph.input) - 1, "with_values": 0}
    assert facts["as_stored"] == measures(network)._asdict()
    assert facts["inference_form"] == measures(simplified)._asdict()
    assert sum(facts["operations"].values()) == len(simplified.graph.node)
    assert facts["text_characters"] == {style: len(encode(simplified, style)) for style in STYLES}
    assert facts["notes"] == []


def test_info_shows_the_same_as_tables(network):
    shown, _ = onnx_bench("info", "net.onnx")
    for expected in ("input: float [1, 3, 32, 32]", graph_hash(network), f"{measures(network).macs:,}"):
        assert expected in shown
    for name in ("ai.onnx 18", "parameters", "GlobalAveragePool", *STYLES):
        assert name in shown


def test_multiply_accumulates_of_a_dynamic_shape_are_unknown(network):
    dynamic = onnx.ModelProto()
    dynamic.CopyFrom(network)
    for value in (dynamic.graph.input[0], dynamic.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(dynamic, "dynamic.onnx")
    facts = json.loads(onnx_bench("info", "dynamic.onnx", "--json")[0])
    assert facts["inputs"][0]["shape"] == ["batch", 3, 32, 32]
    assert facts["as_stored"] == {**measures(network)._asdict(), "macs": None}
    assert facts["inference_form"] == {**measures(simplify(network))._asdict(), "macs": None}
    shown, _ = onnx_bench("info", "dynamic.onnx")
    assert "MACs are unknown" in shown
    assert "is dynamic" in shown


def test_names_from_a_file_cannot_act_on_the_terminal():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 18]> net (float[2] x) => (float[2] y) { y = Relu(x) }""")
    name = "[red]\x1b[31m"
    model.graph.input[0].name = model.graph.node[0].input[0] = name
    onnx.save(model, "odd.onnx")
    shown, _ = onnx_bench("info", "odd.onnx")
    assert r"[red]\x1b[31m: float [2]" in shown
    assert "\x1b[31m" not in shown


# show


def test_show_writes_a_row_that_runs_and_says_every_shape(data):
    printed, _ = onnx_bench("show", "nasbench201/00003", "--data", data)
    assert "wrote nasbench201-00003.onnx" in printed
    assert "there is no screen here" in printed
    assert "netron.app" in printed
    assert "pip install 'onnx-bench-dataset[show]'" in printed
    shown = onnx.load("nasbench201-00003.onnx")
    onnx.checker.check_model(shown, full_check=True)
    assert [value.name for value in shown.graph.input] == ["input"]
    assert run(shown)[0].shape == (1, 10)
    row = load_onnx(load_row("nasbench201/00003", data))
    assert encode(shown) == encode(row)
    known = {value.name for value in (*shown.graph.value_info, *shown.graph.output)}
    assert known == {name for node in shown.graph.node for name in node.output}
    assert all(value.type.tensor_type.HasField("shape") for value in shown.graph.value_info)


def test_show_takes_the_stored_form_when_asked(data):
    onnx_bench("show", "nasbench201/00003", "--data", data, "--training", "--no-open")
    shown = onnx.load("nasbench201-00003-training.onnx")
    row = load_onnx(load_row("nasbench201/00003", data))
    assert list(shown.graph.node) == list(row.graph.node)
    assert any(node.op_type == "BatchNormalization" for node in shown.graph.node)


def test_show_takes_files_and_another_name(network):
    onnx_bench("show", "net.onnx")
    assert graph_hash(onnx.load("net-inference.onnx")) == graph_hash(network)
    onnx_bench("show", "net.onnx", "--training", "--seed", 3, "--out", "other.onnx")
    assert onnx.load("other.onnx").graph.initializer == fill_weights(network, seed=3).graph.initializer


def test_show_opens_netron_where_there_is_a_screen(data, folder, monkeypatch):
    (folder / "netron.py").write_text("""
import onnx
def start(path): print("opened", path.rsplit("/")[-1], len(onnx.load(path).graph.input))
def wait(): print("waited")
""")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "netron", raising=False)
    importlib.import_module("netron")
    monkeypatch.setitem(sys.modules, "netron", sys.modules.pop("netron"))  # and gone after the test
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "get", lambda: object())
    before = sorted(os.listdir())
    shown = onnx_bench("show", "nasbench201/00003", "--data", data)[0]
    assert shown == "opened nasbench201-00003.onnx 1\nwaited\n"
    assert sorted(os.listdir()) == before
    assert "opened my.onnx 1" in onnx_bench("show", "net.onnx", "--out", "my.onnx")[0]
    assert "Not opened: --no-open." in onnx_bench("show", "net.onnx", "--no-open")[0]


def test_show_says_what_is_missing_to_open_a_network(monkeypatch):
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    monkeypatch.setattr(webbrowser, "get", lambda: object())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "netron is not installed here" in onnx_bench("show", "net.onnx", "--out", "a.onnx")[0]

    def none():
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none)
    assert "there is no browser here" in onnx_bench("show", "net.onnx", "--out", "b.onnx")[0]


def test_show_says_what_to_do_without_the_row_or_the_data_set(data, monkeypatch):
    def unreachable():
        raise ConnectionError("no network")

    assert "did you mean nasbench201/00003?" in failure("show", "nasbench201/3", "--data", data)
    monkeypatch.setattr(huggingface_hub, "HfFileSystem", unreachable)
    message = failure("show", "nasbench201/00003")
    assert "make dataset" in message
    assert "--data" in message


# whatever goes wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "no.onnx"], "no.onnx: No such file or directory"),
        (["encode", "."], ".: Is a directory"),
        (["encode", "text.txt"], "text.txt is not an ONNX model"),
        (["encode", "empty.onnx"], "empty.onnx is not an ONNX model: it holds no graph"),
        (["encode", "net.onnx", "--style", "prose"], "no style of text is called 'prose'"),
        (["encode", "net.onnx", "--out", "no/net.txt"], "cannot write no/net.txt: No such file or directory"),
        (["encode", "loop.onnx"], "control flow is not supported"),
        (["decode", "text.txt", "--out", "-"], "line 1, column 1: "),
        (["decode", "net.onnx", "--out", "-"], "net.onnx is not text"),
        (["decode", "no.txt", "--out", "-"], "no.txt: No such file or directory"),
        (["info", "text.txt"], "text.txt is not an ONNX model"),
        (["show", "text.onnx"], "text.onnx: No such file or directory"),
        (["show", "net.onnx", "--out", "-"], "show writes a file"),
    ],
)
def test_an_error_is_one_message(arguments, message, folder):
    (folder / "text.txt").write_text("This is a text about something else.")
    (folder / "empty.onnx").touch()
    loop = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 18]>
        net (bool c, float[2] x) => (float[2] y) {
            y = If(c) <then_branch = a () => (float[2] p) { p = Relu(x) },
                       else_branch = b () => (float[2] q) { q = Neg(x) }> }""")
    onnx.save(loop, "loop.onnx")
    assert failure(*arguments).startswith(message)


def test_what_nobody_foresaw_is_one_message_too(monkeypatch):
    monkeypatch.setattr(cli.commands, "encode", lambda *_: [][0])
    assert failure("encode", "net.onnx").startswith("IndexError: list index out of range; if the input is")


def test_a_reader_that_has_had_enough_is_no_error():
    decoding = process("decode", "-", "--seed", "0", "--out", "-", stdin=subprocess.PIPE)
    decoding.stdin.write(TEXT.replace("4,3,3,3", "40000,3,3,3").replace("w[4]", "w[40000]").encode())
    decoding.stdin.close()
    assert decoding.stdout.read(1)
    decoding.stdout.close()
    assert decoding.stderr.read() == b""
    assert decoding.wait() == 1


def test_an_interrupt_ends_it_without_a_word():
    program = """
import signal, sys, types
from onnx_bench_dataset import cli
reading = types.SimpleNamespace(read=lambda: signal.raise_signal(signal.SIGINT))
sys.stdin = types.SimpleNamespace(buffer=reading)
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program, "encode", "-"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_commands_that_do_not_need_large_libraries_do_not_load_them():
    program = "import sys, onnx_bench_dataset.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"pyarrow", "scipy", "sklearn", "lightgbm", "datasets", "torch"}.isdisjoint(done.stdout.split())
