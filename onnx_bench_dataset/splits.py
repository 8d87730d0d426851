"""Which rows train and which test, and the configs in which a dataset folder offers them.

Shards are stored once, as `data/<space>/<split>-*.parquet`; every config is a choice among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx_bench_dataset.spaces import SPACES

TRAIN, TEST = "train", "test"
SPLITS = (TRAIN, TEST)

_TEST_SHARE = 5  # one graph in five


def split_of_graph(graph_hash: str) -> str:
    """Return the split of a graph where no paper says it: one in five tests, equal graphs stay together.

    >>> split_of_graph("00000000000000000000000000000005"), split_of_graph("00000001" + 24 * "0")
    ('test', 'train')
    """
    return TEST if int(graph_hash[:8], 16) % _TEST_SHARE == 0 else TRAIN


@dataclass(frozen=True, slots=True)
class Config:
    """A named choice of shards: for each split the spaces whose shards it reads."""

    name: str
    title: str
    splits: Mapping[str, Sequence[str]]
    folder: str = "data"
    is_default: bool = False

    def patterns(self, split: str) -> list[str]:
        """Return glob patterns of a split's shards, relative to the dataset folder."""
        return [f"{self.folder}/{space}/{split}-*.parquet" for space in self.splits[split]]


def configs(built: Mapping[str, Sequence[str]]) -> list[Config]:
    """Return the configs of a folder in which each space has been built with the given splits.

    A space that is not one of ours, made from imported files, is a family of its own.

    >>> built = dict.fromkeys(["nasbench101", "nasbench201"], ["train", "test"])
    >>> [config.name for config in configs(built)][2:]
    ['nasbench201', 'zero-shot-nasbench101', 'zero-shot-nasbench201', 'catalog', 'gallery']
    """
    spaces = [*(name for name in SPACES if name in built), *sorted(built.keys() - SPACES.keys())]
    families = {name: SPACES[name].family if name in SPACES else name for name in spaces}

    def having(split: str, among: Sequence[str]) -> list[str]:
        return [name for name in among if split in built[name]]

    def every(among: Sequence[str]) -> dict[str, list[str]]:
        return {split: having(split, among) for split in SPLITS if having(split, among)}

    found = [Config("all", "every space", every(spaces), is_default=True)]
    found += [Config(name, name, every([name])) for name in spaces]
    unseen = [name for name in spaces if name not in SPACES or not SPACES[name].is_reduced]
    for family in dict.fromkeys(families[name] for name in unseen):
        inside = having(TEST, [name for name in unseen if families[name] == family])
        outside = having(TRAIN, [name for name in unseen if families[name] != family])
        if inside and outside:
            title = f"train on every other family, test on {family}"
            found.append(Config(f"zero-shot-{family}", title, {TRAIN: outside, TEST: inside}))
    found.append(
        Config("catalog", "every space without graphs, for browsing", every(spaces), folder="catalog")
    )
    found.append(
        Config("gallery", "64 architectures of every space with pictures", {TRAIN: spaces}, folder="gallery")
    )
    return found
