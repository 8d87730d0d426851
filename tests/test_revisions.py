"""Versions at the Hub: each revision loads its own rows, warm, cold and offline; a wrong one is refused."""

import os
import subprocess
import sys

import datasets
import hub_server
import huggingface_hub
import pytest
from test_loading import make_folder

from onnx_bench_dataset import load_dataset, load_row
from onnx_bench_dataset.errors import LoadError, UnknownNameError

REPOSITORY = "onnx-bench/onnx-bench"
FIRST = {"v1.0.0": 87.0, "v2.0.0": 92.0}  # accuracy of the first test row in each version


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder for each version."""
    built = {}
    for tag, accuracy in FIRST.items():
        built[tag] = tmp_path_factory.mktemp(tag) / "onnx-bench"
        make_folder(built[tag], offset=accuracy - 87.0, spaces=["nasbench201"])
    return built


@pytest.fixture
def hub(folders, monkeypatch, tmp_path):
    """The Hub with two tagged versions, asked by a user whose caches are empty."""
    monkeypatch.chdir(tmp_path)
    with hub_server.serving() as hub:
        hub_server.use(hub, monkeypatch, cache=tmp_path / "cache")
        for tag, folder in folders.items():
            repository = hub.put_folder(folder, REPOSITORY)
            repository.tags[tag] = repository.branches["main"]
        yield hub
    assert hub.unknown == []


def first(revision, **arguments):
    rows = load_dataset("onnx-bench", "nasbench201", split="test", revision=revision, **arguments)
    return next(iter(rows))["accuracy"]


def go_offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    huggingface_hub.HfFileSystem.clear_instance_cache()
    huggingface_hub.close_session()


@pytest.mark.parametrize("streaming", [False, True])
def test_each_revision_has_its_own_rows_from_a_cold_and_from_a_warm_cache(hub, streaming):
    for _ in range(2):
        for tag, accuracy in FIRST.items():
            commit = hub.repositories[REPOSITORY].tags[tag]
            assert first(tag, streaming=streaming) == first(commit, streaming=streaming) == accuracy
            assert load_row("nasbench201/00007", revision=tag)["accuracy"] == accuracy
    assert first(None, streaming=streaming) == FIRST["v2.0.0"]


@pytest.mark.parametrize("streaming", [False, True])
def test_an_unknown_revision_is_refused_with_the_tags_although_others_are_cached(hub, streaming):
    first("v1.0.0", streaming=streaming)
    for revision in ("v9.9.9", "0" * 40):
        with pytest.raises(UnknownNameError, match=r"no revision .*; its tags are v1\.0\.0, v2\.0\.0"):
            first(revision, streaming=streaming)
        with pytest.raises(UnknownNameError, match=r"its tags are v1\.0\.0, v2\.0\.0"):
            load_row("nasbench201/00007", revision=revision)


@pytest.mark.parametrize("streaming", [False, True])
def test_without_a_revision_a_new_version_is_loaded_although_the_old_one_is_cached(hub, folders, streaming):
    assert first(None, streaming=streaming) == FIRST["v2.0.0"]
    hub.put_folder(folders["v1.0.0"], REPOSITORY)
    assert first(None, streaming=streaming) == FIRST["v1.0.0"]


def test_offline_a_cached_version_is_loaded_and_another_one_refused(hub, monkeypatch):
    assert first("v1.0.0") == FIRST["v1.0.0"]
    go_offline(monkeypatch)
    asked = len(hub.requests)
    assert first("v1.0.0") == FIRST["v1.0.0"]
    for revision in (None, "v2.0.0"):
        with pytest.raises(LoadError, match="has not been loaded here before"):
            first(revision)
    with pytest.raises(LoadError, match="cannot be streamed without the Hub"):
        first("v1.0.0", streaming=True)
    assert len(hub.requests) == asked


def test_offline_each_downloaded_snapshot_loads_streams_and_gives_rows(hub, monkeypatch):
    for tag in FIRST:
        huggingface_hub.snapshot_download(REPOSITORY, repo_type="dataset", revision=tag)
    go_offline(monkeypatch)
    asked = len(hub.requests)
    for tag, accuracy in FIRST.items():
        assert first(tag) == first(tag, streaming=True) == accuracy
        assert load_row("nasbench201/00007", revision=tag)["accuracy"] == accuracy
    assert len(hub.requests) == asked


def test_the_environment_variable_for_offline_use_is_heeded(hub, tmp_path):
    huggingface_hub.snapshot_download(REPOSITORY, repo_type="dataset", revision="v1.0.0")
    program = """
from onnx_bench_dataset import load_dataset
print(next(iter(load_dataset("onnx-bench", split="test", revision="v1.0.0", streaming=True)))["accuracy"])
load_dataset("onnx-bench", revision="v2.0.0")
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "87.0"
    assert "since HF_HUB_OFFLINE is set, and revision 'v2.0.0' of" in done.stderr


def test_a_hub_that_does_not_answer_is_said_and_never_serves_another_version(hub, monkeypatch):
    assert first("v1.0.0") == FIRST["v1.0.0"]
    hub.cut(requests=0)
    with pytest.warns(UserWarning, match="the Hub cannot be asked"):
        assert first("v1.0.0") == FIRST["v1.0.0"]
    with pytest.raises(LoadError, match="has not been loaded here before"):
        first("v2.0.0")


def test_a_folder_has_no_revisions(folders):
    folder = str(folders["v1.0.0"])
    with pytest.raises(LoadError, match="is a folder here, which has no versions"):
        load_dataset(folder, revision="v1.0.0")
    with pytest.raises(LoadError, match="name the Hub repository, as onnx-bench/onnx-bench"):
        load_row("nasbench201/00007", folder, revision="v1.0.0")
