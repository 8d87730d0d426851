"""digits: small networks of six spaces, trained by one recipe on scikit-learn's digits.

The table of measured accuracies is a part of the package (`onnx_bench_dataset/digits/measured.parquet`), so
nothing is downloaded. Every network was trained three times, 12 epochs on 602 images; the label is the mean
accuracy on 893 other ones. `accuracy_run1` to `accuracy_run3` are the accuracies of the runs, with seeds 0, 1
and 2, `accuracy_std` their standard deviation (over three, not over two); `cross_entropy` is the mean loss of
the last epoch over the runs that did not fail. A run that failed, `failed_runs` of them, has the accuracy of
chance, 10 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, pstdev

from builders.benchmark import Benchmark
from builders.labels import LabelledArchitecture, Metric, Progress, no_progress
from builders.sources import Sources
from onnx_bench_dataset.digits import table
from onnx_bench_dataset.digits.table import Measured, Origin

SPACE = "digits"


def read(sources: Sources, progress: Progress = no_progress) -> Iterator[LabelledArchitecture]:
    """Yield every measured architecture with its labels, space by space, in the order of their numbers.

    Raises `SourceError` before anything is yielded if the table is missing or damaged.
    """
    measured = table.read()
    rows = [_row(measured.origin, row) for row in measured.rows]
    yield from progress(rows, desc=SPACE, total=len(rows))


def _row(origin: Origin, row: Measured) -> LabelledArchitecture:
    def metric(split: str, name: str, seeds: int, value: float) -> Metric:
        return Metric(SPACE, split, name, origin.epochs, seeds, value)

    def accuracies(split: str, runs: Sequence[float]) -> list[Metric]:
        return [
            metric(split, "accuracy", len(runs), fmean(runs)),
            metric(split, "accuracy_std", len(runs), pstdev(runs)),
            *[metric(split, f"accuracy_run{number}", 1, run) for number, run in enumerate(runs, 1)],
        ]

    losses = [loss for loss in row.train_loss if loss is not None]
    return LabelledArchitecture(
        name=row.name,
        architecture=row.architecture,
        dataset=SPACE,
        accuracy=fmean(row.test_accuracy),
        label="trained",
        metrics=(
            *accuracies("test", row.test_accuracy),
            *accuracies("validation", row.validation_accuracy),
            *([metric("train", "cross_entropy", len(losses), fmean(losses))] if losses else []),
            metric("train", "failed_runs", len(row.failure), sum(map(bool, row.failure))),
        ),
        num_params=row.num_params,
        split=None,
    )


BENCHMARK = Benchmark(
    space=SPACE,
    paper="this data set",
    url="https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html",
    licence="Apache-2.0",
    bibtex="""
@misc{alpaydin1998digits,
  title        = {Optical Recognition of Handwritten Digits},
  author       = {Alpaydin, E. and Kaynak, C.},
  year         = {1998},
  howpublished = {UCI Machine Learning Repository},
  doi          = {10.24432/C50P49}
}
""",
    caveats=(
        "small networks, trained briefly on 602 images of 8×8 pixels: what is best here need not be best on "
        "larger images. The labels are for tests, for teaching, and for comparing encodings and predictors "
        "on architectures of six spaces that had one recipe."
    ),
    read=read,
)
