"""Makes small dataset folders with made-up labels, in this process and without published files."""

from builders import card, gallery, manifest
from builders.labels import LabelledArchitecture, Metric, no_progress
from builders.manifest import SpaceRecord
from builders.shards import Target, plan, write_catalog, write_shard
from onnx_bench_dataset import spaces

NASBENCH101 = (
    "output:0",
    *(f"maxpool3x3:0 {'conv3x3-bn-relu:1 ' * count}output:{count + 1}" for count in range(4)),
)


def rows_of(space, count, labelled=None):
    """Return rows, four of five of which train; the first `labelled` have a label, all by default."""
    drawn = NASBENCH101 if space == "nasbench101" else spaces.get(space).sample(count, 0)
    found = []
    for number in range(count):
        accuracy = 80.0 + number * 19 / count if labelled is None or number < labelled else None
        metrics = () if accuracy is None else (Metric("cifar10", "test", "accuracy", 108, None, accuracy),)
        found.append(
            LabelledArchitecture(
                name=f"{number:05d}",
                architecture=drawn[number % len(drawn)],
                dataset="cifar10",
                accuracy=accuracy,
                label=None if accuracy is None else "trained",
                metrics=metrics,
                num_params=None,
                split="test" if number % 5 == 4 else "train",
            )
        )
    return found


def add_space(folder, space, rows, *, from_text=False, run=map):
    """Write the files of a space and return its record."""
    target = Target(folder, folder)
    shards = []
    for split in ("train", "test"):
        some = [row for row in rows if row.split == split]
        shards += [write_shard(folder, task) for task in plan(space, split, some)]
    catalog = tuple(
        write_catalog(folder, f"catalog/{space}/{split}-00000-of-00001.parquet", paths)
        for split in ("test", "train")
        if (paths := [shard.path for shard in shards if f"/{split}-" in shard.path])
    )
    pictures = gallery.make(target, space, shards, from_text=from_text, run=run, progress=no_progress)
    labels = {}
    for row in rows:
        labels[row.label or "unlabelled"] = labels.get(row.label or "unlabelled", 0) + 1
    origin = "imported" if from_text else "benchmark"
    return SpaceRecord("", tuple(sorted(shards)), catalog, pictures, (), (), labels, origin)


def finish(folder, records):
    """Write manifest and README."""
    manifest.write(folder, records)
    (folder / "README.md").write_text(card.readme(records), encoding="utf-8")


def make(folder, counts):
    """Make a folder with so many rows of each space and return its records."""
    folder.mkdir(parents=True, exist_ok=True)
    records = {space: add_space(folder, space, rows_of(space, count)) for space, count in counts.items()}
    finish(folder, records)
    return records
