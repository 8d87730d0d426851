"""scikit-learn's digits, divided for training: 1,797 grey images of 8×8 pixels, ten classes.

The division is a rule, so it is the same everywhere: of the images of a class, counted from 0 in the order of
scikit-learn, number k trains, validates or tests as `PARTS` says at k mod 6. Writers follow one another in
the data, so every part has images of all of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnx_bench_dataset.errors import OnnxBenchError

PARTS = ("train", "validation", "test", "train", "test", "test")
"""What the images of a class are for, over and over: 602 train, 302 validate, 893 test."""

CLASSES = 10


class MissingScikitLearnError(OnnxBenchError, ImportError):
    """scikit-learn, which holds the images, is not installed."""


class Images(NamedTuple):
    """Some images, N×1×8×8, and their classes, N."""

    pixels: NDArray[np.float32]
    """Normalized by mean and deviation of all pixels of the images that train."""
    classes: NDArray[np.int64]


class Division(NamedTuple):
    """The images by what they are for."""

    train: Images
    validation: Images
    test: Images


@lru_cache(maxsize=1)
def load() -> Division:
    """Return the images, divided and normalized.

    Raises:
        MissingScikitLearnError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MissingScikitLearnError(
            "the digits are images of scikit-learn: pip install 'onnx-bench-dataset[digits]'"
        ) from error
    pixels, classes = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 1, 8, 8).astype(np.float32)
    parts = divide(classes)
    mean, deviation = (measure(images[parts["train"]], dtype=np.float64) for measure in (np.mean, np.std))
    normalized = ((images - mean) / deviation).astype(np.float32)
    return Division(
        **{name: Images(normalized[part], classes[part].astype(np.int64)) for name, part in parts.items()}
    )


def divide(classes: NDArray[np.integer]) -> dict[str, NDArray[np.intp]]:
    """Return the positions of the images of each part, in ascending order."""
    order = np.zeros(len(classes), dtype=np.intp)  # of each image in its class
    for each in range(CLASSES):
        of_class = np.flatnonzero(classes == each)
        order[of_class] = np.arange(len(of_class))
    of_image = np.array(PARTS)[order % len(PARTS)]
    return {name: np.flatnonzero(of_image == name) for name in Division._fields}
