"""Where a point of a PDF page is for its reader: after the rotation of the page, and of the text on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Direction(Enum):
    """Where text runs on the page as it is shown."""

    RIGHT = "right"
    UP = "up"
    DOWN = "down"
    LEFT = "left"


UPRIGHT = Direction.RIGHT
_MARGIN = 2.0  # points by which a word may reach over the edge: boxes of italics do


@dataclass(frozen=True, slots=True)
class PageFrame:
    """The visible box of a page in its own coordinates, and its rotation: 0 to 3 quarters, clockwise."""

    left: float
    bottom: float
    right: float
    top: float
    quarters: int

    @property
    def width(self) -> float:
        """Of the page as it is shown, in points."""
        return self.top - self.bottom if self.quarters % 2 else self.right - self.left

    @property
    def height(self) -> float:
        return self.right - self.left if self.quarters % 2 else self.top - self.bottom

    def shown(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point is shown: from the left, and from the top."""
        match self.quarters:
            case 0:
                return x - self.left, self.top - y
            case 1:
                return y - self.bottom, x - self.left
            case 2:
                return self.right - x, y - self.bottom
            case _:
                return self.top - y, self.right - x

    def upright(self, x: float, y: float, direction: Direction) -> tuple[float, float]:
        """Return where a point is if the page is turned until text of this direction runs to the right."""
        x, y = self.shown(x, y)
        match direction:
            case Direction.RIGHT:
                return x, y
            case Direction.UP:
                return self.height - y, x
            case Direction.DOWN:
                return y, self.width - x
            case Direction.LEFT:
                return self.width - x, self.height - y

    def direction(self, a: float, b: float) -> Direction:
        """Return where text runs whose first unit vector is (a, b) in the page's own coordinates."""
        across, down = ((a, -b), (b, a), (-a, b), (-b, -a))[self.quarters]
        if abs(across) >= abs(down):
            return Direction.RIGHT if across >= 0 else Direction.LEFT
        return Direction.DOWN if down > 0 else Direction.UP

    def shows(self, x0: float, x1: float, baseline: float, direction: Direction) -> bool:
        """Return whether a word in upright coordinates is on the visible page."""
        sideways = direction in (Direction.UP, Direction.DOWN)
        width, height = (self.height, self.width) if sideways else (self.width, self.height)
        return x1 > -_MARGIN and x0 < width + _MARGIN and -_MARGIN < baseline < height + _MARGIN
