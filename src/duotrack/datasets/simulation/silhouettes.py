"""Drawn objects: people, vehicles, animals, things that fly, and odd shapes; the moving ones in several poses."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.simulation.sprites import Kind, Pose, Sprite, outline_of
from duotrack.datasets.simulation.textures import colour, noise

Rng = np.random.Generator
Floats = NDArray[np.float64]
SIDE = 240
"""Side of the square that objects are drawn on before they are scaled down."""
POSES = 6


class Pen:
    """Draws parts with a colour and a warmth in [0, 1] on a square whose coordinates run from 0 to 1."""

    def __init__(self) -> None:
        self.rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
        self.warm, self.alpha = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)

    def _each(self, rgb: Any, warm: float) -> Any:
        shade = np.clip(rgb, 0, 255).tolist()
        return ((self.rgb, shade), (self.warm, round(255 * min(max(warm, 0), 1))), (self.alpha, 255))

    def polygon(self, points: Any, rgb: Any, warm: float) -> None:
        """A filled polygon of (N, 2) points."""
        corners = np.rint(np.asarray(points) * SIDE).astype(np.int32)
        for canvas, value in self._each(rgb, warm):
            cv2.fillPoly(canvas, [corners], value)

    def ellipse(self, x: float, y: float, rx: float, ry: float, rgb: Any, warm: float, angle: float = 0) -> None:
        """A filled ellipse; the angle in degrees."""
        axes = (max(round(rx * SIDE), 1), max(round(ry * SIDE), 1))
        for canvas, value in self._each(rgb, warm):
            cv2.ellipse(canvas, (round(x * SIDE), round(y * SIDE)), axes, angle, 0, 360, value, -1)

    def limb(self, points: Any, width: float, rgb: Any, warm: float) -> None:
        """A thick line through (N, 2) points."""
        corners = np.rint(np.asarray(points) * SIDE).astype(np.int32)
        for canvas, value in self._each(rgb, warm):
            cv2.polylines(canvas, [corners], False, value, max(round(width * SIDE), 1))


def drawn_sprite(rng: Rng, kind: Kind, side: int = 160) -> Sprite:
    """A random object of a kind, at most `side` pixels long; its poses are equally large."""
    drawers = {"person": _people, "vehicle": _vehicle, "animal": _animal, "flyer": _flyer, "thing": _thing}
    texture = 0.75 + 0.5 * noise(
        rng, SIDE // 3, SIDE // 3, coarse=float(rng.uniform(2, 12)), roughness=float(rng.uniform(0.4, 0.9))
    )
    texture = np.asarray(cv2.resize(texture, (SIDE, SIDE)), np.float32)
    light = np.linspace(rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.2), SIDE).astype(np.float32)
    pens = drawers[kind](rng)
    # all poses are cut to the same frame, so that an object stays in place while its parts move
    union = np.maximum.reduce([pen.alpha for pen in pens])
    x, y, w, h = cv2.boundingRect(union)
    poses = []
    part = (slice(y, y + h), slice(x, x + w))
    for pen in pens:
        pen.rgb, pen.warm, pen.alpha = pen.rgb[part], pen.warm[part], np.ascontiguousarray(pen.alpha[part])
        poses.append(_framed(pen, (texture * light[:, None])[part], side))
    return Sprite(kind, tuple(poses))


def _framed(pen: Pen, texture: NDArray[np.float32], side: int) -> Pose:
    """A pose that keeps the whole frame, with the outline of what is opaque in it."""
    height, width = pen.alpha.shape
    factor = min(1.0, side / max(width, height))
    size = (max(round(width * factor), 2), max(round(height * factor), 2))
    shade = cv2.GaussianBlur((pen.rgb * texture[..., None]).clip(0, 255).astype(np.uint8), (0, 0), 0.8)
    colours = np.dstack([cv2.multiply(shade, cv2.merge([pen.alpha] * 3), scale=1 / 255), pen.alpha])
    small, warm = (cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (colours, pen.warm))
    return Pose(np.asarray(small, np.uint8), np.asarray(warm, np.uint8), None, outline_of(pen.alpha))


def _off(point: Floats, dx: float, dy: float) -> Floats:
    return point + np.array([dx, dy])


def _people(rng: Rng) -> list[Pen]:
    """Somebody who walks, seen from the side or the front, perhaps on a bicycle."""
    skin = np.array([205, 160, 130]) * rng.uniform(0.35, 1.1)
    top, trousers = colour(rng, 15, 240, 0.9), colour(rng, 10, 190, 0.6)
    hair, shoes = colour(rng, 10, 120, 0.4), colour(rng, 10, 200, 0.3)
    front, cycle = rng.random() < 0.4, rng.random() < 0.18
    bulk, stride = rng.uniform(0.8, 1.35), rng.uniform(0.25, 0.6)
    skirt, bag, hat = rng.random() < 0.15, rng.random() < 0.3, rng.random() < 0.25
    bag_side, bag_rgb = rng.choice([-1, 1]), colour(rng, 10, 200, 0.7)
    sleeves = rng.random() < 0.6
    pens = []
    for index in range(POSES):
        pen, phase = Pen(), 2 * np.pi * index / POSES
        swing = 0.0 if cycle else stride * np.sin(phase)
        hip, shoulder, head = np.array([0.5, 0.53]), np.array([0.5, 0.24]), np.array([0.5, 0.115])
        if cycle:
            for wheel in (0.27, 0.73):
                ring = [(wheel + 0.15 * np.cos(a), 0.82 + 0.15 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 30)]
                pen.limb(ring, 0.018, (25, 25, 28), 0.35)
            pen.limb(
                [(0.27, 0.82), (0.42, 0.6), (0.66, 0.6), (0.73, 0.82), (0.47, 0.8), (0.42, 0.6)], 0.02, bag_rgb, 0.25
            )
            hip, shoulder, head = np.array([0.42, 0.55]), np.array([0.53, 0.3]), np.array([0.56, 0.17])
        for side in (-1, 1):
            angle = side * swing
            if cycle:
                foot = np.array([0.48, 0.8]) + 0.06 * side * np.array([np.cos(phase), np.sin(phase)])
                knee = _off((hip + foot) / 2, 0.1, -0.02)
            elif front:
                knee = _off(hip, side * 0.04 * bulk, 0.2 - 0.03 * abs(swing) * (side * swing > 0))
                foot = _off(knee, 0, 0.22 - 0.12 * abs(swing) * (side * swing > 0))
            else:
                knee = hip + 0.21 * np.array([np.sin(angle), np.cos(angle)])
                bend = max(-angle, 0) * 1.1
                foot = knee + 0.22 * np.array([np.sin(angle - bend), np.cos(angle - bend)])
            start = _off(hip, side * 0.035 * bulk * front, 0)
            pen.limb([start, knee, foot], 0.075 * bulk, trousers * (1 if side > 0 else 0.8), 0.55)
            pen.ellipse(foot[0] + 0.015 * (not front), foot[1] + 0.012, 0.045, 0.022, shoes, 0.35)
        half = (0.105 if front else 0.075) * bulk
        pen.polygon(
            [
                _off(shoulder, -half, 0),
                _off(shoulder, half, 0),
                _off(hip, half * 0.8, 0.03),
                _off(hip, -half * 0.8, 0.03),
            ],
            top,
            0.65,
        )
        pen.ellipse(shoulder[0], shoulder[1], half, 0.03, top, 0.65)
        if skirt and not cycle:
            pen.polygon(
                [
                    _off(hip, -half * 0.8, -0.02),
                    _off(hip, half * 0.8, -0.02),
                    _off(hip, 0.12, 0.22),
                    _off(hip, -0.12, 0.22),
                ],
                trousers,
                0.55,
            )
        if bag:
            pen.ellipse(shoulder[0] + bag_side * half, 0.38, 0.05, 0.09, bag_rgb, 0.3)
        for side in (-1, 1):
            angle = -side * swing * 0.9
            if cycle:
                elbow, hand = np.array([0.61, 0.45]), np.array([0.68, 0.56])
            else:
                elbow = (
                    shoulder
                    + (side * half * front, 0.02)
                    + 0.14 * np.array([np.sin(angle) + side * 0.15 * front, np.cos(angle)])
                )
                hand = elbow + 0.13 * np.array([np.sin(angle + 0.35 * (not front)), np.cos(angle)])
            arm = skin if not sleeves else top * 0.9
            pen.limb(
                [_off(shoulder, side * half * 0.9 * front, 0.015), elbow, hand],
                0.045 * bulk,
                arm,
                0.65 if sleeves else 0.95,
            )
            pen.ellipse(hand[0], hand[1], 0.024, 0.026, skin, 0.95)
        pen.limb([shoulder, head], 0.05, skin, 1.0)
        pen.ellipse(head[0], head[1], 0.055, 0.07, skin, 1.0)
        pen.ellipse(head[0] - 0.01 * (not front), head[1] - 0.03, 0.058, 0.045, hair, 0.6 if not hat else 0.4)
        pens.append(pen)
    return pens


def _vehicle(rng: Rng) -> list[Pen]:
    """A car, van, bus or truck from the side, or its front or back."""
    pen, body = Pen(), colour(rng, 20, 245, float(rng.choice([0.1, 1.0])))
    glass, tyre = colour(rng, 15, 110, 0.2), (22, 22, 24)
    engine = rng.uniform(0.4, 1.0)
    if rng.random() < 0.5:
        tall = rng.uniform(0.22, 0.34)
        base, roof = 0.72, 0.72 - tall
        box = rng.random() < 0.3
        waist = base - tall * rng.uniform(0.5, 0.62)
        nose, tail = rng.uniform(0.14, 0.3), rng.uniform(0.02, 0.2)
        if box:
            nose, tail = rng.uniform(0.04, 0.15), 0.01
        shell = [
            (0.03, base),
            (0.03 + 0.3 * tail, waist),
            (0.05 + tail, roof),
            (0.92 - nose, roof),
            (1.0 - nose, waist),
            (0.95, waist + 0.03),
            (0.97, base),
        ]
        pen.polygon(shell, body, 0.35)
        pen.polygon(
            [(0.97 - nose, waist), (0.95, waist + 0.03), (0.97, base), (0.9 - nose * 0.6, base)], body * 0.95, engine
        )
        inset = 0.02
        pen.polygon(
            [(0.07 + tail, roof + inset), (0.9 - nose, roof + inset), (0.97 - nose, waist), (0.05 + 0.5 * tail, waist)],
            glass,
            0.15,
        )
        for post in np.linspace(0.15 + tail, 0.8 - nose, int(rng.integers(2, 4 + 3 * box))):
            pen.limb([(post, roof), (post + 0.01, waist)], 0.016, body * 0.8, 0.3)
        pen.limb([(0.04, base - 0.05), (0.95, base - 0.05)], 0.008, body * 0.6, 0.35)
        for wheel in (rng.uniform(0.17, 0.24), rng.uniform(0.74, 0.82)):
            pen.ellipse(wheel, base, 0.075, 0.075, tyre, 0.75)
            pen.ellipse(wheel, base, 0.038, 0.038, (150, 150, 155), 0.95)
        pen.ellipse(0.945, waist + 0.06, 0.018, 0.02, (250, 245, 215), 0.7)
        pen.ellipse(0.045, waist + 0.06, 0.014, 0.02, (170, 25, 20), 0.5)
    else:
        tall, wide = rng.uniform(0.55, 0.95), 0.8
        left, right, base = 0.5 - wide / 2, 0.5 + wide / 2, 0.9
        top = base - tall * wide
        waist = top + (base - top) * rng.uniform(0.35, 0.5)
        lean = rng.uniform(0.03, 0.14)
        for x in (left + 0.06, right - 0.06):
            pen.polygon(
                [(x - 0.06, base - 0.15), (x + 0.06, base - 0.15), (x + 0.06, base + 0.05), (x - 0.06, base + 0.05)],
                tyre,
                0.8,
            )
        pen.polygon(
            [(left + lean, top), (right - lean, top), (right, waist), (right, base), (left, base), (left, waist)],
            body,
            0.35,
        )
        pen.polygon(
            [
                (left + lean + 0.03, top + 0.04),
                (right - lean - 0.03, top + 0.04),
                (right - 0.04, waist),
                (left + 0.04, waist),
            ],
            glass,
            0.15,
        )
        pen.polygon(
            [
                (left + 0.2, waist + 0.06),
                (right - 0.2, waist + 0.06),
                (right - 0.2, base - 0.08),
                (left + 0.2, base - 0.08),
            ],
            body * 0.55,
            engine,
        )
        lamp = (250, 245, 220) if rng.random() < 0.5 else (190, 25, 20)
        for x in (left + 0.1, right - 0.1):
            pen.ellipse(x, waist + 0.1, 0.06, 0.035, lamp, 0.7)
        pen.limb([(left + 0.02, base - 0.04), (right - 0.02, base - 0.04)], 0.04, body * 0.4, 0.5)
        pen.ellipse(left + 0.25, base + 0.02, 0.03, 0.02, (20, 20, 20), 1.0)
    return [pen]


def _animal(rng: Rng) -> list[Pen]:
    """Something on four legs."""
    coat, second = colour(rng, 20, 220, 0.45), colour(rng, 10, 240, 0.3)
    length, thick, legs = rng.uniform(0.25, 0.33), rng.uniform(0.1, 0.17), rng.uniform(0.14, 0.32)
    neck, tail, stride = rng.uniform(0.05, 0.25), rng.uniform(0.08, 0.25), rng.uniform(0.3, 0.7)
    spots = rng.uniform(-1, 1, (int(rng.integers(0, 7)), 2))
    pens = []
    for index in range(POSES):
        pen, phase, middle = Pen(), 2 * np.pi * index / POSES, 0.45
        for number, (x, shift) in enumerate(((-0.8, 0.0), (-0.7, np.pi), (0.7, 1.4), (0.8, 1.4 + np.pi))):
            start = np.array([0.47 + x * length, middle + thick * 0.5])
            angle = stride * np.sin(phase + shift)
            knee = start + legs * 0.55 * np.array([np.sin(angle), np.cos(angle)])
            foot = knee + legs * 0.55 * np.array([np.sin(angle * 0.3), np.cos(angle * 0.3)])
            pen.limb([start, knee, foot], 0.045, coat * (0.75 if number % 2 else 0.95), 0.6)
        pen.ellipse(0.47, middle, length, thick, coat, 0.75)
        for spot in spots:
            pen.ellipse(0.47 + spot[0] * length * 0.7, middle + spot[1] * thick * 0.5, 0.05, 0.035, second, 0.75)
        head = np.array([0.47 + length + 0.08, middle - neck - 0.02 + 0.015 * np.sin(phase)])
        pen.limb([(0.47 + length * 0.8, middle - 0.03), head], 0.09, coat, 0.85)
        pen.ellipse(head[0], head[1], 0.065, 0.05, coat, 0.95, 20)
        pen.ellipse(head[0] + 0.06, head[1] + 0.02, 0.035, 0.025, coat * 0.8, 1.0)
        pen.polygon([_off(head, -0.04, -0.03), _off(head, -0.02, -0.1), _off(head, 0.01, -0.04)], coat * 0.8, 0.8)
        wag = 0.05 * np.sin(phase)
        pen.limb([(0.47 - length, middle - 0.03), (0.47 - length - tail * 0.7, middle - 0.02 + wag)], 0.03, coat, 0.45)
        pens.append(pen)
    return pens


def _flyer(rng: Rng) -> list[Pen]:
    """A drone, an aeroplane or a bird."""
    shade, pick = colour(rng, 15, 200, 0.25), rng.random()
    pens = []
    tilt, arms = rng.uniform(-0.1, 0.1), rng.uniform(0.25, 0.42)
    span, sweep, thick = rng.uniform(0.3, 0.46), rng.uniform(-0.05, 0.2), rng.uniform(0.04, 0.09)
    for index in range(1 if 0.4 <= pick < 0.65 else POSES):
        pen, phase = Pen(), 2 * np.pi * index / POSES
        if pick < 0.4:
            for side in (-1, 1):
                pen.limb([(0.5, 0.5), (0.5 + side * arms, 0.46 + side * tilt)], 0.035, shade, 0.45)
                pen.ellipse(0.5 + side * arms, 0.45 + side * tilt, 0.03, 0.04, shade * 0.8, 1.0)
                blade = 0.15 * abs(np.cos(phase + side)) + 0.03
                pen.ellipse(0.5 + side * arms, 0.41 + side * tilt, blade, 0.01, shade * 0.9, 0.3)
                pen.limb([(0.5 + side * 0.06, 0.53), (0.5 + side * 0.1, 0.64)], 0.018, shade * 0.7, 0.25)
            pen.ellipse(0.5, 0.5, 0.12, 0.07, shade, 0.8)
            pen.ellipse(0.5, 0.57, 0.04, 0.035, shade * 0.5, 0.6)
        elif pick < 0.65:
            pen.ellipse(0.5, 0.5, 0.42, thick, shade, 0.4)
            pen.polygon(
                [(0.45, 0.5), (0.56, 0.5), (0.5 - sweep, 0.5 + span * 0.7), (0.44 - sweep, 0.5 + span * 0.7)],
                shade * 0.85,
                0.3,
            )
            pen.polygon(
                [(0.45, 0.5), (0.56, 0.5), (0.5 - sweep, 0.5 - span * 0.5), (0.44 - sweep, 0.5 - span * 0.5)],
                shade * 1.05,
                0.3,
            )
            pen.polygon([(0.1, 0.5), (0.2, 0.5), (0.13, 0.36), (0.07, 0.36)], shade * 0.9, 0.3)
            pen.ellipse(0.48 - sweep / 2, 0.5 + span * 0.35, 0.05, 0.022, shade * 0.6, 1.0)
        else:
            lift = 0.22 * np.sin(phase)
            for side in (-1, 1):
                tip = (0.5 + side * span, 0.5 - lift)
                elbow = (0.5 + side * span * 0.5, 0.5 - lift * 0.8 - 0.05)
                pen.polygon(
                    [(0.5, 0.46), elbow, tip, (0.5 + side * span * 0.4, 0.55 - lift * 0.5), (0.5, 0.56)],
                    shade * (1 + 0.1 * side),
                    0.5,
                )
            pen.ellipse(0.5, 0.52, thick, 0.09, shade * 0.9, 1.0)
        pens.append(pen)
    return pens


def _thing(rng: Rng) -> list[Pen]:
    """A smooth blob or a polygon of a few parts: a ball, a box, a bag."""
    pen = Pen()
    corners = 40 if rng.random() < 0.5 else int(rng.integers(3, 9))
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + rng.uniform(0, 2 * np.pi)
    reach = 0.35 + sum(rng.uniform(0, 0.1 / k) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5))
    flat = rng.uniform(0.45, 1)
    border = np.stack([0.5 + reach * np.cos(angles), 0.5 + flat * reach * np.sin(angles)], axis=1)
    pen.polygon(border, colour(rng, 10, 245, 1.0), rng.uniform(0.3, 0.9))
    inside = pen.alpha.copy()
    for _ in range(int(rng.integers(0, 6))):
        x, y = rng.uniform(0.25, 0.75, 2)
        rx, ry = rng.uniform(0.03, 0.2, 2)
        pen.ellipse(x, y, rx, ry, colour(rng, 5, 250, 1.0), rng.uniform(0, 1), float(rng.uniform(0, 180)))
    for canvas in (pen.rgb, pen.warm, pen.alpha):
        canvas[inside == 0] = 0
    return [pen]
