"""NAS-Bench-201: 15,625 cells trained on three data sets (Dong and Yang 2020, arXiv 2001.00326).

The label is the mean test accuracy on CIFAR-10 after 200 epochs, for a network trained on all 50,000 training
images. Figures are those of NATS-Bench v1.0, the current edition of the benchmark; the older NAS-Bench-201
v1.1 averages other training runs. What is read:

- `NATS-tss-v1_0-3ffb9-simple/meta.pickle.pbz2`: the architectures in the benchmark's order;
- `<dataset>/accuracies.csv`: index, mean test accuracy at 200 epochs over a number of seeds that it does not
  state; `cifar10/params.csv`: index, millions of learnable parameters;
- `nb201_val_accs.csv`: for the 9,445 networks in which every operation is on a path from input to output, the
  validation accuracy that NASLib returns. It was measured on CIFAR-10's 10,000 test images, with the network
  trained on half of the training images, in one run: all values are multiples of 0.01, while 25,000
  validation images give multiples of 0.004, and they are those of seed 888 in the official records;
- `hw_cifar10.csv`: latency in ms and energy in mJ for one image on six devices, from HW-NAS-Bench (Li et al.
  2021, arXiv 2103.10584). -1.0 stands for what could not be measured. It gives no unit for
  `eyeriss_arithmetic_intensity`;
- `nb201_zc_proxies.csv`: not its scores, but its pairs of key and architecture string and its parameter
  counts, to check the keys of the other two files;
- `NATS-tss-v1_0-3ffb9-simple/NNNNNN.pickle.pbz2`: official training records, of three architectures or of as
  many as the user's copy of the archive has. Their figures replace the coarser ones above.

Without the CSV files a complete archive is enough, else `NAS-Bench-201-v1_1-096897.pth` is read.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builders import nats
from builders.benchmark import Benchmark
from builders.labels import LabelledArchitecture, Metric, Progress, no_progress
from builders.sources import MissingSourceError, Sources
from onnx_bench_dataset.errors import SourceError

SPACE = "nasbench201"
COUNT = 15_625
"""Number of architectures."""

_ARCHIVE = f"{SPACE}/NATS-tss-v1_0-3ffb9-simple"
_OLD_ARCHIVE = f"{SPACE}/NAS-Bench-201-v1_1-096897.pth"
_PINNED_RECORDS = (0, 11, 284)
_DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
_HEADLINE = ("cifar10", "test", "accuracy", 200)

_OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
"""By the numbers in the keys of NASLib's files."""
_KEY = re.compile(r"\(([0-4]), ([0-4]), ([0-4]), ([0-4]), ([0-4]), ([0-4])\)")
_NOT_MEASURED = "-1.0"
_DEVICE_UNITS = {"latency": "_ms", "energy": "_mJ", "intensity": ""}
_DEVICE_FIGURES = (
    "edgegpu_latency",
    "edgegpu_energy",
    "raspi4_latency",
    "edgetpu_latency",
    "pixel3_latency",
    "eyeriss_latency",
    "eyeriss_energy",
    "eyeriss_arithmetic_intensity",
    "fpga_latency",
    "fpga_energy",
)


@dataclass(slots=True)
class _Row:
    """What is known of an architecture; one metric for every (dataset, split, name, epochs)."""

    metrics: dict[tuple[str, str, str, int | None], Metric] = field(default_factory=dict)
    num_params: int | None = None

    def put(self, *metrics: Metric) -> None:
        """Add `metrics`, in the place of coarser figures of the same thing."""
        self.metrics.update({(m.dataset, m.split, m.name, m.epochs): m for m in metrics})


def read(sources: Sources, progress: Progress = no_progress) -> Iterator[LabelledArchitecture]:
    """Yield every architecture of NAS-Bench-201 with its labels, in the benchmark's order.

    Raises `SourceError` if a published file is missing, damaged or does not fit the others.
    """
    archive = sources.archive(_ARCHIVE)
    files = {} if archive is None else nats.record_files(archive, COUNT)
    try:
        architectures, rows, pinned = _read_tables(sources)
    except MissingSourceError as missing:
        if archive is not None and len(files) == COUNT:
            architectures, records = _open_archive(sources, archive, files)
        else:
            old_archive = sources.archive(_OLD_ARCHIVE)
            if old_archive is None:
                raise
            architectures, records = _open_old_archive(sources, old_archive)
        sources.note(f"NAS-Bench-201: the published tables were done without ({missing})")
        rows = _rows_of_devices(sources, architectures)
    else:
        more = {index: path for index, path in files.items() if index not in pinned}
        if more:
            sources.record(_ARCHIVE, list(more.values()))
        records = _records(architectures, {**more, **pinned})
    together = zip(architectures, rows, records, strict=True)
    for index, (architecture, row, record) in enumerate(progress(together, desc=SPACE, total=COUNT)):
        if record is not None:
            _add_record(index, row, record)
        yield LabelledArchitecture(
            name=f"{index:05}",
            architecture=architecture,
            dataset="cifar10",
            accuracy=row.metrics[_HEADLINE].value,
            label="trained",
            metrics=tuple(sorted(row.metrics.values(), key=lambda metric: metric[:4] != _HEADLINE)),
            num_params=row.num_params,
            split=None,
        )


def _add_record(index: int, row: _Row, record: nats.Record) -> None:
    """Add the figures of a record, which must agree with the test accuracies of the tables."""
    found = {(m.dataset, m.split, m.name, m.epochs): m.value for m in record.metrics}
    for dataset in _DATASETS:
        key = (dataset, "test", "accuracy", 200)
        published = row.metrics[key].value if key in row.metrics else found.get(key)
        if published is None or not math.isclose(found.get(key, math.nan), published, abs_tol=1e-6):
            raise SourceError(
                f"the training record of architecture {index} of NAS-Bench-201 has test accuracy "
                f"{found.get(key)} on {dataset}, the published table {published}: one of them is of another "
                "edition of the benchmark or damaged"
            )
    row.put(*record.metrics)
    row.num_params = row.num_params or record.num_params


def _records(architectures: list[str], files: Mapping[int, Path]) -> Iterator[nats.Record | None]:
    for index, architecture in enumerate(architectures):
        yield nats.read_record(files[index], index, architecture) if index in files else None


def _open_archive(
    sources: Sources, archive: Path, files: Mapping[int, Path]
) -> tuple[list[str], Iterator[nats.Record | None]]:
    meta = archive / "meta.pickle.pbz2"
    architectures = nats.read_architectures(meta, COUNT)
    sources.record(_ARCHIVE, [meta, *files.values()])
    sources.note("NAS-Bench-201: all figures are from the official archive of NATS-Bench v1.0")
    return architectures, _records(architectures, files)


def _open_old_archive(sources: Sources, path: Path) -> tuple[list[str], Iterator[nats.Record]]:
    content = nats.load_torch_archive(path)
    architectures = nats.check_architectures(path, content.get("meta_archs"), COUNT)
    sources.record(_OLD_ARCHIVE, [path])
    sources.note(
        "NAS-Bench-201: all figures are from NAS-Bench-201 v1.1, which averages other training runs than "
        "NATS-Bench v1.0: accuracies differ on 2,416 networks, by up to 2.2 points"
    )
    return architectures, nats.torch_records(path, content, architectures)


def _read_tables(sources: Sources) -> tuple[list[str], list[_Row], dict[int, Path]]:
    """Return the architectures, what the published tables say of each, and the pinned records."""
    meta = sources.fetch(f"{_ARCHIVE}/meta.pickle.pbz2")
    accuracies = {dataset: sources.fetch(f"{SPACE}/{dataset}/accuracies.csv") for dataset in _DATASETS}
    params = sources.fetch(f"{SPACE}/cifar10/params.csv")
    half = sources.fetch(f"{SPACE}/nb201_val_accs.csv")
    proxies = sources.fetch(f"{SPACE}/nb201_zc_proxies.csv")
    devices = sources.fetch(f"{SPACE}/hw_cifar10.csv")
    pinned = {index: sources.fetch(f"{_ARCHIVE}/{index:06}.pickle.pbz2") for index in _PINNED_RECORDS}

    architectures = nats.read_architectures(meta, COUNT)
    number = {architecture: index for index, architecture in enumerate(architectures)}
    rows = [_Row() for _ in architectures]
    for dataset, path in accuracies.items():
        for row, value in zip(rows, _indexed(path, "accuracy", largest=100), strict=True):
            row.put(Metric(dataset, "test", "accuracy", 200, None, value))
    for row, value in zip(rows, _indexed(params, "params", largest=1000), strict=True):
        row.num_params = round(1e6 * value)
    for index, line in _keyed(half, ("val_accs",), number):
        value = _number(half, line, "val_accs", largest=100)
        rows[index].put(Metric("cifar10-valid", "test", "accuracy", 200, 1, value))
    _check_keys(proxies, number, rows)
    _add_devices(devices, number, rows)
    return architectures, rows, pinned


def _rows_of_devices(sources: Sources, architectures: list[str]) -> list[_Row]:
    """Return rows with the figures of devices, or empty ones where those are not to be had."""
    rows = [_Row() for _ in architectures]
    try:
        path = sources.fetch(f"{SPACE}/hw_cifar10.csv")
    except MissingSourceError as missing:
        sources.note(f"NAS-Bench-201: no latencies and energies of devices ({missing})")
    else:
        _add_devices(path, {architecture: index for index, architecture in enumerate(architectures)}, rows)
    return rows


def _add_devices(path: Path, number: Mapping[str, int], rows: list[_Row]) -> None:
    count = 0
    for index, line in _keyed(path, _DEVICE_FIGURES, number):
        count += 1
        for name in _DEVICE_FIGURES:
            if line[name] != _NOT_MEASURED:
                unit = _DEVICE_UNITS[name.rsplit("_", 1)[1]]
                value = _number(path, line, name)
                rows[index].put(Metric("cifar10", "hardware", name + unit, None, None, value))
    if count != len(rows):
        raise _wrong(path, f"it has {count:,} networks, not {len(rows):,}")


def _check_keys(path: Path, number: Mapping[str, int], rows: list[_Row]) -> None:
    """Check what keys mean, against the strings and parameter counts that the file gives beside them."""
    for index, line in _keyed(path, ("net_str", "params"), number):
        if number.get(line["net_str"]) != index:
            raise _wrong(path, f"key {line['net']} is not {line['net_str']}")
        params = round(1e6 * _number(path, line, "params", largest=1000))
        if params != rows[index].num_params:
            raise _wrong(path, f"{line['net_str']} has {params:,} parameters, not {rows[index].num_params:,}")


def _architecture(key: str) -> str | None:
    """Return the architecture string of a key: the numbers of the operations on the edges, by their source.

    >>> _architecture("(4, 0, 3, 1, 4, 3)")
    '|avg_pool_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_1x1~2|'
    """
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    first, second, third, fourth, fifth, sixth = (_OPERATIONS[int(digit)] for digit in match.groups())
    return f"|{first}~0|+|{second}~0|{fourth}~1|+|{third}~0|{fifth}~1|{sixth}~2|"


def _keyed(
    path: Path, columns: Iterable[str], number: Mapping[str, int]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the index of the architecture of every line, and the line."""
    seen = set()
    for line in _lines(path, ("net", *columns)):
        index = number.get(_architecture(line["net"]) or "")
        if index is None:
            raise _wrong(path, f"{line['net']:.60} is not a network")
        if index in seen:
            raise _wrong(path, f"{line['net']} is there twice")
        seen.add(index)
        yield index, line


def _indexed(path: Path, column: str, largest: float) -> list[float]:
    """Return the values of a column by index; every architecture must be there once."""
    values: dict[int, float] = {}
    for line in _lines(path, ("index", column)):
        index = int(line["index"]) if line["index"].isdecimal() and len(line["index"]) <= 9 else -1
        if not 0 <= index < COUNT or index in values:
            raise _wrong(
                path, f"index {line['index']:.60} is {'there twice' if index in values else 'not one'}"
            )
        values[index] = _number(path, line, column, largest=largest)
    if len(values) != COUNT:
        missing = next(index for index in range(COUNT) if index not in values)
        raise _wrong(path, f"it has {len(values):,} of {COUNT:,} architectures; index {missing} is missing")
    return [values[index] for index in range(COUNT)]


def _lines(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield the lines of a CSV file that has `columns`, none of them empty."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            if not set(columns) <= set(reader.fieldnames or ()):
                raise _wrong(path, f"it has no columns {', '.join(columns)}")
            for line in reader:
                if None in line or None in line.values():
                    raise _wrong(
                        path, f"line {reader.line_num} has another number of values than the first line"
                    )
                yield line
        except (csv.Error, UnicodeDecodeError) as error:
            raise _wrong(path, str(error)) from error


def _number(path: Path, line: Mapping[str, str], column: str, largest: float = math.inf) -> float:
    try:
        value = float(line[column])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 <= value <= largest):
        raise _wrong(path, f"{column} is {line[column]:.60}")
    return value


def _wrong(path: Path, reason: str) -> SourceError:
    return SourceError(f"{path} is not the published table: {reason}. Get it from its publisher again")


BENCHMARK = Benchmark(
    space=SPACE,
    paper="Dong and Yang 2020",
    url="https://arxiv.org/abs/2001.00326",
    licence="MIT",
    bibtex="""
@inproceedings{dong2020nasbench201,
  title     = {{NAS-Bench-201}: Extending the Scope of Reproducible Neural Architecture Search},
  author    = {Dong, Xuanyi and Yang, Yi},
  booktitle = {International Conference on Learning Representations},
  year      = {2020}
}

@article{dong2021natsbench,
  title   = {{NATS-Bench}: Benchmarking {NAS} Algorithms for Architecture Topology and Size},
  author  = {Dong, Xuanyi and Liu, Lu and Musial, Katarzyna and Gabrys, Bogdan},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  year    = {2021}
}

@inproceedings{li2021hwnasbench,
  title     = {{HW-NAS-Bench}: Hardware-Aware Neural Architecture Search Benchmark},
  author    = {Li, Chaojian and Yu, Zhongzhi and Fu, Yonggan and Zhang, Yongan and Zhao, Yang
               and You, Haoran and Yu, Qixuan and Wang, Yue and Lin, Yingyan},
  booktitle = {International Conference on Learning Representations},
  year      = {2021}
}
""",
    caveats=(
        "averages of NATS-Bench v1.0 over one to three runs of 200 epochs; the number of runs is only known "
        "where the official records are at hand. The 15,625 cells are 5,875 different networks: the labels "
        "of equal ones show the noise between runs."
    ),
    read=read,
)
