"""What `load_dataset(..., streaming=True)` returns: a `datasets.IterableDataset` that reads shards.

It does what a stream of `datasets` does (split by node, workers, shuffling, states), and beside that:

- it can be left at any moment, without Arrow's threads aborting the process when Python ends;
- plain `for row in stream` is fast: a row group becomes rows at once;
- it reads no more of a remote shard than the columns and row groups that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from datasets.builder import Key
from datasets.features.features import require_decoding
from datasets.iterable_dataset import ArrowExamplesIterable
from datasets.packaged_modules.parquet.parquet import ParquetConfig
from datasets.utils.sharding import _split_gen_kwargs

from onnx_bench_dataset.errors import LoadError, UnknownNameError
from onnx_bench_dataset.shard import Shard, open_shard

_ROWS_AT_ONCE = 64  # that become Python objects together: enough to be fast, few enough to stay in the cache

_NOT_HERE = ("batch_size", "fragment_scan_options", "on_bad_files")


def stream(path: str, name: str | None, split: str | None = None, **arguments: Any) -> Any:
    """Return a split, or a dictionary of all of them, as a stream; arguments are those of `load_dataset`.

    Raises:
        LoadError: an argument is one that this reader has no use for.
        ValueError: there is no such split, as `datasets` says it.
    """
    for argument in _NOT_HERE:
        if argument in arguments:
            raise LoadError(f"streams of onnx-bench know no `{argument}`: leave it out")
    found = datasets.load_dataset_builder(path, name, **arguments)
    builder = ShardBuilder(
        cache_dir=found._cache_dir_root,
        dataset_name=found.dataset_name,
        config_name=found.config.name,
        hash=found.hash,
        base_path=found.base_path,
        repo_id=found.repo_id,
        token=found.token,
        storage_options=found.storage_options,
        data_files=found.config.data_files,
        columns=found.config.columns,
        features=found.config.features,
        filters=found.config.filters,
    )
    return builder.as_streaming_dataset(split=split)


class ShardBuilder(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """What makes streams: a builder of `datasets` whose tables come from `Shard`."""

    BUILDER_CONFIG_CLASS = ParquetConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=self.config.features)

    def _split_generators(
        self, dl_manager: datasets.StreamingDownloadManager
    ) -> list[datasets.SplitGenerator]:
        files: dict[str, list[str]] = dl_manager.download(self.config.data_files)
        features = self.info.features
        if features is None:
            first = next(file for split in files.values() for file in split)
            features = datasets.Features.from_arrow_schema(self._shard(first).schema)
        wanted = self.config.columns
        if wanted is not None:
            if unknown := [column for column in wanted if column not in features]:
                raise UnknownNameError(
                    f"there is no column {', '.join(unknown)}; the columns are {', '.join(features)}"
                )
            features = datasets.Features({name: features[name] for name in features if name in wanted})
        self.info.features = features
        return [
            datasets.SplitGenerator(name, {"files": list(shards), "groups": [None] * len(shards)})
            for name, shards in files.items()
        ]

    def _get_examples_iterable_for_split(
        self, split_generator: datasets.SplitGenerator
    ) -> ArrowExamplesIterable:
        arguments = self._generate_tables, split_generator.gen_kwargs, self._generate_more_gen_kwargs
        if require_decoding(self.info.features):  # as pictures: `datasets` knows how
            return ArrowExamplesIterable(*arguments)
        return _ShardRows(*arguments, features=self.info.features)

    def _generate_tables(
        self, files: Sequence[str], groups: Sequence[int | None]
    ) -> Iterator[tuple[Key, pa.Table]]:
        """Yield the row groups of files, or one row group of each file where `groups` says which."""
        schema = self.info.features.arrow_schema
        condition = self.config.filters
        if isinstance(condition, list):
            condition = pq.filters_to_expression(condition)
        for file_index, (file, only) in enumerate(zip(files, groups, strict=True)):
            shard = self._shard(file)
            chosen = shard.row_groups(condition)
            if only is not None:
                chosen = [only] if only in chosen else []
            columns = _columns_to_read(shard.schema, schema.names, condition)
            for group, table in zip(chosen, shard.tables(chosen, columns), strict=True):
                if condition is not None:
                    table = table.filter(condition)
                yield Key(file_index, group), table.select(schema.names).cast(schema)

    def _generate_more_gen_kwargs(
        self, files: Sequence[str], groups: Sequence[int | None]
    ) -> Iterator[dict[str, list[Any]]]:
        """Yield the arguments of `_generate_tables` anew, with a shard for each row group."""
        for file, only in zip(files, groups, strict=True):
            numbers = self._shard(file).row_groups() if only is None else [only]
            yield {"files": [file] * len(numbers), "groups": numbers}

    def _shard(self, file: str) -> Shard:
        protocol = file.partition("://")[0]
        options = dict(self.storage_options.get(protocol) or {})
        if protocol == "hf":
            options = {"token": self.token, "endpoint": datasets.config.HF_ENDPOINT, **options}
        return open_shard(file, options)


class _ShardRows(ArrowExamplesIterable):  # type: ignore[misc]
    """Rows of shards that have their types already, so that `datasets` does not cast them one by one."""

    def __init__(
        self,
        tables: Callable[..., Iterator[tuple[Key, pa.Table]]],
        arguments: dict[str, Any],
        more_arguments: Callable[..., Iterator[dict[str, Any]]],
        features: datasets.Features,
    ) -> None:
        super().__init__(tables, arguments, more_arguments)
        self._features = features

    @property
    def features(self) -> datasets.Features:
        return self._features

    @property
    def is_typed(self) -> bool:
        return True

    def __iter__(self) -> Iterator[tuple[Key, dict[str, Any]]]:
        state = self._state_dict or self._init_state_dict()
        shards = _split_gen_kwargs(self.kwargs, max_num_jobs=self.num_shards)
        for arguments in islice(shards, state["shard_idx"], None):
            done = state["shard_example_idx"]
            for key, table in self.generate_tables_fn(**arguments):
                if done >= len(table):
                    done -= len(table)
                    continue
                for batch in table.slice(done).to_batches(max_chunksize=_ROWS_AT_ONCE):
                    columns = [column.to_pylist() for column in batch.columns]
                    for values in zip(*columns, strict=True):
                        state["shard_example_idx"] += 1
                        yield key, dict(zip(batch.schema.names, values, strict=True))
                done = 0
            state["shard_idx"] += 1
            state["shard_example_idx"] = 0

    def shuffle_data_sources(self, generator: np.random.Generator) -> _ShardRows:
        return self._typed(super().shuffle_data_sources(generator))

    def shard_data_sources(self, num_shards: int, index: int, contiguous: bool = True) -> _ShardRows:
        return self._typed(super().shard_data_sources(num_shards, index, contiguous))

    def reshard_data_sources(self) -> _ShardRows:
        return self._typed(super().reshard_data_sources())

    def _typed(self, rows: ArrowExamplesIterable) -> _ShardRows:
        return _ShardRows(self.generate_tables_fn, rows.kwargs, self.generate_more_kwargs_fn, self._features)


def _columns_to_read(schema: pa.Schema, wanted: Sequence[str], condition: ds.Expression | None) -> list[str]:
    """Return the columns that are asked for, and those that a condition may name."""
    return [
        name for name in schema.names if name in wanted or (condition is not None and name in str(condition))
    ]
