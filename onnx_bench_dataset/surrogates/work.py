"""Features of the sizes of layers: how many there are of each kind, and where the work is done."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from onnx_bench_dataset.surrogates.feature_table import ALL_ROLES, STAGES
from onnx_bench_dataset.surrogates.layers import Layer
from onnx_bench_dataset.surrogates.segments import Stretch


def of_counts(letters: Sequence[str]) -> list[float]:
    """Return the features of the number of layers, by the first letters of their roles."""
    counts = Counter(letters)
    windowed = counts["c"] + counts["d"]
    pools = counts["m"] + counts["a"]
    work = max(windowed + counts["p"] + pools, 1)
    return [
        *[float(counts[role]) for role in ALL_ROLES],
        windowed / work,
        counts["p"] / work,
        pools / work,
        math.log((pools + 1) / (windowed + 1)),
        math.log((counts["p"] + 1) / (windowed + 1)),
        windowed / max(counts["+"] + counts["|"], 1),
    ]


def of_work(layers: Sequence[Layer], stretches: Sequence[Stretch]) -> list[float]:
    """Return the features of work, weights and widths."""
    width = _widths(layers, stretches)
    highest = max(width)
    stages = dict.fromkeys(width, 0.0)
    stage_of = {height: min(STAGES - 1, round(math.log2(highest / height))) for height in width}
    params = macs = dense_params = dense_macs = depthwise_macs = convolutions = 0
    dense_work = 0.0
    channels: list[float] = []
    relative: list[float] = []
    relative_dense: list[float] = []
    work_of: list[float] = []
    at_macs, at_convolutions = [0] * STAGES, [0] * STAGES
    for kind, _, (outputs, height, _), _, macs_here, params_here in layers:
        if not kind.channels:
            work_of.append(0.0)
            continue
        letter = kind.role[0]
        params += params_here
        macs += macs_here
        channels.append(math.log(max(outputs, 1)))
        stage = stage_of[height]
        at_macs[stage] += macs_here
        if letter == "c":
            dense_params += params_here
            dense_macs += macs_here
        elif letter == "d":
            depthwise_macs += macs_here
        if letter in "cd":
            convolutions += 1
            at_convolutions[stage] += 1
        done = 0.0
        if kind.kernel:
            here = width[height]
            done = params_here / (9 * here * here)
            stages[height] += done
            ratio = math.log(kind.channels / here)
            relative.append(ratio)
            if letter == "c":
                dense_work += done
                relative_dense.append(ratio)
        work_of.append(done)
    cells_work = cell_capacity = 0.0
    branching = 0
    for segment, start, end in stretches:
        if segment is not None and segment.log_paths and end > start + 1:
            done = sum(work_of[start:end])
            branching += 1
            cells_work += done
            cell_capacity += math.log1p(done)
    step = max([highest // height for height in width if height > 1], default=1)
    total_params, total_macs = max(params, 1), max(macs, 1)
    channels = channels or [0.0]
    stage_work = [work for work in stages.values() if work]
    shares = zip(at_macs, at_convolutions, strict=True)
    return [
        math.log1p(params),
        math.log1p(macs),
        math.log(total_macs / total_params),
        dense_macs / total_macs,
        depthwise_macs / total_macs,
        dense_params / total_params,
        math.log(0.1 + sum(stage_work)),
        math.log(0.1 + dense_work),
        math.log(0.1 + min(stage_work, default=0.0)),
        cell_capacity / max(branching, 1),
        math.log1p(cells_work),
        sum(channels) / len(channels),
        channels[0],
        max(channels[:-1], default=channels[0]),
        sum(relative) / max(len(relative), 1),
        sum(relative_dense) / max(len(relative_dense), 1),
        math.log2(step),
        *[
            share
            for macs_here, count in shares
            for share in (macs_here / total_macs, count / max(convolutions, 1))
        ],
    ]


def _widths(layers: Sequence[Layer], stretches: Sequence[Stretch]) -> dict[int, int]:
    """Return for each height the channels that go through a cut there, or else the most that there are."""
    sizes = [layer[2] for layer in layers]
    return _widest(set(sizes)) | _widest({sizes[end - 1] for _, _, end in stretches})


def _widest(sizes: set[tuple[int, int, int]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for channels, height, _ in sizes:
        if channels > found.get(height, 0):
            found[height] = channels
    return found
