"""Sampled rows depend on their space, seed and number alone, however they are made."""

import shutil

import pyarrow.parquet as pq
import pytest
from building import digests, one_thread
from clusters import Cluster

from builders import manifest, pool
from builders.build import Where
from builders.labels import no_progress
from builders.manifest import split_of
from builders.merge import merge
from builders.parts import Part
from builders.sampling import DRAWN_AT_ONCE, Sample, draw, sample
from builders.verify import verify
from onnx_bench_dataset import load_dataset
from onnx_bench_dataset.errors import BuildError, UnknownNameError
from onnx_bench_dataset.splits import SPLITS, split_of_graph

WANTED = Sample("nasbench201", 3_700, seed=5, rows_per_shard=1_000)


@pytest.fixture(scope="module", autouse=True)
def here():
    """Make shards in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "processes", one_thread)
        yield


@pytest.fixture(scope="module")
def built(here, tmp_path_factory):
    """A folder of sampled rows."""
    out = tmp_path_factory.mktemp("built") / "onnx-bench"
    assert sample(WANTED, out, where=Where(1), progress=no_progress).reason == "built"
    return out


def rows_of(folder, columns, space="nasbench201"):
    """All rows of a space by id."""
    record = manifest.read(folder)[space]
    rows = [
        row
        for shard in record.shards
        for row in pq.read_table(folder / shard.path, columns=["id", *columns]).to_pylist()
    ]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def test_rows_have_no_label_and_are_numbered(built):
    rows = rows_of(built, ["accuracy", "label", "metrics", "dataset", "architecture"])
    assert set(rows) == {f"nasbench201/sampled/5/{index}" for index in range(WANTED.rows)}
    assert {(row["accuracy"], row["label"], row["dataset"]) for row in rows.values()} == {
        (None, None, "cifar10")
    }
    for number in range(4):
        wanted = draw("nasbench201", 5, number)
        found = [
            rows[f"nasbench201/sampled/5/{number * DRAWN_AT_ONCE + place}"]["architecture"]
            for place in range(700)
        ]
        assert found == wanted[:700]
        assert len(set(wanted)) == DRAWN_AT_ONCE


def test_a_pair_of_shards_holds_the_train_and_the_test_rows_of_its_numbers(built):
    record = manifest.read(built)["nasbench201"]
    assert [shard.path for shard in record.shards] == [
        f"data/nasbench201/{split}-0000{index}-of-00003.parquet"
        for split in sorted(SPLITS)
        for index in range(3)
    ]
    for shard in record.shards:
        table = pq.read_table(built / shard.path, columns=["id", "graph_hash"])
        index = int(shard.path[-len("0-of-00003.parquet")])
        numbers = [int(name.rpartition("/")[2]) for name in table["id"].to_pylist()]
        assert numbers == sorted(numbers)
        assert {min(number // 1_000, 2) for number in numbers} == {index}
        assert {split_of_graph(name) for name in table["graph_hash"].to_pylist()} == {split_of(shard.path)}


def test_the_folder_passes_every_check_and_loads(built):
    report = verify(built, 1, no_progress, 100)["nasbench201"]
    assert report.ok, report.examples
    rows = load_dataset(str(built), "nasbench201", columns=["id", "label"])
    assert {split: len(part) for split, part in rows.items()} == {
        split: manifest.read(built)["nasbench201"].rows(split) for split in SPLITS
    }
    assert "drawn at random" in (built / "README.md").read_text()


def test_a_row_is_the_same_in_other_shards_and_among_more_rows(built, tmp_path):
    columns = ["architecture", "onnx", "text", "graph_hash"]
    more = Sample("nasbench201", 5_100, seed=5, rows_per_shard=1_500)
    sample(more, tmp_path / "onnx-bench", where=Where(1), progress=no_progress)
    rows = rows_of(tmp_path / "onnx-bench", columns)
    assert len(rows) == 5_100
    for name, row in rows_of(built, columns).items():
        assert rows[name] == row


def test_another_seed_draws_others():
    drawn = [set(draw("nasbench201", seed, number)) for seed in (0, 1) for number in (0, 1)]
    assert len(set().union(*drawn)) > 2 * DRAWN_AT_ONCE


def test_a_second_run_changes_nothing_and_another_sample_is_built(built, tmp_path):
    out = tmp_path / "onnx-bench"
    shutil.copytree(built, out)
    assert sample(WANTED, out, where=Where(1), progress=no_progress).reason == "unchanged"
    assert digests(out) == digests(built)
    few = Sample("nasbench201", 3, seed=6)
    assert sample(few, out, where=Where(1), progress=no_progress).reason == "built"
    assert manifest.read(out)["nasbench201"].rows() == 3


def test_what_was_finished_is_not_made_again(built, tmp_path):
    out = tmp_path / "onnx-bench"
    staged = tmp_path / "onnx-bench.building"
    record = manifest.read(built)["nasbench201"]
    for shard in record.shards[1:]:
        (staged / "folder" / shard.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(built / shard.path, staged / "folder" / shard.path)
    (staged / "nasbench201.key").write_text(record.key)
    kept = [
        (staged / "folder" / f"data/nasbench201/{split}-00001-of-00003.parquet").stat().st_ino
        for split in SPLITS
    ]
    sample(WANTED, out, where=Where(1), progress=no_progress)
    assert digests(out) == digests(built)
    assert [
        (out / f"data/nasbench201/{split}-00001-of-00003.parquet").stat().st_ino for split in SPLITS
    ] == kept


def test_parts_and_a_cluster_make_the_same_bytes(built, tmp_path):
    parts = [Part(index, 2) for index in range(2)]
    folders = [part.folder(tmp_path / "onnx-bench") for part in parts]
    with Cluster(tmp_path / "dask", workers=1) as cluster:
        for part, folder in zip(parts, folders, strict=True):
            where = Where(1, scheduler=cluster.address if part.index else None, part=part)
            sample(WANTED, folder, where=where, progress=no_progress)
    merge(folders, tmp_path / "onnx-bench", workers=1, progress=no_progress)
    assert digests(tmp_path / "onnx-bench") == digests(built)


@pytest.mark.parametrize(("space", "rows"), [("einspace", 12), ("hnasbench201", 3)])
def test_spaces_too_large_to_list_have_rows(space, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("builders.sampling.DRAWN_AT_ONCE", 10)
    out = tmp_path / "onnx-bench"
    outcome = sample(Sample(space, rows, seed=0), out, where=Where(1), progress=no_progress)
    assert outcome.record.rows() == rows
    assert outcome.record.labels == {"unlabelled": rows}
    report = verify(out, 1, no_progress)[space]
    assert report.ok, report.examples


def test_one_row_has_one_split(tmp_path):
    out = tmp_path / "onnx-bench"
    for seed in range(3):
        sample(Sample("nasbench201", 1, seed), out, where=Where(1), progress=no_progress)
        assert len(manifest.read(out)["nasbench201"].shards) == 1


def test_rows_that_were_not_drawn_are_not_replaced(built, tmp_path):
    out = tmp_path / "onnx-bench"
    shutil.copytree(built, out)
    path = out / manifest.FILE
    path.write_text(path.read_text().replace('"origin": "sampled"', '"origin": "imported"'))
    before = digests(out)
    with pytest.raises(BuildError, match=r"has 3,700 rows of nasbench201 that were not drawn"):
        sample(WANTED, out, where=Where(1), progress=no_progress)
    assert digests(out) == before


def test_what_cannot_be_published_or_does_not_exist_is_refused(tmp_path):
    with pytest.raises(BuildError, match=r"200,000 files .* use --rows-per-shard 20001"):
        sample(Sample("einspace", 10**8, 0, 1_000), tmp_path / "x", where=Where(1), progress=no_progress)
    with pytest.raises(UnknownNameError):
        sample(Sample("einspice", 10, 0), tmp_path / "x", where=Where(1), progress=no_progress)
    assert list(tmp_path.iterdir()) == []
