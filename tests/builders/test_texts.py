"""`python -m builders texts`: lengths of texts in every style, the same for the same folder; clear errors."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders import manifest, marks, texts
from builders.labels import LabelledArchitecture, no_progress
from builders.manifest import SpaceRecord
from builders.shards import plan, write_shard
from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import BuildError
from onnx_bench_dataset.graphs import simplify
from onnx_bench_dataset.text import STYLES, encode

CHECKOUT = Path(__file__).parents[2]
SPACE = spaces.get("nasbench201")
ROWS = 12
VOCABULARY = 400


def make_folder(folder):
    """Make a dataset folder without labels, which needs no published files."""
    rows = [
        LabelledArchitecture(str(number), architecture, "cifar10", None, None, (), None, "train")
        for number, architecture in enumerate(SPACE.sample(ROWS, seed=2))
    ]
    shards = tuple(write_shard(folder, task) for task in plan("nasbench201", "train", rows))
    manifest.write(folder, {"nasbench201": SpaceRecord("", shards, (), (), ())})
    return folder


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "onnx-bench")


def change(folder, alter):
    path = next(folder.rglob("*.parquet"))
    table = pq.read_table(path)
    rows = table.to_pylist()
    alter(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def measure(folder, rows=ROWS, every_row=False, workers=1):
    return texts.measure(folder, rows, VOCABULARY, every_row, workers, no_progress)["nasbench201"]


def run(*arguments):
    """Run the command line and return (exit status, what it printed)."""
    command = [sys.executable, "-m", "builders", "texts", *map(str, arguments)]
    process = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)
    return process.returncode, process.stdout


def test_characters_are_those_of_the_texts(folder):
    found = measure(folder)
    models = [SPACE.model(architecture) for architecture in SPACE.sample(ROWS, seed=2)]
    for style in STYLES:
        lengths = sorted(len(encode(simplify(model), style)) for model in models)
        assert found.characters[style] == (lengths[5], lengths[11], lengths[11]), style
    assert found.characters[texts.UNFOLDED].median > 2 * found.characters[texts.OURS].median
    assert (found.sampled.exact, found.sampled.rows, found.rows) == (ROWS, ROWS, ROWS)


def test_tokens_are_fewer_than_characters_and_the_same_each_time(folder):
    found = measure(folder)
    for style in texts.SHOWN_STYLES:
        assert 1 < found.tokens[style].longest < found.characters[style].longest, style
    assert measure(folder, workers=2) == found


def test_a_sample_is_drawn_once_and_for_all(folder):
    found = measure(folder, rows=3)
    assert found == measure(folder, rows=3)
    assert (found.sampled.rows, found.every.rows) == (3, 0)


def test_texts_that_give_another_graph_are_counted(folder):
    def alter(rows):
        rows[2]["text"] = rows[3]["text"]
        rows[4]["text"] = rows[4]["text"].replace("Relu", "Tanh")

    change(folder, alter)
    found = measure(folder, rows=1, every_row=True)
    assert (found.every.exact, found.every.rows) == (ROWS - 2, ROWS)
    assert f"| {ROWS - 2} of {ROWS} |" in texts.tables({"nasbench201": found}, VOCABULARY)


def test_a_table_has_a_line_for_every_style(folder):
    table = texts.tables({"nasbench201": measure(folder)}, VOCABULARY).splitlines()
    assert [line.split("|")[1].strip() for line in table[4:]] == [
        "`onnx-net`",
        "`onnx-net`, unfolded",
        *(f"`{style}`" for style in STYLES[1:]),
    ]
    assert {line.count("|") for line in table[2:]} == {11}
    assert table[4].endswith(f"| {ROWS} of {ROWS} |")
    assert "| 1.000 | 1.000 | – |" in table[6]


def test_the_command_prints_tables_or_puts_them_between_the_marks_of_a_file(folder, tmp_path):
    status, printed = run(folder, "--rows", 5, "--vocabulary", VOCABULARY, "--workers", 1)
    assert status == 0
    assert printed.startswith(f"`nasbench201`, 5 of {ROWS} rows")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- texts -->\nold\n<!-- /texts -->\nbehind\n")
    status, nothing = run(folder, "--rows", 5, "--vocabulary", VOCABULARY, "--workers", 1, "--out", page)
    assert (status, nothing) == (0, "")
    assert page.read_text() == f"before\n<!-- texts -->\n{printed}<!-- /texts -->\nbehind\n"


def test_errors_are_one_message(folder, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- /texts --><!-- texts -->")
    for arguments, message in (
        ((tmp_path / "nowhere",), "is not a dataset folder"),
        ((folder, "--out", tmp_path / "nowhere.md"), "cannot read"),
        ((folder, "--out", page), "has no place for it"),
    ):
        status, printed = run(*arguments)
        assert status == 1
        assert printed.startswith("error: ")
        assert message in printed
        assert len(printed.splitlines()) == 1


def test_damaged_files_and_rows_are_errors(folder):
    change(folder, lambda rows: rows[0].update(onnx=b"no graph"))
    with pytest.raises(BuildError, match="nasbench201/0 is damaged"):
        measure(folder)
    change(folder, lambda rows: rows.pop())
    with pytest.raises(BuildError, match="other rows than the manifest says"):
        measure(folder)
    path = next(folder.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BuildError, match="cannot be read"):
        measure(folder)


def test_every_page_with_marks_is_ready_for_tables():
    marks.check(CHECKOUT / "docs" / "text.md", texts.MARK)
