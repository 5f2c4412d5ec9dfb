"""Draws the peers' speeds from the raw figures in `benchmarks/results` into `docs/images/peers.svg`.

    python benchmarks/chart.py

One panel a benchmark: `peers_static`, `peers_minilm` and `embedding`, those that are there. Bars are medians,
the thin lines reach from the slowest to the fastest round. The same figures give the same file.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import RESULTS

TARGET = Path(__file__).parents[1] / "docs" / "images" / "peers.svg"
# Okabe and Ito (2008): told apart with every kind of colour vision. Hatching tells them apart in grey.
OURS, THEIRS = "#0072B2", "#E69F00"
BAR_INCHES = 0.42
HEAD_INCHES = 1.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One contestant, in chunks a second."""

    name: str
    median: float
    least: float
    most: float

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("embedfleet")


@dataclass(frozen=True, slots=True)
class Panel:
    """One benchmark; the fastest bar comes first."""

    title: str
    bars: Sequence[Bar]


def pipeline_panel(report: Mapping[str, Any], model: str) -> Panel:
    """Of a report of peers.py."""
    figures = report["figures"]
    bars = []
    for name, own in figures["contestants"].items():
        speed = own["chunks_per_second"]
        bars.append(Bar(name, speed["median"], speed["min"], speed["max"]))
    title = (
        f"Documents to vectors in Chroma, {model}\n{circumstances(report)}, {figures['text_mb']} MB of text"
    )
    return Panel(title, fastest_first(bars))


def encoding_panel(report: Mapping[str, Any]) -> Panel:
    """Of a report of embedding.py."""
    figures = report["figures"]
    names = {
        "runner": "embedfleet runner, 8-bit weights",
        "bare_loop": "bare ONNX Runtime loop, 8-bit weights",
        "fastembed": "fastembed, 8-bit weights",
        "sentence_transformers": "SentenceTransformer.encode, fp32",
        "infinity": "infinity, fp32",
    }
    bars = []
    for name, seconds in figures["by_the_clock"]["seconds"].items():
        speeds = [figures["chunks"] / spent for spent in seconds]
        bars.append(Bar(names[name], statistics.median(speeds), min(speeds), max(speeds)))
    title = "Encoding only, MiniLM on the CPU"
    title += f"\n{circumstances(report)}, {figures['tokens_mean']:.0f} tokens a chunk"
    return Panel(title, fastest_first(bars))


def circumstances(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    return f"{machine['cpu_count']} cores of {machine['cpu']}"


def fastest_first(bars: Sequence[Bar]) -> list[Bar]:
    return sorted(bars, key=lambda bar: -bar.median)


def panels(results: Path) -> list[Panel]:
    """Raises SystemExit if there is nothing to draw."""
    found = []
    for name, model in (("peers_static", "static 256-d model"), ("peers_minilm", "MiniLM on the CPU")):
        if (report := read(results, name)) is not None:
            found.append(pipeline_panel(report, model))
    if (report := read(results, "embedding")) is not None:
        found.append(encoding_panel(report))
    if not found:
        raise SystemExit(f"no figures of peers in {results}: run benchmarks/peers.py first")
    return found


def read(results: Path, name: str) -> dict[str, Any] | None:
    """The report of this name; None: the benchmark was not run."""
    file = results / f"{name}.json"
    if not file.exists():
        return None
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return report


def draw(found: Sequence[Panel], target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "embedfleet"  # else every file has other ids
    matplotlib.rcParams["font.size"] = 10
    from matplotlib import pyplot

    heights = [HEAD_INCHES + BAR_INCHES * len(panel.bars) for panel in found]
    figure, axes = pyplot.subplots(
        len(found),
        figsize=(9, sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axis, panel in zip(axes[:, 0], found, strict=True):
        draw_panel(axis, panel)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None, "Creator": None}, facecolor="white")


def draw_panel(axis: Any, panel: Panel) -> None:
    widest = max(bar.most for bar in panel.bars)
    for row, bar in enumerate(panel.bars):
        axis.barh(
            row,
            bar.median,
            color=OURS if bar.is_ours else THEIRS,
            hatch="" if bar.is_ours else "///",
            edgecolor="white",
            xerr=[[bar.median - bar.least], [bar.most - bar.median]],
            error_kw={"elinewidth": 1, "capsize": 3},
        )
        axis.text(bar.most + widest / 60, row, f"{bar.median:.3g}", va="center")
    axis.set_yticks(range(len(panel.bars)), [bar.name for bar in panel.bars])
    axis.invert_yaxis()
    axis.set_xlim(0, widest * 1.1)
    axis.set_xlabel("chunks per second (median; line: slowest to fastest round)")
    axis.set_title(panel.title, loc="left", fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    draw(panels(RESULTS), TARGET)
    print(f"written to {TARGET}", file=sys.stderr)


if __name__ == "__main__":
    main()
