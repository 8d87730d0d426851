"""Joined parts of a build are the bytes of a whole build; what does not belong together is refused."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
from building import CHECKOUT, digests, one_thread
from hypothesis import given
from hypothesis import strategies as st

from builders import manifest, parts, pool, shards
from builders.build import Where, build
from builders.labels import LabelledArchitecture, no_progress
from builders.merge import merge
from builders.parts import Part
from builders.registry import BENCHMARKS
from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import BuildError

SPACES = ("nasbench201", "natsbench_size")
ROWS = 100
SHARD_ROWS = 8
COUNT = 3


@pytest.fixture(scope="module", autouse=True)
def small_and_here():
    """Make small shards in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "processes", one_thread)
        patch.setattr(shards, "SHARD_ROWS", SHARD_ROWS)
        yield


def labelled(space, sources, progress):
    """Yield architectures of a space with labels."""
    for index, architecture in enumerate(spaces.get(space).sample(ROWS, seed=0)):
        yield LabelledArchitecture(
            f"{index:05}", architecture, "cifar10", index / 2, "trained", (), None, None
        )


def build_here(out, part=None, limit=ROWS):
    """Build small spaces, or a part of them."""
    chosen = [replace(BENCHMARKS[space], read=partial(labelled, space)) for space in SPACES]
    where = Where(1, part=part)
    return build(chosen, out, sources=None, where=where, limit=limit, progress=no_progress)


@pytest.fixture(scope="module")
def whole(small_and_here, tmp_path_factory):
    """A folder built in one piece."""
    out = tmp_path_factory.mktemp("whole") / "onnx-bench"
    build_here(out)
    return out


@pytest.fixture(scope="module")
def made(small_and_here, tmp_path_factory):
    """The folders of all parts."""
    folder = tmp_path_factory.mktemp("parts")
    parts_of_it = [Part(index, COUNT) for index in range(COUNT)]
    for part in parts_of_it:
        build_here(part.folder(folder / "onnx-bench"), part)
    return [part.folder(folder / "onnx-bench") for part in parts_of_it]


@pytest.fixture
def copied(made, tmp_path):
    """The same in a place where they can be spoilt."""
    for folder in made:
        shutil.copytree(folder, tmp_path / folder.name)
    return [tmp_path / folder.name for folder in made]


def join(folders, out):
    return merge(folders, out, workers=1, progress=no_progress)


def edit(folder, change):
    """Change the record of a part."""
    path = folder / parts.FILE
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_joined_parts_are_the_bytes_of_a_whole_build(whole, made, tmp_path):
    out = tmp_path / "onnx-bench"
    command = [
        sys.executable,
        "-m",
        "builders",
        "merge",
        "--workers",
        "1",
        *map(str, reversed(made)),
        "--out",
        str(out),
    ]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert digests(out) == digests(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["onnx-bench"]


def test_parts_share_the_shards_evenly(whole, made):
    records = manifest.read(whole)
    for space in SPACES:
        counts = [len(parts.read(folder)[1][space].shards) for folder in made]
        assert sum(counts) == len(records[space].shards)
        assert max(counts) - min(counts) <= 1


def test_a_second_merge_changes_nothing_and_other_spaces_stay(whole, made, tmp_path):
    out = tmp_path / "onnx-bench"
    shutil.copytree(whole, out)
    outcomes = join(made, out)
    assert [outcome.reason for outcome in outcomes] == ["unchanged", "unchanged"]
    assert digests(out) == digests(whole)


def test_an_interrupted_part_goes_on(made, tmp_path):
    out = tmp_path / "onnx-bench"
    folder = Part(0, COUNT).folder(out)
    shutil.copytree(made[0], folder.with_name(folder.name + ".building") / "folder")
    for space, record in parts.read(made[0])[1].items():
        (folder.with_name(folder.name + ".building") / f"{space}.key").write_text(record.key)
    kept = {path.stat().st_ino for path in tmp_path.rglob("*.parquet")}
    build_here(folder, Part(0, COUNT))
    assert {path.stat().st_ino for path in folder.rglob("*.parquet")} == kept
    assert digests(folder) == digests(made[0])


def test_missing_and_double_parts_are_refused(made, tmp_path):
    out = tmp_path / "onnx-bench"
    with pytest.raises(BuildError, match=r"1 of 3 parts are missing: 1/3"):
        join([made[0], made[2]], out)
    with pytest.raises(BuildError, match=r"are both part 1/3"):
        join([*made, made[1]], out)
    assert not out.exists()


def test_parts_of_different_divisions_are_refused(copied, tmp_path):
    edit(copied[1], lambda content: content.update(part="1/4"))
    with pytest.raises(BuildError, match="not parts of one build"):
        join(copied, tmp_path / "onnx-bench")


def test_parts_made_by_different_versions_are_refused(copied, tmp_path):
    edit(copied[2], lambda content: content["spaces"]["nasbench201"].update(key="0" * 64))
    with pytest.raises(BuildError, match=r"nasbench201 in .* different versions of the code"):
        join(copied, tmp_path / "onnx-bench")


def test_parts_of_other_rows_are_refused(made, tmp_path):
    build_here(tmp_path / "other", Part(2, COUNT), limit=ROWS - 1)
    with pytest.raises(BuildError, match="with other options"):
        join([*made[:2], tmp_path / "other"], tmp_path / "onnx-bench")


def test_a_part_without_a_space_of_the_others_is_refused(copied, tmp_path):
    for folder in (copied[0], copied[2]):
        shutil.copytree(folder, tmp_path / "again" / folder.name)
        again = tmp_path / "again" / folder.name
        edit(again, lambda content: content["spaces"].pop("nasbench201"))
        folders = [again if each == folder else each for each in copied]
        with pytest.raises(BuildError, match="lacks nasbench201"):
            join(folders, tmp_path / "onnx-bench")


def test_an_altered_or_missing_shard_is_refused(copied, tmp_path):
    shard = copied[1] / parts.read(copied[1])[1]["nasbench201"].shards[0].path
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + b"\0")
    with pytest.raises(BuildError, match="is not the shard that was built"):
        join(copied, tmp_path / "onnx-bench")
    shard.unlink()
    with pytest.raises(BuildError, match="is missing"):
        join(copied, tmp_path / "onnx-bench")
    shard.write_bytes(content)
    join(copied, tmp_path / "onnx-bench")


def test_a_record_that_lacks_a_shard_or_has_one_twice_is_refused(copied, tmp_path):
    edit(copied[0], lambda content: content["spaces"]["nasbench201"]["shards"].pop())
    with pytest.raises(BuildError, match="some missing or double"):
        join(copied, tmp_path / "onnx-bench")
    edit(
        copied[0],
        lambda content: content["spaces"]["nasbench201"]["shards"].extend(
            [["data/nasbench201/train-00000-of-00001.parquet", 1, 1, ""]] * 2
        ),
    )
    with pytest.raises(BuildError, match="some missing or double"):
        join(copied, tmp_path / "onnx-bench")


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "data/nasbench201/../train-00000-of-00001.parquet", 7]
)
def test_a_record_that_names_other_files_is_refused(copied, tmp_path, path):
    edit(copied[0], lambda content: content["spaces"]["nasbench201"]["shards"].append([path, 1, 1, ""]))
    with pytest.raises(BuildError, match="is damaged"):
        join(copied, tmp_path / "onnx-bench")


@pytest.mark.parametrize(
    "change",
    [
        lambda spaces: spaces.clear(),
        lambda spaces: spaces.update({"../../up": spaces.pop("nasbench201")}),
        lambda spaces: spaces["nasbench201"].update(key=7),
        lambda spaces: spaces["nasbench201"].update(origin="found"),
        lambda spaces: spaces["nasbench201"].update(labels={"trained": "many"}),
        lambda spaces: spaces["nasbench201"].update(labels=[]),
        lambda spaces: spaces["nasbench201"].update(shards=None),
    ],
)
def test_a_record_of_other_types_is_refused(copied, tmp_path, change):
    edit(copied[2], lambda content: change(content["spaces"]))
    with pytest.raises(BuildError, match=r"part\.json is damaged"):
        join(copied, tmp_path / "onnx-bench")
    assert not (tmp_path / "onnx-bench").exists()


def test_more_parts_than_shards_can_be_joined_too(whole, tmp_path):
    count = 30
    for index in range(count):
        build_here(Part(index, count).folder(tmp_path / "many"), Part(index, count))
    join([Part(index, count).folder(tmp_path / "many") for index in range(count)], tmp_path / "onnx-bench")
    assert digests(tmp_path / "onnx-bench") == digests(whole)


def test_part_and_dataset_folders_are_not_taken_for_each_other(whole, copied, tmp_path):
    with pytest.raises(BuildError, match="is no part of a build: it is a whole dataset folder"):
        join([whole], tmp_path / "onnx-bench")
    with pytest.raises(BuildError, match="is no part of a build: it has no"):
        join([tmp_path / "nowhere"], tmp_path / "onnx-bench")
    with pytest.raises(BuildError, match=r"is part 0/3 of a build, not a dataset folder"):
        join(copied, copied[0])
    with pytest.raises(BuildError, match=r"is part 1/3 of a build, not a dataset folder"):
        build_here(copied[1])
    with pytest.raises(BuildError, match=r"is part 1/3 of a build, not part 0/2"):
        build_here(copied[1], Part(0, 2))
    with pytest.raises(BuildError, match="is a whole dataset folder, not part 0/3"):
        build_here(whole, Part(0, 3))
    (tmp_path / "y.building").mkdir()
    with pytest.raises(BuildError, match=r"is no part of a build: it is not finished yet"):
        join([tmp_path / "y"], tmp_path / "onnx-bench")


@given(
    st.text(max_size=20)
    | st.binary(max_size=20)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["format", "part", "spaces", "shards"]), inner, max_size=4)
        ),
    )
)
def test_a_broken_record_is_a_build_error(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("broken")
    if isinstance(content, bytes):
        (folder / parts.FILE).write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / parts.FILE).write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(BuildError, match="is damaged"):
        parts.read(folder)


@pytest.mark.parametrize("text", ["8/8", "-1/8", "1", "1/", "a/b", "1/2/3", "0/0", "1/99999999999", "١/٢"])
def test_a_part_that_does_not_exist_is_refused(text):
    with pytest.raises(BuildError, match="i/n"):
        Part.parse(text)


@given(st.integers(1, 50), st.integers(0, 200))
def test_every_item_belongs_to_one_part(count, items):
    found = [item for index in range(count) for item in Part(index, count).of(range(items))]
    assert sorted(found) == list(range(items))
