"""The gallery: which rows it shows, with which pictures, the same ones however it is made."""

import io
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_folder
from PIL import Image

from builders import gallery, pool, verify
from builders.labels import no_progress
from builders.shards import Target
from onnx_bench_dataset import spaces
from onnx_bench_dataset.drawing import draw, network_diagram
from onnx_bench_dataset.schema import GALLERY_SCHEMA, SCHEMA

ROWS = 150  # of which 30 test


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "onnx-bench"
    tiny_folder.make(folder, {"nasbench201": ROWS, "nasbench101": 7})
    return folder


def shown(folder, space):
    return pq.read_table(folder / "gallery" / space / "train-00000-of-00001.parquet")


def test_a_space_shows_64_rows_of_both_splits_best_first_with_the_best_and_the_worst(folder):
    table = shown(folder, "nasbench201")
    assert table.schema.equals(GALLERY_SCHEMA, check_metadata=True)
    numbers = [int(name.partition("/")[2]) for name in table["id"].to_pylist()]
    assert len(set(numbers)) == gallery.SIZE
    assert sum(number % 5 == 4 for number in numbers) == 16  # those that test
    assert numbers == sorted(numbers, reverse=True)  # as accuracies are
    assert numbers[0] == ROWS - 1
    assert numbers[-1] == 0
    gaps = [better - worse for better, worse in pairwise(numbers)]
    assert max(gaps) <= 4  # spread over the whole ranking


def test_a_small_space_shows_all_of_its_rows(folder):
    names = shown(folder, "nasbench101")["id"].to_pylist()
    assert sorted(names) == [f"nasbench101/{number:05d}" for number in range(7)]


def test_rows_say_what_the_data_says_and_pictures_are_those_of_the_architecture(folder):
    data = pa.concat_tables(pq.read_table(path) for path in sorted((folder / "data/nasbench201").iterdir()))
    known = {row["id"]: row for row in data.to_pylist()}
    for row in shown(folder, "nasbench201").to_pylist()[::9]:
        image = row.pop("image")
        assert row == {name: known[row["id"]][name] for name in row}
        assert image["bytes"] == draw(spaces.get("nasbench201").diagram(row["architecture"]))
        assert image["path"] == row["id"].replace("/", "-") + ".png"


def test_pictures_are_small_png_files_that_datasets_decodes(folder, tmp_path):
    rows = datasets.load_dataset(str(folder), "gallery", split="train", cache_dir=str(tmp_path))
    assert rows.features == datasets.Features.from_arrow_schema(GALLERY_SCHEMA)
    assert isinstance(rows.features["image"], datasets.Image)
    assert len(rows) == gallery.SIZE + 7
    for row in rows:
        assert 100 <= max(row["image"].size) <= 1400
    sizes = [len(row["image"]["bytes"]) for row in rows.cast_column("image", datasets.Image(decode=False))]
    assert max(sizes) < 40_000


def test_any_number_of_workers_makes_the_same_bytes(folder, tmp_path):
    rows = tiny_folder.rows_of("nasbench201", ROWS)
    expected = (folder / "gallery/nasbench201/train-00000-of-00001.parquet").read_bytes()
    with ThreadPoolExecutor(3) as executor:
        record = tiny_folder.add_space(
            tmp_path, "nasbench201", rows, run=lambda function, tasks: pool.run(executor, 3, function, tasks)
        )
    assert (tmp_path / record.gallery[0].path).read_bytes() == expected


def test_a_finished_gallery_is_kept(folder, tmp_path):
    rows = tiny_folder.rows_of("nasbench101", 5)
    record = tiny_folder.add_space(tmp_path, "nasbench101", rows)

    def never(*_):
        raise AssertionError("it draws again")

    kept = gallery.make(
        Target(tmp_path, tmp_path),
        "nasbench101",
        record.shards,
        from_text=False,
        run=never,
        progress=no_progress,
    )
    assert kept == record.gallery


def test_where_few_rows_have_a_label_the_smallest_and_the_largest_are_shown(tmp_path):
    rows = tiny_folder.rows_of("natsbench_size", 100, labelled=10)
    record = tiny_folder.add_space(tmp_path, "natsbench_size", rows)
    table = shown(tmp_path, "natsbench_size")
    macs = pa.concat_tables(
        pq.read_table(tmp_path / shard.path, columns=["macs"]) for shard in record.shards
    )["macs"]
    assert len(table) == gallery.SIZE
    assert {min(macs.to_pylist()), max(macs.to_pylist())} <= set(table["macs"].to_pylist())
    accuracies = [value for value in table["accuracy"].to_pylist() if value is not None]
    assert table["accuracy"].to_pylist()[: len(accuracies)] == sorted(accuracies, reverse=True)


def test_imported_networks_are_drawn_from_their_text(tmp_path):
    rows = tiny_folder.rows_of("nasbench201", 2)
    record = tiny_folder.add_space(tmp_path, "nasbench201", rows, from_text=True)
    texts = pq.read_table(tmp_path / record.shards[0].path, columns=["id", "text"]).to_pylist()
    images = {row["id"]: row["image"]["bytes"] for row in shown(tmp_path, "nasbench201").to_pylist()}
    assert images == {row["id"]: draw(network_diagram(row["text"])) for row in texts}


def test_a_network_too_large_for_a_picture_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr("onnx_bench_dataset.drawing.figure.MAX_NODES", 3)
    tiny_folder.add_space(tmp_path, "nasbench101", tiny_folder.rows_of("nasbench101", 5))
    images = shown(tmp_path, "nasbench101")["image"].to_pylist()
    assert {image is None for image in images} == {True, False}


def png(size=(4, 4)):
    content = io.BytesIO()
    Image.new("RGB", size).save(content, "png")
    return content.getvalue()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda row: {**row, "accuracy": 12.5}, "says other things of its rows"),
        (lambda row: {**row, "id": "nasbench101/99999"}, "shows rows that the data has not"),
        (lambda row: {**row, "image": {"bytes": b"\x89PNG", "path": None}}, "its picture cannot be read"),
        (lambda row: {**row, "image": {"bytes": png()[:-30], "path": None}}, "its picture cannot be read"),
        (lambda row: {**row, "image": {"bytes": None, "path": "a.png"}}, "its picture cannot be read"),
    ],
)
def test_a_changed_gallery_is_found(change, fault, tmp_path):
    record = tiny_folder.add_space(tmp_path, "nasbench101", tiny_folder.rows_of("nasbench101", 5))
    data = pa.concat_tables(pq.read_table(tmp_path / shard.path) for shard in record.shards)
    assert not list(gallery.faults(tmp_path, record.gallery, data))
    path = tmp_path / record.gallery[0].path
    rows = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist([change(rows[0]), *rows[1:]], GALLERY_SCHEMA), path)
    (found,) = gallery.faults(tmp_path, record.gallery, data)
    assert fault in found


def test_verify_finds_a_gallery_without_pictures(tmp_path):
    tiny_folder.make(tmp_path, {"nasbench101": 5})
    path = tmp_path / "gallery/nasbench101/train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).drop_columns("image"), path)
    report = verify.verify(tmp_path, 1, no_progress)["nasbench101"]
    assert "has other columns than a gallery has" in report.examples["gallery"][0]
    assert set(report.failures) == {"files", "gallery"}


def test_columns_of_the_gallery_are_columns_of_the_data_and_a_picture():
    *columns, image = GALLERY_SCHEMA
    assert all(column.equals(SCHEMA.field(column.name)) for column in columns)
    assert image.name == "image"
