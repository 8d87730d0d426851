"""Every benchmark that can be built, by the name of its search space."""

from builders import nasbench101, nasbench201
from builders.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.space: benchmark for benchmark in (nasbench101.BENCHMARK, nasbench201.BENCHMARK)
}
