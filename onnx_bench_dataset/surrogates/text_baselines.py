"""Predictors that read the text as words: its nearest neighbours, and a ridge regression on n-grams.

A word is what stands between blanks; n-grams are of one to three words, counted by hash, and a count enters
by its logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import scipy.sparse
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from onnx_bench_dataset.surrogates import predictor_file
from onnx_bench_dataset.surrogates.graph_features import normal_scores
from onnx_bench_dataset.surrogates.predictor import Predictor

_NEIGHBOURS = 5
_PENALTY = 1.0
_AT_ONCE = 1_000


def _counted(texts: Sequence[str]) -> scipy.sparse.csr_matrix:
    """Return the n-grams of texts: logarithms of counts, each row of length 1."""
    vectorizer = HashingVectorizer(
        token_pattern=r"\S+",
        lowercase=False,
        ngram_range=(1, 3),
        n_features=2**16,
        alternate_sign=False,
        norm=None,
    )
    counts = vectorizer.transform(texts)
    counts.data = np.log1p(counts.data)
    return scipy.sparse.csr_matrix(normalize(counts))


class NearestText(Predictor):
    """The mean score of the five training texts that share most n-grams, by the cosine."""

    name = "nearest-text"
    summary = f"mean of the {_NEIGHBOURS} training texts that share most n-grams"

    def __init__(self) -> None:
        """Make a predictor that has learned nothing."""
        self._rows: scipy.sparse.csr_matrix | None = None
        self._targets = np.empty(0)

    def learn(
        self,
        networks: pa.Table,
        accuracies: NDArray[np.float64],
        groups: NDArray[np.int64],
        seed: int,
    ) -> None:
        """Keep the texts as n-grams."""
        self._targets = np.nan_to_num(normal_scores(accuracies, groups))
        self._rows = _counted(networks["text"].to_pylist())

    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Return the mean of the neighbours' normal scores, weighted by their cosines."""
        if self._rows is None:
            raise self._not_fitted()
        count = min(_NEIGHBOURS, len(self._targets))
        index = NearestNeighbors(n_neighbors=count, metric="cosine").fit(self._rows)
        texts = networks["text"].to_pylist()
        found = [np.empty(0)]
        for start in range(0, len(texts), _AT_ONCE):
            distances, rows = index.kneighbors(_counted(texts[start : start + _AT_ONCE]))
            weights = np.maximum(1 - distances, 1e-9)
            found.append((weights * self._targets[rows]).sum(axis=1) / weights.sum(axis=1))
        return np.concatenate(found)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return n-grams and scores."""
        if self._rows is None:
            raise self._not_fitted()
        arrays = {name: getattr(self._rows, name) for name in ("data", "indices", "indptr")}
        return {"columns": self._rows.shape[1]}, {
            f"{name}.npy": predictor_file.from_array(array)
            for name, array in {**arrays, "targets": self._targets}.items()
        }

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Make a predictor of what `state` returned."""
        data, indices, starts, targets = (
            predictor_file.to_array(members[f"{name}.npy"])
            for name in ("data", "indices", "indptr", "targets")
        )
        predictor = cls()
        predictor._rows = scipy.sparse.csr_matrix(
            (data, indices, starts), shape=(len(targets), int(settings["columns"]))
        )
        predictor._targets = targets
        return predictor


class NGramRidge(Predictor):
    """Ridge regression of normal scores on n-grams."""

    name = "ngram-ridge"
    summary = "ridge regression on the n-grams of the text"

    def __init__(self) -> None:
        """Make a predictor that has learned nothing."""
        self._weights: NDArray[np.float64] | None = None

    def learn(
        self,
        networks: pa.Table,
        accuracies: NDArray[np.float64],
        groups: NDArray[np.int64],
        seed: int,
    ) -> None:
        """Fit the weight of each n-gram."""
        targets = np.nan_to_num(normal_scores(accuracies, groups))
        fitted = Ridge(alpha=_PENALTY, solver="lsqr").fit(_counted(networks["text"].to_pylist()), targets)
        self._weights = fitted.coef_.astype(np.float64)

    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Return weighted sums of n-grams."""
        if self._weights is None:
            raise self._not_fitted()
        return np.asarray(_counted(networks["text"].to_pylist()) @ self._weights)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the weights."""
        if self._weights is None:
            raise self._not_fitted()
        return {}, {"weights.npy": predictor_file.from_array(self._weights)}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Make a predictor of what `state` returned."""
        predictor = cls()
        predictor._weights = predictor_file.to_array(members["weights.npy"]).astype(np.float64)
        return predictor
