"""How long pictures take, and how large they are: 64 architectures of each space that is built."""

import time

import pytest

from builders.registry import BENCHMARKS
from onnx_bench_dataset import spaces
from onnx_bench_dataset.drawing import draw

COUNT = 64
MOST_SECONDS = 25 / 6  # of processor time: the gallery of six spaces takes at most 25
MOST_BYTES = 32_000  # of a picture, on average


@pytest.mark.parametrize(
    "space", [space for space in BENCHMARKS if space in spaces.SPACES and space != "digits"]
)
def test_a_gallery_costs_little(space, benchmark):
    drawn = spaces.get(space).sample(COUNT, 0)
    draw(spaces.get(space).diagram(drawn[0]))  # matplotlib finds its fonts

    def gallery():
        start = time.process_time()
        pictures = [draw(spaces.get(space).diagram(architecture)) for architecture in drawn]
        return time.process_time() - start, pictures

    seconds, pictures = benchmark.pedantic(gallery, rounds=1)
    benchmark.extra_info["milliseconds a picture"] = 1000 * seconds / COUNT
    benchmark.extra_info["bytes a picture"] = sum(map(len, pictures)) / COUNT
    assert seconds < MOST_SECONDS
    assert sum(map(len, pictures)) / COUNT < MOST_BYTES
