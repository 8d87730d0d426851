"""ONNX-Net: a language model reads the text of a network, and its head scores it (arXiv 2510.04938)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from onnx_bench_dataset.batches import TokenBatches
from onnx_bench_dataset.errors import UnknownNameError
from onnx_bench_dataset.graphs import simplify
from onnx_bench_dataset.surrogates.language_model import LanguageModel
from onnx_bench_dataset.surrogates.predictor import Predictor
from onnx_bench_dataset.surrogates.ranking import BatchOf, Recipe, score, seeded, train
from onnx_bench_dataset.text import STYLES, encode

OURS = STYLES[0]

VOCABULARY = 2_000
"""Tokens of the small model's tokenizer."""

TUNING, TRAINING = 5e-5, 2e-3
"""Learning rates of a model that has read before, and of one that knows nothing yet."""


class OnnxNet(Predictor):
    """Ranks networks by their texts.

    The language model is one of Hugging Face, whose weights are then tuned, or by default a small one, which
    is trained from nothing with a tokenizer of its own and is made for a CPU.

    The published recipe is that of a model with weights: 5 epochs, 16 rows a batch on each of 4 devices, a
    learning rate of 5e-5 that falls to a tenth, weight decay of 0.1, a margin of 0.1. It differs in what is
    compared (see `ranking`), and in that nothing is selected on the space that is predicted.
    """

    name = "onnxnet"
    summary = "text, read by a language model (ONNX-Net)"

    def __init__(
        self,
        model: str | None = None,
        style: str = OURS,
        max_length: int | None = None,
        epochs: int = 5,
        batch_size: int = 16,
        learning_rate: float | None = None,
        vocabulary: int = VOCABULARY,
        mixed_precision: str | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Choose a language model, what it reads, and how it is trained.

        Args:
            model: name at the Hub, or folder, of a model that `transformers` can make a sequence classifier
                of, as `answerdotai/ModernBERT-large`; without one, a small one that knows nothing yet.
            style: of the text, one of `text.STYLES`. Our own is read from the column `text`, others are made
                of the inference form of the model in the column `onnx`.
            max_length: tokens, beyond which texts are cut; without it, what the model can read.
            epochs: times that every row is seen.
            batch_size: rows that a device compares in one step.
            learning_rate: at its highest; 5e-5, or 2e-3 for the small model.
            vocabulary: tokens that the small model's tokenizer has.
            mixed_precision: `no`, `fp16` or `bf16`; otherwise what `accelerate launch` says.
            gradient_checkpointing: whether to compute twice rather than to keep in memory.

        Raises:
            UnknownNameError: there is no such style.
        """
        if style not in STYLES:
            raise UnknownNameError(f"no style of text is called {style!r}; there are {', '.join(STYLES)}")
        self.columns = ("text",) if style == OURS else ("onnx",)
        self._options = {
            "model": model,
            "style": style,
            "max_length": max_length,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "vocabulary": vocabulary,
            "mixed_precision": mixed_precision,
            "gradient_checkpointing": gradient_checkpointing,
        }
        self._model = model
        self._style = style
        self._max_length = max_length
        self._vocabulary = vocabulary
        self._has_checkpoints = gradient_checkpointing
        rate = learning_rate or (TUNING if model else TRAINING)
        self._recipe = Recipe(epochs, batch_size, rate, mixed_precision=mixed_precision)
        self._reader: LanguageModel | None = None

    def learn(
        self, networks: pa.Table, accuracies: NDArray[np.float64], groups: NDArray[np.int64], seed: int
    ) -> None:
        """Tune the language model, or train the small one, on pairs of rows."""
        texts = _texts(networks, self._style)
        with seeded(seed):
            reader = (
                LanguageModel.pretrained(self._model)
                if self._model
                else LanguageModel.small(texts, self._vocabulary)
            )
            if self._has_checkpoints:
                reader.model.activation_checkpointing_enable()
            train(reader, self._batches(reader, texts), accuracies, groups, self._recipe, seed)
        self._reader = reader

    def score(self, networks: pa.Table) -> NDArray[np.float64]:
        """Return what the head says, in no unit: only the order means something."""
        if self._reader is None:
            raise self._not_fitted()
        texts = _texts(networks, self._style)
        lengths = np.array([len(text) for text in texts])
        batch_of = self._batches(self._reader, texts)
        return score(self._reader, batch_of, lengths, self._recipe)

    def state(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the options, and the files of the language model."""
        if self._reader is None:
            raise self._not_fitted()
        return self._options, self._reader.files()

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Self:
        """Make one of the language model's files."""
        made = cls(**settings)
        made._reader = LanguageModel.of_files(members)
        return made

    def _batches(self, reader: LanguageModel, texts: Sequence[str]) -> BatchOf:
        make = TokenBatches(reader.tokenizer, self._max_length or reader.longest)

        def batch_of(rows: NDArray[np.int64]) -> dict[str, Tensor]:
            read = make([{"id": f"row {row}", "text": texts[row], "accuracy": None} for row in rows.tolist()])
            return {"input_ids": read["input_ids"], "attention_mask": read["attention_mask"]}

        return batch_of


def _texts(networks: pa.Table, style: str) -> list[str]:
    if style == OURS:
        texts: list[str] = networks["text"].to_pylist()
        return texts
    models = (onnx.ModelProto.FromString(stored) for stored in networks["onnx"].to_pylist())
    return [encode(simplify(model), style) for model in tqdm(models, desc="texts", disable=None, leave=False)]
