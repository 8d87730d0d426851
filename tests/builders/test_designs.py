"""What is told of measured designs: medians, intervals, and tables."""

import numpy as np
import pytest

from builders import design_tables, results
from builders.designs import summary

POPULATION = np.arange(80.0, 100.0, 0.01)
GOOD = [[95.0 + seed / 100, 94.0] for seed in range(20)]
POOR = [[90.0, 91.0 + seed / 100] for seed in range(20)]


def test_a_summary_is_of_all_seeds():
    found = summary(POOR, POPULATION, GOOD)
    assert found["median"] == pytest.approx(np.median(POOR))
    assert found["first"] == 90.0
    assert found["best"] == 91.19
    assert found["quartiles"] == [90.0, pytest.approx(91.092, abs=0.01)]
    assert found["percentile"] == pytest.approx(100 * (found["median"] - 80) / 20, abs=0.1)
    assert found["seeds"] == 20


def test_intervals_hold_the_median_and_the_gain():
    found = summary(POOR, POPULATION, GOOD)
    low, high = found["median_interval"]
    assert low <= found["median"] <= high
    least, most = found["gain_interval"]
    assert 0 < least <= np.median(GOOD) - np.median(POOR) <= most
    assert summary(GOOD, POPULATION, GOOD)["gain_interval"] == [0.0, 0.0]


def test_the_tables_say_what_was_measured():
    methods = {"designs": summary(GOOD, POPULATION, GOOD), "random": summary(POOR, POPULATION, GOOD)}
    space = {"99th percentile": 99.8, "best": 100.0, "methods": methods}
    predicted = {"predictor": "features", "percentiles": [97.0, 99.0, 98.0]}
    measured = {
        "seeds": 20,
        "designs": 2,
        "experts": 20,
        "ranked_by": "mean test accuracy, 108 epochs",
        "seconds": {"learning": [6.0, 8.0], "nasbench101": [1.0, 2.0], "nasbench301": [4.0, 3.0]},
        "spaces": {"nasbench101": space, "nasbench301": space | {"predicted": predicted}},
        "ablations": {"no feedback adjacency": methods["random"]},
    }
    measured["seconds"]["nasbench201"] = [0.5, 0.5]
    text = design_tables.markdown(measured)
    assert "| designs | 94.50 (" in text
    assert "| no feedback adjacency | 90.50 (" in text
    assert "above 98.0 % of 1,000 random genotypes (97.0 to 99.0 %)" in text
    assert "7.0 s to learn" in text
    assert "took 11.0 s" in text


def test_accuracies_and_a_design_of_each_space_are_drawn(tmp_path):
    methods = {"designs": summary(GOOD, POPULATION, GOOD), "random": summary(POOR, POPULATION, GOOD)}
    cell = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_1x1~2|"
    found = {"nasbench201": {"99th percentile": 99.8, "example": cell, "methods": methods}}
    text = "\n".join(results.design_pictures(found, tmp_path))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["design-nasbench201.png", "designs.png"]
    assert all(f"({results.PICTURES}/{path.name})" in text for path in tmp_path.iterdir())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
