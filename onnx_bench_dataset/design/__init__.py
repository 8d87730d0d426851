"""Architecture design without search: what the best cells have in common, and new ones made of it.

A reading of NAL, "Automating Neural Architecture Design without Search" (arXiv 2204.11838); needs the extra
`torch`.
"""

from onnx_bench_dataset import training
from onnx_bench_dataset.design.generation import SPACES, Design, check_space, design
from onnx_bench_dataset.design.knowledge import Knowledge, MeasuredCells, measured_cells, read_experts
from onnx_bench_dataset.design.learning import Negatives, Settings, Writer, learn

MissingTorchError = training.MissingTorchError

__all__ = [
    "SPACES",
    "Design",
    "Knowledge",
    "MeasuredCells",
    "MissingTorchError",
    "Negatives",
    "Settings",
    "Writer",
    "check_space",
    "design",
    "learn",
    "measured_cells",
    "read_experts",
]
