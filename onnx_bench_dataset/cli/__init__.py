"""The command line `onnx-bench`."""

from onnx_bench_dataset.cli import designing, evaluating, predicting
from onnx_bench_dataset.cli.commands import app

__all__ = ["app", "designing", "evaluating", "main", "predicting"]


def main() -> None:
    """Run the command line."""
    app()
