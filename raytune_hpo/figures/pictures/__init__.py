"""Pictures: figures as PNG, SVG and PDF, which nobody can point at: what has a name of its own stands in a legend.

legends      the panels of a figure with legends
by_plotly, kaleido_process    drawn as the report draws them, by plotly in a Chrome that kaleido drives
by_matplotlib, axes, traces, parallel    the same panels as matplotlib draws them, which needs nothing else
"""

from raytune_hpo.figures.pictures.pictures import FORMATS, drawn

__all__ = ["FORMATS", "drawn"]
