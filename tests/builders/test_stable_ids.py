"""Ids are promises: an id that was published names the same architecture for ever."""

import hashlib

import pytest

from builders.labels import no_progress
from builders.registry import BENCHMARKS
from builders.sources import Sources
from onnx_bench_dataset import spaces

PUBLISHED = {
    "nasbench101": (423_624, "2bb2a35a55e72f459592a55f1c97bc995986597f638cc53281c6f00106810cc1"),
    "nasbench201": (15_625, "3f90fae66ec28e5ebf9a07d13b523f25b1339b74e44a2475f147f71a4e2f28b0"),
    "nasbench301": (20_000, "8899c798c1898397174f4c799f81a018e8edecf7b3f81dd936eeaaedddd5895f"),
    "natsbench_size": (32_768, "72b912a79bcc9d4e9051f094be0f05aa55662ba999e95c14cb21ac0f15949bed"),
    "nasbench_macro": (6_561, "23f986811245738b95eaea9bb9a8f5d3a0af55857b5b929598a004f9162649db"),
    "transnasbench101": (7_352, "e02b517a28376a8373a602c8e5b977ebb1379112d27424c5f1fff1f108ecd712"),
}
"""Rows of each space, and the SHA-256 of their lines `<id> <architecture>`, sorted."""

SLOW = {"nasbench101"}  # all its cells are enumerated


@pytest.mark.parametrize(
    "space", [pytest.param(space, marks=[pytest.mark.slow] * (space in SLOW)) for space in PUBLISHED]
)
def test_ids_name_the_architectures_that_they_were_published_for(space, published):
    rows = BENCHMARKS[space].read(Sources(published), no_progress)
    lines = sorted(f"{space}/{row.name} {row.architecture}\n" for row in rows)
    assert (len(lines), hashlib.sha256("".join(lines).encode()).hexdigest()) == PUBLISHED[space]


@pytest.mark.parametrize("space", ["nasbench201", "nasbench_macro", "transnasbench101", "digits"])
def test_the_space_says_what_its_accuracies_are_measured_on(space, published):
    rows = BENCHMARKS[space].read(Sources(published), no_progress)
    assert {row.dataset for row in rows} == {spaces.get(space).dataset}
