"""The plots of docs/performance.md, drawn by Vega-Lite, in which the service's own charts are written too."""

from collections.abc import Sequence
from pathlib import Path

import vl_convert

from tests.bench.latency import Point

_WIDTH, _HEIGHT = 620, 320
_READABLE = {"labelFontSize": 12, "titleFontSize": 12}


def draw_latency(points: Sequence[Point], file: Path) -> None:
    """Milliseconds of a three-level group-by against the answers stored, of service and peer, as SVG."""
    colours = {"service": "#1f6fb4", "DuckDB": "#d9822b"}
    named = [{"answers": point.answers, "p50_ms": point.p50_ms, "who": point.who} for point in points]
    names = sorted({point.who for point in points}, reverse=True)
    sizes = sorted({point.answers for point in points})
    legend = {"title": None, "symbolType": "stroke", "symbolSize": 400, "symbolStrokeWidth": 2, "labelFontSize": 12}
    _draw(
        {
            "data": {"values": named},
            "mark": {"type": "line", "point": {"size": 50}},
            "encoding": {
                "x": {
                    "field": "answers",
                    "type": "quantitative",
                    "scale": {"type": "log", "nice": False, "domain": [0.8 * sizes[0], 1.2 * sizes[-1]]},
                    "axis": {"title": "answers stored", "format": ".2s", "values": sizes},
                },
                "y": {
                    "field": "p50_ms",
                    "type": "quantitative",
                    "scale": {"type": "log"},
                    "axis": {"title": "model × category × subject, median ms"},
                },
                "color": {
                    "field": "who",
                    "type": "nominal",
                    "sort": names,
                    "scale": {"domain": names, "range": [colours[name.partition(",")[0]] for name in names]},
                    "legend": legend,
                },
                "strokeDash": {
                    "field": "who",
                    "type": "nominal",
                    "sort": names,
                    "scale": {"domain": names, "range": [[1, 0] if "latest" in name else [6, 4] for name in names]},
                    "legend": legend,
                },
            },
        },
        file,
    )


def draw_backfill(positions: Sequence[tuple[float, int]], file: Path) -> None:
    """Answers applied against the seconds since the first look, as SVG."""
    began = positions[0][0]
    every = max(1, len(positions) // 200)
    values = [{"seconds": moment - began, "answers": answers} for moment, answers in positions[::every]]
    _draw(
        {
            "data": {"values": values},
            "mark": {"type": "line", "color": "#1f6fb4"},
            "encoding": {
                "x": {"field": "seconds", "type": "quantitative", "axis": {"title": "seconds"}},
                "y": {"field": "answers", "type": "quantitative", "axis": {"title": "answers applied", "format": "~s"}},
            },
        },
        file,
    )


def _draw(spec: dict[str, object], file: Path) -> None:
    """Write a plot; white behind it, so that it is read on dark pages too."""
    whole = {"width": _WIDTH, "height": _HEIGHT, "background": "white", "config": {"axis": _READABLE}} | spec
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(vl_convert.vegalite_to_svg(whole) + "\n", encoding="utf-8")
