"""The interface of every predictor: fit, predict, save, load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from onnx_bench_dataset.errors import PredictorError
from onnx_bench_dataset.surrogates import predictor_file

if TYPE_CHECKING:  # takes a while to load, which no other command waits for
    import pyarrow as pa

    from onnx_bench_dataset.surrogates.visible import Rows


class Predictor(ABC):
    """Ranks networks. A subclass gives `learn`, `score`, `state` and `from_state`, and is in the registry.

    Examples:
        >>> import pyarrow as pa
        >>> from onnx_bench_dataset.surrogates import new
        >>> rows = pa.table({"num_params": [10, 30, 20], "accuracy": [1.0, 3.0, 2.0]})
        >>> new("params").fit(rows).predict(rows).argsort().tolist()
        [0, 2, 1]
    """

    name: str
    """What it is called in the registry."""
    summary: ClassVar[str]
    """What it does, in a line of a table."""
    columns: tuple[str, ...] = ("text",)
    """What it reads of a row: some of `visible.NETWORK`."""
    learns: ClassVar[bool] = True
    """Whether it makes use of labels."""

    def fit(self, rows: Rows, seed: int = 0) -> Self:
        """Learn from labelled rows, forgetting what was learned before.

        Args:
            rows: a `datasets.Dataset` or an Arrow table with `columns`, `accuracy` (percent) and, where rows
                are of several benchmarks, `group`.
            seed: for everything that is drawn.

        Raises:
            LoadError: a column is missing.
            PredictorError: labels are missing, not finite or all equal.
        """
        from onnx_bench_dataset.surrogates import visible

        accuracies, groups = visible.labels(rows)
        self.learn(visible.networks(rows, self.columns), accuracies, groups, seed)
        return self

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Return a score for each row: the higher, the better the network is predicted to be.

        Scores order networks; what their scale is, each predictor says.

        Raises:
            LoadError: a column is missing.
            PredictorError: the predictor has learned nothing yet.
        """
        from onnx_bench_dataset.surrogates import visible

        scores = self.score(visible.networks(rows, self.columns))
        assert scores.shape == (len(rows),)
        return scores

    def save(self, path: Path | str) -> None:
        """Write what was learned to a file, whole or not at all.

        Raises:
            PredictorError: the predictor has learned nothing yet.
        """
        settings, members = self.state()
        predictor_file.write(Path(path), self.name, settings, members)

    @abstractmethod
    def learn(
        self,
        networks: pa.Table,
        accuracies: NDArray[np.float64],
        groups: NDArray[np.int64],
        seed: int,
    ) -> None:
        """Learn from networks (`columns`) with finite accuracies, which are comparable within a group."""

    @abstractmethod
    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Return a finite score for each network."""

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return all that was learned: what JSON can say, and named contents of files."""

    @classmethod
    @abstractmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Make a predictor of what `state` returned.

        Raises:
            Exception: it is not what `state` returned; `load` says so.
        """

    def _not_fitted(self) -> PredictorError:
        return PredictorError(f"the predictor {self.name} has learned nothing yet: call fit first")
