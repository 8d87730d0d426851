"""Every benchmark that can be built, by the name of its search space."""

from builders import (
    digits,
    nasbench101,
    nasbench201,
    nasbench301,
    nasbench_macro,
    natsbench_size,
    transnasbench101,
)
from builders.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.space: benchmark
    for benchmark in (
        nasbench101.BENCHMARK,
        nasbench201.BENCHMARK,
        nasbench301.BENCHMARK,
        natsbench_size.BENCHMARK,
        nasbench_macro.BENCHMARK,
        transnasbench101.BENCHMARK,
        digits.BENCHMARK,
    )
}
