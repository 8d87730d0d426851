"""Publishing to the Hub: what is sent, what is not, what is refused, and how broken connections end."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import datasets
import hub_server
import in_threads
import pyarrow.parquet as pq
import pytest
from building import digests
from hub_server import OWNER, READER, WRITER
from hub_store import Entry, Repository
from test_loading import make_folder
from typer.testing import CliRunner

import onnx_bench_dataset
import upload
from builders import manifest
from builders.shards import record

NAME = f"{OWNER}/bench"
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("published") / "onnx-bench"
    make_folder(out)
    return out


@pytest.fixture
def folder(built, tmp_path):
    return shutil.copytree(built, tmp_path / "onnx-bench")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that may only be asked what it knows, with the token of an account that may write."""
    with hub_server.serving() as hub:
        hub_server.use(hub, monkeypatch, cache=tmp_path / "cache", token=WRITER)
        yield hub
        assert hub.unknown == []


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Seconds that would have been waited: nothing waits, and verifying starts no processes."""
    in_threads.use(monkeypatch)
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def run(folder, *arguments, name=NAME, rows=1):
    """Run `upload.py` and return (exit status, what it printed); a token is never printed."""
    command = [name, "--folder", str(folder), "--workers", "1", "--rows", str(rows), *arguments]
    result = CliRunner().invoke(upload.app, command)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert WRITER not in result.output
    assert READER not in result.output
    return result.exit_code, result.output


def published(folder, *arguments, **options):
    status, printed = run(folder, *arguments, **options)
    assert status == 0, printed
    return printed


def refused(folder, *arguments, **options):
    status, printed = run(folder, *arguments, **options)
    assert status == 1, printed
    assert "error: " in printed
    return printed


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def served(hub, name=NAME):
    return {path: body for path, body in hub.repositories[name].files.items() if path != ".gitattributes"}


def sent(hub):
    """Requests that change something on the Hub, or would."""
    return [request for request in hub.requests if request.method in ("PUT", "POST")]


def edit_manifest(folder, alter):
    content = json.loads((folder / manifest.FILE).read_text())
    alter(content["spaces"])
    (folder / manifest.FILE).write_text(json.dumps(content))


def rewrite_shard(folder):
    """Give the first shard other bytes with the same rows; return its path."""
    path = manifest.read(folder)["nasbench201"].shards[0].path
    pq.write_table(pq.read_table(folder / path), folder / path, compression="gzip")

    def describe(spaces):
        spaces["nasbench201"]["shards"][0] = list(record(folder, path))

    edit_manifest(folder, describe)
    return path


def remove_space(folder, space="nasbench101"):
    """Take a space out of a folder; return the paths of its files."""
    gone = [shard.path for shard in manifest.read(folder)[space].files]
    edit_manifest(folder, lambda spaces: spaces.pop(space))
    for path in gone:
        (folder / path).unlink()
    return gone


# What is published


def test_a_folder_is_published_whole_in_one_commit(hub, folder):
    printed = published(folder, "--tag", "v1.0.0", rows=500)
    repository = hub.repositories[NAME]
    assert served(hub) == files(folder)
    assert len(repository.commits) == 2  # the Hub's own and ours
    assert repository.tags == {"v1.0.0": repository.branches["main"]}
    assert f"{hub.url}/datasets/{NAME}" in printed
    assert "18 rows in 2 spaces; 18 of them recomputed" in printed
    assert not repository.private


def test_a_second_run_sends_nothing(hub, folder):
    published(folder, "--tag", "v1.0.0")
    before = len(sent(hub)), dict(hub.repositories[NAME].commits)
    assert "nothing to upload" in published(folder, "--tag", "v1.0.0")
    assert (len(sent(hub)), hub.repositories[NAME].commits) == before


def test_a_changed_shard_is_all_that_is_sent(hub, folder):
    published(folder)
    before = hub.received_whole.copy()
    path = rewrite_shard(folder)
    published(folder)
    assert served(hub) == files(folder)
    assert hub.received_whole - before == {digests(folder)[path]: 1}


def test_what_the_folder_no_longer_has_is_deleted(hub, folder):
    (folder / "pictures").mkdir()
    (folder / "pictures" / "accuracy.png").write_bytes(b"picture")
    published(folder)
    gone = remove_space(folder)
    shutil.rmtree(folder / "pictures")
    printed = published(folder)
    assert served(hub) == files(folder)
    assert all(f"to delete: {path}" in printed for path in [*gone, "pictures/accuracy.png"])


def test_very_many_files_take_several_commits_the_card_with_the_last(hub, folder, monkeypatch):
    published(folder)
    gone = remove_space(folder, "nasbench201")
    monkeypatch.setattr("builders.publishing._FILES_A_COMMIT", 2)
    fresh = f"{OWNER}/fresh"
    published(folder, name=fresh)
    published(folder)
    assert served(hub) == served(hub, fresh) == files(folder)
    commits = list(hub.repositories[fresh].commits.values())
    assert len(commits) > 2
    assert all("README.md" not in commit.tree for commit in commits[:-1])
    commits = list(hub.repositories[NAME].commits.values())
    assert all(set(gone) <= set(commit.tree) for commit in commits[1:-1])


def test_a_private_repository_is_made_private_and_a_public_one_is_not_used_for_it(hub, folder):
    published(folder, "--private")
    assert hub.repositories[NAME].private
    hub.put_folder(folder, f"{OWNER}/public")
    assert "is public" in refused(folder, "--private", name=f"{OWNER}/public")


def test_a_dry_run_says_what_it_would_do_and_sends_nothing(hub, folder):
    printed = published(folder, "--dry-run", "--private", "--tag", "v1.0.0")
    assert "to make: private repository" in printed
    assert "to tag: v1.0.0" in printed
    assert all(f"to upload: {path}, " in printed for path in files(folder))
    assert sent(hub) == []
    assert hub.repositories == {}
    published(folder)
    before = len(sent(hub))
    gone = remove_space(folder)
    printed = published(folder, "--dry-run")
    assert all(f"to delete: {path}" in printed for path in gone)
    assert len(sent(hub)) == before


def test_the_endpoint_may_be_an_option(hub, folder, monkeypatch, tmp_path):
    with hub_server.serving() as other:
        published(folder, "--endpoint", f"{other.url}/")
        assert served(other) == files(folder)
        assert hub.requests == []


# What is published loads


def test_what_was_published_loads_and_streams(hub, built, monkeypatch, tmp_path):
    published(built, "--tag", "v1.0.0")
    local = datasets.load_dataset(str(built), "nasbench201", split="train")
    monkeypatch.chdir(tmp_path)
    for load in (datasets.load_dataset, onnx_bench_dataset.load_dataset):
        assert list(load(NAME, "nasbench201", split="train", revision="v1.0.0")) == list(local)
    stream = datasets.load_dataset(NAME, split="test", streaming=True, columns=["id", "accuracy"])
    rows = list(stream)
    assert len(rows) == 5
    assert set(rows[0]) == {"id", "accuracy"}
    assert onnx_bench_dataset.load_row(local[3]["id"], NAME) == local[3]


# Versions


def test_a_version_does_not_change(hub, folder):
    published(folder, "--tag", "v1.0.0")
    first = hub.repositories[NAME].branches["main"]
    rewrite_shard(folder)
    before = len(sent(hub))
    assert "choose the next version" in refused(folder, "--tag", "v1.0.0")
    assert len(sent(hub)) == before
    published(folder, "--tag", "v1.0.1")
    assert hub.repositories[NAME].tags == {"v1.0.0": first, "v1.0.1": hub.repositories[NAME].branches["main"]}


def test_a_version_has_three_numbers(hub, folder):
    for tag in ("1.0.0", "v1.0", "v1.0.0-rc1", "v01.0.0", "main"):
        assert "is no version" in refused(folder, "--tag", tag)
    assert hub.requests == []


# Comparing


def test_check_finds_every_difference_and_asks_only(hub, folder):
    published(folder, "--tag", "v1.0.0")
    before = len(sent(hub))
    published(folder, "--check")
    path = rewrite_shard(folder)
    gone = remove_space(folder)
    (folder / "pictures").mkdir()
    (folder / "pictures" / "accuracy.png").write_bytes(b"picture")
    printed = refused(folder, "--check")
    assert f"{path} is published with another content" in printed
    assert f"{gone[0]} is published, but not in the folder" in printed
    assert "pictures/accuracy.png is not published" in printed
    assert refused(folder, "--check", "--tag", "v1.0.0") == printed.replace("main", "v1.0.0")
    assert "no revision v2.0.0" in refused(folder, "--check", "--tag", "v2.0.0")
    assert "there is no data set" in refused(folder, "--check", name=f"{OWNER}/nothing")
    assert len(sent(hub)) == before


def test_a_tree_of_many_pages_is_compared_whole(hub, folder):
    hub.page = 3
    published(folder)
    published(folder, "--check")
    assert len(served(hub)) > 2 * hub.page


def test_other_content_on_the_hub_is_found_after_an_upload(hub, folder, monkeypatch):
    commit = Repository.commit

    def alter(repository, title, tree, *branch):
        if "README.md" in tree:
            tree = {**tree, "README.md": Entry(b"another", False)}
        return commit(repository, title, tree, *branch)

    monkeypatch.setattr(Repository, "commit", alter)
    assert "README.md is published with another content" in refused(folder)


# What is refused


def test_a_folder_that_fails_verification_is_not_uploaded(hub, folder):
    path = manifest.read(folder)["nasbench201"].shards[0].path
    content = (folder / path).read_bytes()
    (folder / path).write_bytes(content[:-1] + b"!")
    assert "is not what the manifest says" in refused(folder)
    (folder / path).write_bytes(content)
    (folder / "secrets.txt").write_text("mine")
    assert "secrets.txt is not in the manifest" in refused(folder)
    (folder / "secrets.txt").unlink()
    (folder / "README.md").unlink()
    assert "README.md is missing" in refused(folder)
    assert sent(hub) == []


def test_a_wrong_graph_is_found_among_the_recomputed_rows(hub, folder):
    path = manifest.read(folder)["nasbench201"].shards[0].path
    table = pq.read_table(folder / path)
    texts = table["text"].to_pylist()
    table = table.set_column(table.column_names.index("text"), "text", [texts[::-1]])
    pq.write_table(table.cast(pq.read_schema(folder / path)), folder / path)

    def describe(spaces):
        spaces["nasbench201"]["shards"][0] = list(record(folder, path))

    edit_manifest(folder, describe)
    assert "it is not the text of the graph" in refused(folder, rows=500)
    assert sent(hub) == []


def test_a_folder_that_is_none_is_refused(hub, tmp_path):
    for arguments in ([], ["--dry-run"], ["--check"]):
        assert "is not a dataset folder" in refused(tmp_path / "nothing", *arguments)
    assert sent(hub) == []


def test_a_card_that_the_hub_does_not_accept_is_refused_before_anything_is_sent(hub, folder):
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace("config_name: catalog", "config_name: all"))
    assert '"configs" has a name twice' in refused(folder)
    assert hub.repositories == {}


def test_a_repository_with_other_data_is_refused_without_force(hub, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text("# Mine")
    repository = hub.put_folder(other, NAME)
    (other / "rows.csv").write_text("1,2")
    hub.put_folder(other, NAME)
    before = len(sent(hub)), repository.branches["main"]
    assert "holds other data" in refused(folder)
    assert (len(sent(hub)), repository.branches["main"]) == before
    published(folder, "--force")
    assert served(hub) == files(folder)


def test_somebodys_file_beside_ours_is_not_deleted_without_force(hub, folder, tmp_path):
    published(folder)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "notes.md").write_text("mine")
    hub.put_folder(copy, NAME)
    rewrite_shard(folder)
    assert "notes.md" in refused(folder)
    assert "notes.md" in served(hub)


def test_a_fresh_repository_with_a_card_is_used(hub, folder, tmp_path):
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / "README.md").write_text("# To come")
    hub.put_folder(tmp_path / "fresh", NAME)
    published(folder)
    assert served(hub) == files(folder)


def test_without_a_token_or_with_one_that_may_not_write_nothing_is_sent(hub, folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token" in refused(folder)
    monkeypatch.setenv("HF_TOKEN", READER)
    assert "may not write" in refused(folder)
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    assert "does not know the token" in refused(folder)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    assert "may not write" in refused(folder, name="nobody/bench")
    assert hub.repositories == {}


def test_the_token_of_the_usual_login_is_used(hub, folder, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache" / "token").write_text(WRITER)
    published(folder)
    assert served(hub) == files(folder)


def test_the_token_goes_to_the_hub_alone_and_into_no_file(hub, folder, tmp_path):
    published(folder, "--tag", "v1.0.0")
    assert {request.has_token for request in hub.requests if "/content/" in request.path} == {False}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(WRITER.encode() in path.read_bytes() for path in written)


def test_names_and_addresses_that_cannot_be_are_refused_without_asking(hub, folder):
    for name in ("bench", "a/b/c", "a/", "some one/bench", ""):
        assert "give NAMESPACE/NAME" in refused(folder, name=name)
    for name in ("someone/bench.git", "some--one/bench"):
        refused(folder, name=name)
    for endpoint in ("huggingface", "ftp://127.0.0.1"):
        assert "is not the address of a Hub" in refused(folder, "--endpoint", endpoint)
    assert hub.repositories == {}


def test_an_endpoint_where_no_hub_is_says_so(hub, folder):
    assert "could not be reached" in refused(folder, "--endpoint", "http://127.0.0.1:9")
    assert "refused or answered strangely" in refused(folder, "--endpoint", f"{hub.url}/else")
    hub.unknown.clear()


# Servers and connections that fail


ASKED = ("whoami", f"/{NAME}$", "refs", "tree", "validate", "create", "preupload", "batch", "/content/")
ASKED += ("verify", "commit", "/tag/")


@pytest.fixture
def empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_errors_that_pass_are_waited_out_wherever_they_come(hub, folder, waits):
    for tag in ("v1.0.0", "v1.0.1"):
        for path in ASKED:
            hub.fail(500, path=path)
            hub.fail(429, path=path, retry_after=7)
            hub.truncate(path=path)
        published(folder, "--tag", tag)
        assert served(hub) == files(folder)
        rewrite_shard(folder)
        hub.restore()
    assert len(hub.repositories[NAME].commits) == 3
    assert waits.count(7) + waits.count(8) >= len(ASKED)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *((path, 500) for path in ASKED),
        *((path, "truncated") for path in ("whoami", "tree", "create", "batch")),
    ],
)
def test_errors_that_stay_end_with_a_message_and_a_second_run_goes_on(hub, folder, empty, path, status):
    if path != "create":
        hub.put_folder(empty, NAME)
    if status == "truncated":
        hub.truncate(1_000, path)
    else:
        hub.fail(status, 1_000, path)
    printed = refused(folder, "--tag", "v1.0.0")
    assert "run the same command again" in printed
    assert len(printed) < 5_000
    assert hub.asked(path) <= 60
    hub.restore()
    published(folder, "--tag", "v1.0.0")
    assert served(hub) == files(folder)
    assert path in ("/content/", "verify") or max(hub.received_whole.values()) == 1


def test_a_server_that_repeats_the_token_does_not_get_it_printed(hub, folder):
    hub.fail(400, path="whoami", message=f"{WRITER} is odd")
    assert "<token> is odd" in refused(folder)


def test_a_server_that_wants_hours_is_not_waited_for(hub, folder, waits):
    hub.fail(429, path="whoami", retry_after=86_400)
    refused(folder)
    assert waits == []


def test_somebody_else_commits_in_the_meantime(hub, folder, tmp_path):
    published(folder)
    path = rewrite_shard(folder)
    hub.fail(412, path="commit")
    published(folder)
    assert served(hub)[path] == (folder / path).read_bytes()


def points(requests, received):
    """Twenty random points of an upload, as arguments of `Hub.cut`."""
    draw = random.Random(5)
    yield from ({"requests": draw.randrange(requests)} for _ in range(6))
    yield from ({"requests": draw.randrange(requests), "handled": True} for _ in range(6))
    yield from ({"received": draw.randrange(received)} for _ in range(8))


def test_an_upload_that_is_cut_anywhere_goes_on_and_sends_no_file_twice(hub, built):
    published(built, "--tag", "v1.0.0")
    whole = served(hub)
    requests, received = len(hub.requests), sum(request.received for request in hub.requests)
    for number, point in enumerate(points(requests, received)):
        name = f"{OWNER}/cut-{number}"
        hub.received_whole.clear()
        hub.cut(**point)
        status, printed = run(built, "--tag", "v1.0.0", name=name)
        assert (status, hub.is_down) == (1, True), (point, printed)
        hub.restore()
        published(built, "--tag", "v1.0.0", name=name)
        assert served(hub, name) == whole
        repository = hub.repositories[name]
        assert len(repository.commits) == 2
        assert repository.tags == {"v1.0.0": repository.branches["main"]}
        assert set(hub.received_whole.values()) == {1}, point


def test_content_and_a_commit_whose_answers_are_lost_are_found_by_the_next_run(hub, folder):
    published(folder, name=f"{OWNER}/first")
    asked = [request.path for request in hub.requests]
    for number, part in enumerate(("/content/", "/commit/")):
        name = f"{OWNER}/lost-{number}"
        hub.received_whole.clear()
        hub.cut(requests=next(index for index, path in enumerate(asked) if part in path), handled=True)
        refused(folder, name=name)
        hub.restore()
        stored = len(hub.repositories[name].blobs)
        assert stored == (1 if part == "/content/" else len(hub.repositories[f"{OWNER}/first"].blobs))
        printed = published(folder, name=name)
        assert ("nothing to upload" in printed) == (part == "/commit/")
        assert len(hub.repositories[name].commits) == 2
        assert set(hub.received_whole.values()) == {1}


def test_a_connection_that_comes_back_is_used_again_in_the_same_run(hub, built, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: hub.restore())
    for number, received in enumerate(range(0, 100_000, 10_000)):
        hub.received_whole.clear()
        hub.cut(received=received)
        published(built, name=f"{OWNER}/back-{number}")
        assert served(hub, f"{OWNER}/back-{number}") == files(built)
        assert set(hub.received_whole.values()) == {1}


def test_ctrl_c_ends_an_upload_with_a_message(hub, folder):
    hub.fail(500, 1_000, "preupload")
    command = [sys.executable, str(CHECKOUT / "upload.py"), NAME, "--folder", str(folder), "--workers", "1"]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not hub.asked("preupload"):
        assert process.poll() is None, process.communicate()
        threading.Event().wait(0.05)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "interrupted; what was sent is kept" in printed
    assert "Traceback" not in printed
    assert WRITER not in printed
