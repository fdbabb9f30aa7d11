"""A timeline as a picture: one row a process, a bar a phase, a line a moment. Plain SVG, seconds from exec."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from xml.sax.saxutils import quoteattr

from timeline import Lifetime, Phase, Timeline

WIDTH, LEFT, RIGHT = 1300, 200, 150
LANE, BAR, GAP = 20, 15, 9
CHARACTER = 6.2  # the width of one, at most, in the labels' size
SHOWN_CPU_S, SHOWN_S = 0.05, 0.3  # of a process without phases: helpers of a moment are left out
SHOWN_PHASE_S = 0.005
COLOURS = ("#4e79a7", "#f28e2b", "#76b7b2", "#e15759", "#59a14f", "#b6992d", "#b07aa1", "#ff9da7", "#9c755f", "#79706e")


@dataclass(frozen=True)
class _Row:
    process: str
    lifetime: Lifetime | None
    lanes: tuple[tuple[Phase, ...], ...]

    @property
    def height(self) -> int:
        return max(1, len(self.lanes)) * LANE + GAP


def picture(timeline: Timeline, title: str) -> str:
    """The SVG document."""
    end_s = max([*timeline.moments.values(), *(p.ended_s for p in timeline.phases), 0.1])
    scale = (WIDTH - LEFT - RIGHT) / end_s

    def x(at_s: float) -> float:
        return LEFT + max(0.0, at_s) * scale

    levels = _levels({name: x(at) for name, at in timeline.moments.items()})
    top = 44 + 15 * (max(levels.values(), default=0) + 1)
    rows = _rows(timeline, scale)
    bottom = top + sum(row.height for row in rows)
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(map(_kind, timeline.phases)))}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + 46}" '
        f'viewBox="0 0 {WIDTH} {bottom + 46}" font-family="Helvetica, Arial, sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{bottom + 46}" fill="white"/>',
        f'<text x="14" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    y = top
    for number, row in enumerate(rows):
        parts += _background(row, number, y, x)
        y += row.height
    parts += _axis(end_s, x, top, bottom)
    for name, at in timeline.moments.items():
        label_y = 44 + 15 * levels[name] + 8
        parts.append(
            f'<line x1="{x(at):.1f}" y1="{label_y + 3}" x2="{x(at):.1f}" y2="{bottom}" stroke="#c00" '
            f'stroke-width="1" stroke-dasharray="4 3"/>'
        )
        parts.append(f'<text x="{x(at) + 3:.1f}" y="{label_y}" fill="#c00">{escape(_moment(name, at))}</text>')
    y = top
    for row in rows:
        parts += _row(row, y, x, colours)
        y += row.height
    return "\n".join([*parts, "</svg>"]) + "\n"


def _moment(name: str, at: float) -> str:
    return f"{name} {at:.2f}"


def _kind(phase: Phase) -> str:
    """The same colour for what is called the same in all processes."""
    return phase.name.partition(" (")[0]


def _levels(at: dict[str, float]) -> dict[str, int]:
    """Heights for the moments' labels, from 0 at the top, so that none is written over another, nor crossed by another
    moment's line, which goes down from its own label."""
    levels: dict[str, int] = {}
    ends: list[float] = []  # of each level, where its last label ends
    for name, x in sorted(at.items(), key=lambda item: item[1]):
        level = max((i + 1 for i, end in enumerate(ends) if end >= x), default=0)
        ends += [0.0] * (level + 1 - len(ends))
        ends[level] = x + 8 + CHARACTER * len(_moment(name, 10.0))
        levels[name] = level
    return levels


def _rows(timeline: Timeline, scale: float) -> list[_Row]:
    """The processes with phases first, then the others, as they began; of each, phases that overlap one below the
    other, with room for labels that are wider than their bars."""
    lifetimes: dict[str, Lifetime] = {}
    others = []
    with_phases = list(dict.fromkeys(["driver", *(phase.process for phase in timeline.phases)]))
    for process in timeline.processes:
        if process.process in with_phases:
            lifetimes[process.process] = process
        elif process.cpu_s >= SHOWN_CPU_S and process.ended_s - process.began_s >= SHOWN_S:
            others.append(process)
    shown = [p for p in timeline.phases if p.ended_s - p.began_s >= SHOWN_PHASE_S]
    rows = []
    for name in with_phases:
        lanes: list[list[Phase]] = []
        ends: list[float] = []
        for phase in sorted((p for p in shown if p.process == name), key=lambda p: p.began_s):
            begin, width = phase.began_s * scale, (phase.ended_s - phase.began_s) * scale
            label = 6 + CHARACTER * len(_label(phase))
            end = begin + (width if label <= width else width + label) + 3
            lane = next((i for i, used in enumerate(ends) if used <= begin), len(ends))
            if lane == len(ends):
                lanes.append([])
                ends.append(0.0)
            lanes[lane].append(phase)
            ends[lane] = end
        if lanes or name in lifetimes:
            rows.append(_Row(name, lifetimes.get(name), tuple(map(tuple, lanes))))
    return rows + [_Row(p.process, p, ()) for p in others]


def _label(phase: Phase) -> str:
    return f"{phase.name} {phase.ended_s - phase.began_s:.2f}"


def _background(row: _Row, number: int, y: int, x: Callable[[float], float]) -> list[str]:
    fill = "#f8f8f8" if number % 2 == 0 else "#fff"
    parts = [f'<rect x="0" y="{y}" width="{WIDTH}" height="{row.height}" fill="{fill}"/>']
    if row.lifetime is not None:
        begin, end = x(row.lifetime.began_s), x(row.lifetime.ended_s)
        parts.append(
            f'<rect x="{begin:.1f}" y="{y + 2}" width="{max(1.0, end - begin):.1f}" height="{row.height - 4}" '
            f'fill="#e6e6e6"/>'
        )
    return parts


def _row(row: _Row, y: int, x: Callable[[float], float], colours: dict[str, str]) -> list[str]:
    middle = y + row.height / 2 + 4
    cpu = f"{row.lifetime.cpu_s:.1f} s CPU" if row.lifetime else ""
    parts = [f'<text x="14" y="{middle:.0f}">{escape(row.process)}<tspan dx="5" fill="#777">{cpu}</tspan></text>']
    for number, lane in enumerate(row.lanes):
        bar_y = y + GAP / 2 + number * LANE + (LANE - BAR) / 2
        for phase in lane:
            begin, width = x(phase.began_s), max(1.0, x(phase.ended_s) - x(phase.began_s))
            inside = 6 + CHARACTER * len(_label(phase)) <= width
            tip = quoteattr(f"{row.process}: {phase.name}, {phase.began_s:.3f} to {phase.ended_s:.3f} s")[1:-1]
            parts.append(
                f'<rect x="{begin:.1f}" y="{bar_y}" width="{width:.1f}" height="{BAR}" rx="2" '
                f'fill="{colours[_kind(phase)]}"><title>{tip}</title></rect>'
            )
            text_x, colour = (begin + 4, "white") if inside else (begin + width + 3, "#222")
            halo = "" if inside else ' stroke="#eee" stroke-width="3" paint-order="stroke"'
            parts.append(
                f'<text x="{text_x:.1f}" y="{bar_y + BAR - 4}" fill="{colour}"{halo}>{escape(_label(phase))}</text>'
            )
    return parts


def _axis(end_s: float, x: Callable[[float], float], top: int, bottom: int) -> list[str]:
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, math.inf) if end_s / s <= 14)
    parts = []
    for n in range(int(end_s / step) + 1):
        at = x(n * step)
        parts.append(f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{bottom}" stroke="#ccc" stroke-width="0.7"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 15}" text-anchor="middle" fill="#555">{n * step:g}</text>')
    return [
        *parts,
        f'<text x="{LEFT}" y="{bottom + 34}" fill="#555">seconds from exec; grey: the process is there</text>',
    ]
