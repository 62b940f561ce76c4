"""Draw lines over a common x as an SVG, without a plotting library: one panel below the other, from zero."""

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 190, 70, 190, 34, 34
COLOURS = ("#1f6feb", "#d1242f", "#2da44e", "#8250df")


@dataclass(frozen=True)
class Panel:
    """A title with the unit, and points (x, y) of each line by its name."""

    title: str
    lines: dict[str, list[tuple[float, float]]]


def write_svg(path: Path, x_title: str, panels: list[Panel]) -> None:
    """Write the panels into one picture."""
    height = len(panels) * HEIGHT + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{height}" fill="white"/>'
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate(0,{number * HEIGHT})">{_panel(panel)}</g>')
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{height - 6}" text-anchor="middle">{escape(x_title)}</text></svg>')
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _panel(panel: Panel) -> str:
    points = [point for line in panel.lines.values() for point in line]
    most_x, most_y = max(x for x, _ in points), _rounded_up(max(y for _, y in points))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return round(LEFT + wide * x / most_x, 1), round(TOP + high * (1 - y / most_y), 1)

    parts = [f'<text x="{LEFT}" y="{TOP - 12}" font-weight="bold">{escape(panel.title)}</text>']
    for step in range(5):
        (left, y), (right, _) = place(0, most_y * step / 4), place(most_x, 0)
        parts.append(f'<path d="M{left} {y}H{right}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{most_y * step / 4:g}</text>')
    for step in range(1, 6):
        x, y = place(most_x * step / 5, 0)
        parts.append(f'<text x="{x}" y="{y + 16}" text-anchor="middle">{most_x * step / 5:,.0f}</text>')
    for number, (name, line) in enumerate(panel.lines.items()):
        colour, at = COLOURS[number % len(COLOURS)], TOP + 8 + 18 * number
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<path d="M{WIDTH - RIGHT + 12} {at - 4}h18" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 36}" y="{at}">{escape(name)}</text>')
    return "\n".join(parts)


def _rounded_up(value: float) -> float:
    """Return a round number that is not below ``value``."""
    step = 10.0 ** (len(str(int(value))) - 1) / 2 if value >= 1 else 0.1
    return step * -(-value // step) or step
