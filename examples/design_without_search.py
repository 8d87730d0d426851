"""From `load_dataset` to a designed ONNX file: learn from the best cells, write a new one, look at it.

    python examples/design_without_search.py onnx-bench nasbench201 my-design

The data set is a folder or a repository on the Hugging Face Hub, the space is `nasbench101`, `nasbench201` or
`nasbench301`. `my-design.onnx` is the network without weights, `my-design.png` a picture of its cell.
"""

import sys
from pathlib import Path

import onnx

from onnx_bench_dataset import load_dataset, spaces
from onnx_bench_dataset.design import Knowledge, design, learn
from onnx_bench_dataset.drawing import draw
from onnx_bench_dataset.graphs import measures
from onnx_bench_dataset.spaces.nasbench101 import parse


def main(data: str, space: str, out: str) -> None:
    """Learn from the 20 best cells of NAS-Bench-101 and design one architecture of a space."""
    rows = load_dataset(data, "nasbench101", split="train", columns=["architecture", "accuracy"])
    best = rows.sort("accuracy", reverse=True).select(range(20))
    ordinary = rows.shuffle(seed=0).select(range(min(4_000, len(rows))))
    knowledge = Knowledge(
        experts=tuple(map(parse, best["architecture"])),
        ordinary=tuple(map(parse, ordinary["architecture"])),
        ranked_by="test accuracy",
    )

    (found,) = design(space, learn(knowledge, seed=0), count=1, seed=0)

    model = spaces.get(space).model(found.architecture)
    onnx.save(model, f"{out}.onnx")
    Path(f"{out}.png").write_bytes(draw(spaces.get(space).diagram(found.architecture), "png"))
    size = measures(model)
    print(f"{found.architecture}\n{size.num_params:,} parameters, {size.macs:,} multiply-accumulates")


if __name__ == "__main__":
    main(*sys.argv[1:])
