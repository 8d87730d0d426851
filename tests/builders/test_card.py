"""The card: metadata by the Hub's rules, tables that say what the folder holds, examples that run."""

import re
import shutil

import datasets
import pytest
import tiny_folder
import yaml
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard

import onnx_bench_dataset
from builders import card
from builders.registry import BENCHMARKS
from onnx_bench_dataset import schema, splits
from onnx_bench_dataset.errors import LoadError

TASKS = {"graph-ml", "tabular-regression", "tabular-classification", "text-generation", "other"}
"""Some of the task categories that the Hub knows (`packages/tasks/src/pipelines.ts` of huggingface.js)."""
SUBTASKS = {"tabular-single-column-regression", "language-modeling"}
LICENSES = {"mit", "apache-2.0", "bsd-3-clause", "cc-by-4.0", "other", "unknown"}
ANNOTATIONS = {"found", "crowdsourced", "expert-generated", "machine-generated", "no-annotation", "other"}
SIZES = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M"]
MOST_SPLITS = 30  # of a config in the Hub's viewer
DATASHEET = [
    "Motivation",
    "Composition",
    "Collection",
    "Preprocessing",
    "Uses",
    "Distribution",
    "Maintenance",
]
COUNTS = {"nasbench101": 10, "nasbench201": 15}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder that holds `onnx-bench`."""
    home = tmp_path_factory.mktemp("home")
    tiny_folder.make(home / "onnx-bench", COUNTS)
    return home


@pytest.fixture(scope="module")
def readme(home):
    return (home / "onnx-bench" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def about(readme):
    return DatasetCard(readme).data.to_dict()


def test_metadata_has_the_values_that_the_hub_knows(about):
    assert set(about["task_categories"]) <= TASKS
    assert set(about["task_ids"]) <= SUBTASKS
    assert set(about["license"]) <= LICENSES
    assert set(about["annotations_creators"]) <= ANNOTATIONS
    assert about["language"] == ["en"]
    assert about["pretty_name"] == "onnx-bench"
    assert about["size_categories"] == ["n<1K"]
    assert all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in about["tags"])
    assert about.keys() <= {
        *("pretty_name", "license", "language", "task_categories", "task_ids", "annotations_creators"),
        *("tags", "size_categories", "configs"),  # no `dataset_info`: filters would break with its splits
    }


def test_size_categories_are_those_of_the_number_of_rows():
    for rows, category in ((999, 0), (1_000, 1), (505_930, 3), (1_000_000, 4), (100_000_000 - 1, 5)):
        assert card._size(rows) == SIZES[category]


def test_configs_are_those_of_the_folder_with_one_default(about):
    names = [config["config_name"] for config in about["configs"]]
    assert names == [
        "all",
        "nasbench101",
        "nasbench201",
        "zero-shot-nasbench101",
        "zero-shot-nasbench201",
        "catalog",
        "gallery",
    ]
    assert [config.get("default") for config in about["configs"]] == [True, *[None] * 6]
    for config in about["configs"]:
        assert re.fullmatch(r"[\w.-]+", config["config_name"])
        assert config.keys() <= {"config_name", "default", "description", "data_files"}
        named = [files["split"] for files in config["data_files"]]
        assert len(set(named)) == len(named) <= MOST_SPLITS
        assert all(re.fullmatch(r"\w+(\.\w+)*", split) and split != "all" for split in named)
    assert set(
        MetadataConfigs.from_dataset_card_data(DatasetCard("---\n" + yaml.dump(about) + "---\n").data)
    ) == set(names)


def test_every_pattern_finds_files_and_every_file_is_found(home, about):
    folder = home / "onnx-bench"
    found = set()
    for config in about["configs"]:
        for files in config["data_files"]:
            for pattern in files["path"]:
                paths = set(folder.glob(pattern))
                assert paths, pattern
                found |= paths
    assert found == set(folder.rglob("*.parquet"))


def test_the_hub_learns_the_configs_from_every_set_of_spaces():
    built = dict.fromkeys(BENCHMARKS, splits.SPLITS)
    for config in splits.configs(built):
        assert 1 <= len(config.splits) <= MOST_SPLITS
    assert sum(config.is_default for config in splits.configs(built)) == 1


def test_rows_and_labels_are_counted(readme):
    assert "| `nasbench101` | 10 | 8 | 2 | 10 | 0 | 0 | [" in readme
    assert "| `nasbench201` | 15 | 12 | 3 | 15 | 0 | 0 | [" in readme
    assert "| `all` (default) | every space | 20 | 5 |" in readme
    assert "| `zero-shot-nasbench201` | train on every other family, test on nasbench201 | 8 | 3 |" in readme
    assert re.search(r"\| `gallery` \| .* \| 25 \| 0 \|", readme)


def test_every_space_has_licence_caveats_and_citation(readme):
    for space in COUNTS:
        benchmark = BENCHMARKS[space]
        assert f"| [{benchmark.paper}]({benchmark.url}) | {benchmark.licence} |" in readme
        assert f"- **{space}**: {benchmark.caveats}" in readme
        assert all(key in readme for key in re.findall(r"^@\w+\{(.+),", benchmark.bibtex, re.MULTILINE))


def test_no_mark_is_left_and_every_column_is_described(readme):
    assert set(re.findall(r"<!-- /?(\w+) -->", readme)) == {"pictures"}  # which `builders pictures` fills
    for column in schema.SCHEMA:
        assert f"| `{column.name}` |" in readme


def test_the_datasheet_has_the_usual_sections(readme):
    sheet = readme.partition("## Datasheet\n")[2].partition("\n## ")[0]
    sections = re.split(r"^### (.+)$", sheet, flags=re.MULTILINE)
    assert sections[1::2] == DATASHEET
    assert all(len(text.split()) > 20 for text in sections[2::2])


def test_examples_run_one_after_another(home, readme, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    known = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    for block in blocks:
        exec(compile(block, "README.md", "exec"), known)
    assert known["model"].graph.node
    assert set(known["few"].column_names) == {"id", "accuracy", "text"}
    assert min(known["good"]["accuracy"]) > 80
    printed = capsys.readouterr().out
    assert re.search(r"^nasbench201 -?[01]\.\d+", printed, re.MULTILINE)


def test_each_build_has_its_own_description_of_its_configs(home, about, tmp_path):
    other = tiny_folder.make(tmp_path, {**COUNTS, "nasbench201": 20})
    before = {config["config_name"]: config["description"] for config in about["configs"]}
    after = {
        config["config_name"]: config["description"]
        for config in DatasetCard(card.readme(other)).data["configs"]
    }
    changed = {name for name in before if before[name] != after[name]}
    assert changed == before.keys() - {"nasbench101"}


def test_the_loader_misses_a_picture_file_that_is_not_there(home, tmp_path):
    copy = shutil.copytree(home / "onnx-bench", tmp_path / "onnx-bench")
    (copy / "gallery/nasbench201/train-00000-of-00001.parquet").unlink()
    with pytest.raises(LoadError, match="missing or cut short"):
        onnx_bench_dataset.load_dataset(str(copy), "gallery")
