"""Figures: a run's facts as plotly figures, one module a kind. They see the facts and the space, and no run.

A kind is a function of the facts that answers its panels, none where there is nothing to show. A panel is one pair of
axes: the page shows each by itself, `composed` puts several into one figure.
"""

from raytune_hpo.figures.kinds import KINDS, composed_figure, panels
from raytune_hpo.figures.panel import TEMPLATE, Panel, composed

__all__ = ["KINDS", "TEMPLATE", "Panel", "composed", "composed_figure", "panels"]
