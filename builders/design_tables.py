"""The Markdown of `results/design.json`: what designs without search reach, and why."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

MARK = "designs"
"""What marks the place of the tables in a file."""

TITLES = {
    "nasbench101": "NAS-Bench-101: mean test accuracy",
    "nasbench201": "NAS-Bench-201, with knowledge of NAS-Bench-101 alone: mean test accuracy",
    "nasbench301": "DARTS cells: validation accuracy that the surrogate of NAS-Bench-301 predicts",
}
_HEAD = "| | median (95 % interval) | quartiles | best | percentile | first | designs are better by | seeds |"
_RULE = "| --- | --- | --- | --: | --: | --: | --- | --: |"


def markdown(results: Mapping[str, Any]) -> str:
    """Return the tables of measured designs, to be put into a document."""
    parts = [_introduction(results)]
    for space, found in results["spaces"].items():
        population = "1,000 random genotypes" if space == "nasbench301" else "the space"
        parts.append(
            f"**{TITLES[space]}** (99th percentile of {population}: {found['99th percentile']:.2f}, best: "
            f"{found['best']:.2f})"
        )
        parts.append(_table(found["methods"]))
        if "predicted" in found:
            parts.append(_predicted(found["predicted"]))
    parts.append("**Ablations**, NAS-Bench-101, one thing different")
    parts.append(_table(results["ablations"]))
    parts.append(_seconds(results["seconds"]))
    return "\n\n".join(parts)


def _introduction(results: Mapping[str, Any]) -> str:
    seeds, designs, experts = results["seeds"], results["designs"], results["experts"]
    return (
        f"{seeds} seeds, {designs} designs each, learned from {experts} experts, the cells of highest "
        f"{results['ranked_by']}. *First* is the median of each seed's first design; random search and "
        "evolution have one result a seed. *Percentile* is the share of the space below the median. *Designs "
        "are better by* is the 95 % interval of the difference of medians."
    )


def _table(methods: Mapping[str, Any]) -> str:
    return "\n".join([_HEAD, _RULE, *(_line(name, found) for name, found in methods.items())])


def _line(name: str, found: Mapping[str, Any]) -> str:
    low, high = found["median_interval"]
    lower, upper = found["quartiles"]
    least, most = found["gain_interval"]
    gain = "" if name == "designs" else f"{least:+.2f} to {most:+.2f}"
    best, percentile, first, seeds = (found[key] for key in ("best", "percentile", "first", "seeds"))
    return (
        f"| {name} | {found['median']:.2f} ({low:.2f} to {high:.2f}) | {lower:.2f}, {upper:.2f} | "
        f"{best:.2f} | {percentile:.2f} | {first:.2f} | {gain} | {seeds} |"
    )


def _predicted(found: Mapping[str, Any]) -> str:
    shares = found["percentiles"]
    return (
        f"The predictor `{found['predictor']}`, which learned from NAS-Bench-101 and NAS-Bench-201 alone, "
        f"ranks the median design of a seed above {median(shares):.1f} % of 1,000 random genotypes ("
        f"{min(shares):.1f} to {max(shares):.1f} %)."
    )


def _seconds(seconds: Mapping[str, Any]) -> str:
    learning = median(seconds["learning"])
    shown = ", ".join(
        f"{median(some):.1f} s for {space}" for space, some in seconds.items() if space in TITLES
    )
    most = max(
        learned + designed
        for space in TITLES
        for learned, designed in zip(seconds["learning"], seconds[space], strict=True)
    )
    return (
        f"Seconds of one core, median over seeds: {learning:.1f} s to learn, then {shown}. The longest run, "
        f"learning included, took {most:.1f} s."
    )
