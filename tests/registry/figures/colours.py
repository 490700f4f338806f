"""Colours as colour-blind readers see them, in numbers."""

import itertools
from collections.abc import Sequence

Colour = tuple[float, float, float]

SEEN_BY = {
    "everybody": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""Linear RGB as they see it: Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color
Vision Deficiency", 2009, severity 1.0."""


def linear(colour: str) -> Colour:
    """Return `#RRGGBB` in linear light, 0 to 1 (IEC 61966-2-1)."""
    parts = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return red, green, blue


def seen(colour: str, by: str) -> Colour:
    """Return what somebody sees of a colour, in linear light."""
    rgb = linear(colour)
    red, green, blue = (min(max(sum(a * b for a, b in zip(row, rgb, strict=True)), 0.0), 1.0) for row in SEEN_BY[by])
    return red, green, blue


def lab(rgb: Colour) -> Colour:
    """Return CIE L*a*b* of linear sRGB under D65 (CIE 15)."""
    red, green, blue = rgb
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def closest(colours: Sequence[str], by: str) -> tuple[float, str, str]:
    """Return the smallest difference ΔE*ab between two of some colours as somebody sees them, and the two."""
    labs = {colour: lab(seen(colour, by)) for colour in colours}
    pairs = itertools.combinations(colours, 2)
    return min((sum((a - b) ** 2 for a, b in zip(labs[p], labs[q], strict=True)) ** 0.5, p, q) for p, q in pairs)


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2.2): 1 to 21."""
    light = [0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05 for r, g, b in (linear(first), linear(second))]
    return max(light) / min(light)
