"""The data set's card: `dataset_card.md` with what a build knows put in the place of its marks.

The YAML at the head of the result, from which `datasets` and the Hub learn the configs, is made from
`splits.configs`; a mark is an HTML comment such as `<!-- columns -->`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from builders.manifest import SpaceRecord
from builders.registry import BENCHMARKS
from onnx_bench_dataset.schema import columns_table
from onnx_bench_dataset.splits import SPLITS, Config, configs

TEMPLATE = Path(__file__).parent.parent / "dataset_card.md"

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)
"""The Hub's size categories, by the number of rows that they stay below."""


_UNPUBLISHED = {
    "imported": (
        "imported files",
        "that of the imported files",
        "imported from ONNX files. Graphs are in inference form: `num_nodes`, `num_params` and the like are "
        "of that form. Labels are what the files, or a table that came with them, say; nobody has checked "
        "them.",
    ),
    "sampled": (
        "drawn at random",
        "no labels",
        "architectures drawn at random; nobody has trained them. The same architecture, or the same graph of "
        "another, can occur more than once, always in the same split: `graph_hash` tells.",
    ),
}
"""What stands for paper, licence and caveats of rows that are no benchmark's, by their origin."""


def readme(spaces: Mapping[str, SpaceRecord]) -> str:
    """Return the README of a folder that holds `spaces`."""
    _, head, body = TEMPLATE.read_text(encoding="utf-8").split("---\n", 2)
    offered = configs({space: record.splits for space, record in spaces.items()})
    about = {
        **yaml.safe_load(head),
        "size_categories": [_size(sum(record.rows() for record in spaces.values()))],
        "configs": [_yaml(config, spaces) for config in offered],
    }
    marks = {
        "configs": _configs_table(offered, spaces),
        "columns": columns_table(),
        "spaces": spaces_table(spaces),
        "sources": _sources_table(spaces),
        "caveats": "\n".join(f"- **{space}**: {_caveats(space, record)}" for space, record in spaces.items()),
        "citations": _citations(spaces),
    }
    for mark, text in marks.items():
        body = body.replace(f"<!-- {mark} -->", text)
    return f"---\n{yaml.safe_dump(about, sort_keys=False, width=110)}---\n{body}"


def _yaml(config: Config, spaces: Mapping[str, SpaceRecord]) -> dict[str, Any]:
    """Describe a config.

    `datasets` caches what it loads under a digest of this description, not of the shards: the digest in it
    changes with them, so that a rebuilt folder is never served from an old cache.
    """
    entry: dict[str, Any] = {"config_name": config.name}
    if config.is_default:
        entry["default"] = True
    entry["description"] = f"{config.title} (build {_fingerprint(config, spaces)})"
    entry["data_files"] = [{"split": split, "path": config.patterns(split)} for split in config.splits]
    return entry


def _fingerprint(config: Config, spaces: Mapping[str, SpaceRecord]) -> str:
    digest = hashlib.sha256()
    for space in dict.fromkeys(space for among in config.splits.values() for space in among):
        for shard in spaces[space].files:
            digest.update(shard.sha256.encode())
    return digest.hexdigest()[:12]


def _size(rows: int) -> str:
    return next((name for bound, name in _SIZES if rows < bound), "100M<n<1B")


def spaces_table(spaces: Mapping[str, SpaceRecord]) -> str:
    """Return a Markdown table of the spaces with their row counts and licences."""
    lines = [
        "| space | rows | train | test | trained | surrogate | unlabelled | paper | licence of the labels |",
        "| --- | --: | --: | --: | --: | --: | --: | --- | --- |",
    ]
    for space, record in spaces.items():
        counts = [record.rows(), *(record.rows(split) for split in SPLITS)]
        counts += [record.labels.get(label, 0) for label in ("trained", "surrogate", "unlabelled")]
        numbers = " | ".join(f"{count:,}" for count in counts)
        benchmark = BENCHMARKS.get(space)
        paper = f"[{benchmark.paper}]({benchmark.url})" if benchmark else _UNPUBLISHED[record.origin][0]
        published = benchmark if record.origin == "benchmark" else None
        licence = published.licence if published else _UNPUBLISHED[record.origin][1]
        lines.append(f"| `{space}` | {numbers} | {paper} | {licence} |")
    return "\n".join(lines)


def _caveats(space: str, record: SpaceRecord) -> str:
    return BENCHMARKS[space].caveats if record.origin == "benchmark" else _UNPUBLISHED[record.origin][2]


def _citations(spaces: Mapping[str, SpaceRecord]) -> str:
    """Return the entries of all benchmarks, those that several share once."""
    texts = [BENCHMARKS[space].bibtex.strip() for space in spaces if space in BENCHMARKS]
    entries = dict.fromkeys(
        entry.strip() for text in texts for entry in re.split(r"^(?=@)", text, flags=re.M)
    )
    return "\n\n".join(f"```bibtex\n{entry}\n```" for entry in entries if entry)


def _configs_table(offered: Sequence[Config], spaces: Mapping[str, SpaceRecord]) -> str:
    lines = ["| config | what | train | test |", "| --- | --- | --: | --: |"]
    for config in offered:
        counts = [_rows(config, split, spaces) for split in SPLITS]
        name = f"`{config.name}`" + (" (default)" if config.is_default else "")
        lines.append(f"| {name} | {config.title} | {counts[0]:,} | {counts[1]:,} |")
    return "\n".join(lines)


def _rows(config: Config, split: str, spaces: Mapping[str, SpaceRecord]) -> int:
    records = [spaces[space] for space in config.splits.get(split, ())]
    if config.folder == "gallery":
        return sum(shard.rows for record in records for shard in record.gallery)
    return sum(record.rows(split) for record in records)


def _sources_table(spaces: Mapping[str, SpaceRecord]) -> str:
    lines = ["| space | file | bytes | sha256 |", "| --- | --- | --: | --- |"]
    for space, record in spaces.items():
        for source in record.sources:
            name = f"[`{source.path}`]({source.url})" if source.url else f"`{source.path}`"
            lines.append(f"| `{space}` | {name} | {source.bytes:,} | `{source.sha256[:16]}…` |")
        lines += [f"\n{space}: {note}" for note in record.notes]
    return "\n".join(lines)
