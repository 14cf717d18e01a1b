"""Draws curves over steps in the terminal, in dots of braille: two columns and four rows of them a character.

Small enough to be ours: the libraries that draw in terminals bring a compiled kernel for each platform or a
canvas of their own size, and this one is a renderable like any other, redrawn at whatever width it is given.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.style import Style

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_LABEL_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (step, value) in the order of the steps; `mark` stands where each of them is, for few points."""

    points: Sequence[tuple[float, float]]
    style: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class LossCurves:
    """Curves on common axes, from step 0 to `steps`; as wide as there is room, `rows` characters high."""

    curves: Sequence[Curve]
    steps: float
    rows: int = 10

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        columns = max(options.max_width - _LABEL_COLUMNS - 1, 1)
        values = [value for curve in self.curves for _, value in curve.points] or [0.0, 1.0]
        low, high = min(values), max(values)
        cells: dict[tuple[int, int], tuple[str, Style]] = {}
        for curve in self.curves:
            self._draw(curve, columns, (low, high), cells)
        for row in range(self.rows):
            at = high - (high - low) * row / (self.rows - 1)
            label = f"{at:{_LABEL_COLUMNS - 1}.3g} ┤" if row % 3 == 0 else " " * _LABEL_COLUMNS + "│"
            yield Segment(label, Style(dim=True))
            for column in range(columns):
                yield Segment(*cells.get((row, column), (" ", None)))
            yield Segment.line()
        yield Segment(f"{'0':>{_LABEL_COLUMNS}}└{self.steps:─>{columns}g}", Style(dim=True))
        yield Segment.line()

    def _draw(
        self,
        curve: Curve,
        columns: int,
        bounds: tuple[float, float],
        cells: dict[tuple[int, int], tuple[str, Style]],
    ) -> None:
        """Puts a curve into cells: the mean where several points share a column of dots, lines in between."""
        low, high = bounds
        found: dict[int, list[float]] = {}
        for step, value in curve.points:
            found.setdefault(round(step / max(self.steps, step, 1) * (columns * 2 - 1)), []).append(value)
        height = self.rows * 4 - 1
        dots = [
            (x, round((high - sum(at) / len(at)) / ((high - low) or 1) * height)) for x, at in found.items()
        ]
        style = Style.parse(curve.style)
        for (x, y), (next_x, next_y) in zip(dots, [*dots[1:], *dots[-1:]], strict=True):
            length = max(abs(next_x - x), abs(next_y - y), 1)
            for part in range(length + 1):
                dot_x = x + round((next_x - x) * part / length)
                dot_y = y + round((next_y - y) * part / length)
                place = (dot_y // 4, dot_x // 2)
                before = ord(cells[place][0]) if place in cells else 0x2800
                bits = before if 0x2800 <= before < 0x2900 else 0x2800
                cells[place] = (chr(bits | _DOTS[dot_y % 4][dot_x % 2]), style)
        if curve.mark:
            cells.update({(y // 4, x // 2): (curve.mark, style) for x, y in dots})
