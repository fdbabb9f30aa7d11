"""The learning-rate range test as a picture."""

from __future__ import annotations

import io
import math

from raytune_hpo.probes.lr_range import LRRange


def lr_range_png(found: LRRange, title: str) -> bytes:
    """A PNG: losses and their smoothed curve over the learning rate, the suggested range shaded."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(found.lrs, found.losses, color="0.75", linewidth=0.8, label="loss of a batch")
    axes.plot(found.lrs, found.smoothed, color="C0", linewidth=2, label="smoothed")
    label = f"suggested: {found.low:.1e} to {found.high:.1e}" if found.falls else "no fall: all that was tried"
    axes.axvspan(found.low, found.high, color="C2", alpha=0.15, label=label)
    axes.axvline(found.point, color="C2", linestyle="--", linewidth=1, label=f"steepest: {found.point:.1e}")
    if found.exploded_at is not None:
        axes.axvline(
            found.exploded_at,
            color="C3",
            linestyle=":",
            linewidth=1,
            label=f"ended, exploding: {found.exploded_at:.1e}",
        )
    finite = [v for v in found.smoothed if math.isfinite(v)]
    span = max(finite[0] - min(finite), 1e-9)
    axes.set_ylim(min(finite) - 0.1 * span, finite[0] + 0.6 * span)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
