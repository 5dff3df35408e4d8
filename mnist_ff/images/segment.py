"""From a photograph of a digit to its ink: removes uneven light, shadows, noise, ruled lines and the paper's colour.

What follows is centre.centred(). Everything here is relative to the size of the picture or of the digit.
A turned digit stays turned: of 2,000 digits turned by up to 15 degrees the default network reads 96.8 % as they are,
and 96.2 to 96.7 % when they are straightened by their moments.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_ff.images.frames import without_frames
from mnist_ff.images.paper import MARKED, Picture, otsu, read_paper, shrunk

WORKING_SIDE_PX = 480
"""Pixels of the longer side that is worked with."""
FAINT = 0.05
"""Added to a brightness before its logarithm, so that noise in the dark stays small."""
WIDEST = 0.35
"""Of the picture's shorter side: strokes are narrower than that, shadows wider."""
THINNEST = 0.04
"""Of the picture's longer side: ruled lines are narrower than that."""
PRESENT = 0.4
"""A line has at least its strength in all but this share of its length."""
WAVES = 512
"""Side of the spectrum in which the lines' direction is looked for."""
CLIPPED = 0.2
"""Of the strongest contrast: what counts when the lines' direction is looked for."""
BOLDEST = 0.45
"""A stroke's greatest width, of the digit's longer side."""
STROKE = 0.1
"""A stroke's least width, of the digit's longer side: 2 of 20 pixels, as four of five of MNIST's have."""
FAINTEST = 0.05
"""Least contrast of ink, as a natural logarithm."""
LEAST = 0.3
"""Of the strongest contrast: what a digit that the border does not cut has."""
ALONG = 0.8
"""Of a side of the picture: what runs along it is the edge of something else."""
SPECK = 0.04
"""Fraction of the heaviest piece's ink; lighter pieces do not belong to the digit."""
REACH = 0.25
"""Of the heaviest piece's longer side: pieces that are this near belong to the same digit."""
TILTS = np.arange(-20, 20.1, 0.25)
"""Degrees that ruled lines may be turned by."""


class NoDigitError(Exception):
    """Nothing in a picture stands out like a digit."""


@dataclass(frozen=True)
class Written:
    """What stands on the paper of a picture."""

    ink: Picture
    """(h, w) of the one digit, from 0, paper, to 1, ink."""
    contrast: Picture
    """(h, w) of all that is written, from 0, paper: what the digit was chosen from."""
    is_drawn: bool
    """Whether a program drew it: its greys are ink as they are."""


def ink_of(brightness: Picture) -> Picture:
    """The digit's ink, from 0, paper, to 1, whichever is the darker; the rest of the picture is 0.

    Args:
        brightness: (H, W) floats from 0, black, to 1, white.

    Returns:
        (h, w) floats; a larger picture is made smaller before.
    Errors: NoDigitError.
    """
    return written_in(brightness).ink


def written_in(brightness: Picture) -> Written:
    """ink_of(), with what it was chosen from. Errors: NoDigitError."""
    drawn = drawn_ink(brightness)
    if drawn is not None:
        return Written(drawn, drawn, True)
    light = np.log(
        shrunk(brightness, WORKING_SIDE_PX) + FAINT
    )  # light falls on ink and paper alike: their distance stays
    smooth = ndimage.gaussian_filter(light, max(light.shape) / 400)
    dark, smooth = read_paper(smooth)
    sign = 1 if dark else -1
    contrast = _contrast_of(sign * smooth)
    ink = digit_in(contrast)
    if not is_of_strokes(ink):  # the paper itself, on a table of the other kind
        with suppress(NoDigitError):
            other_contrast = _contrast_of(-sign * smooth)
            other = digit_in(other_contrast)
            if is_of_strokes(other):
                contrast, ink = other_contrast, other
    return Written(thickened(ink), contrast, False)


def _contrast_of(light: Picture) -> Picture:
    """What is darker than its paper, without what surrounds it."""
    return without_lines(_without_strips(without_frames(standing_out(light), FAINTEST)))


def drawn_ink(brightness: Picture) -> Picture | None:
    """The ink of a picture whose paper is of one exact brightness, as a program draws it; None for any other."""
    edge = np.concatenate([brightness[0], brightness[-1], brightness[:, 0], brightness[:, -1]])
    paper = edge[0]
    if (edge != paper).any() or (brightness == paper).mean() < 0.5:
        return None
    ink = np.abs(brightness - paper)
    if ink.max() == 0:
        raise NoDigitError
    ink = without_frames(ink, 0.02)
    scaled: Picture = ink / ink.max()
    return scaled


def standing_out(light: Picture) -> Picture:
    """How much darker than its surroundings each pixel is, from 0: the closing of the picture minus itself.

    A closing fills what is narrower than its element, and keeps the edge of a shadow where it is.
    """
    element = max(3, int(WIDEST * min(light.shape)))
    contrast = ndimage.grey_closing(light, size=(element, element), mode="nearest") - light
    result: Picture = np.maximum(contrast - np.median(contrast), 0)
    return result


def without_lines(contrast: Picture) -> Picture:
    """The same without ruled lines or squares: what runs through the whole picture, straight and thin."""
    if min(contrast.shape) < 64:
        return contrast
    power = _spectrum(_thin(shrunk(contrast, 300)))
    contrast = _without_rows(contrast, _tilt(power))
    return _without_rows(contrast.T, _tilt(power.T)).T


def _thin(contrast: Picture) -> Picture:
    """What is narrower than ruled lines may be, with less weight for what is strong: the digit's edges."""
    element = max(3, int(THINNEST * max(contrast.shape)))
    thin = contrast - ndimage.grey_opening(contrast, size=(element, element))
    result: Picture = np.minimum(thin, CLIPPED * np.percentile(contrast, 99.9))
    return result


def _spectrum(picture: Picture) -> Picture:
    """(512, 512) sizes of the waves in a picture, the slowest in the middle."""
    window = np.outer(np.hanning(picture.shape[0]), np.hanning(picture.shape[1]))
    power: Picture = np.abs(np.fft.fftshift(np.fft.fft2((picture - picture.mean()) * window, (WAVES, WAVES))))
    return power


def _tilt(power: Picture) -> float:
    """Degrees by which nearly horizontal lines are turned: the direction in which the spectrum holds most."""
    radius = np.arange(WAVES // 25, WAVES // 2 - 8)[None, :]
    angle = np.radians(TILTS)[:, None]
    rows, columns = WAVES // 2 + radius * np.cos(angle), WAVES // 2 - radius * np.sin(angle)
    along = ndimage.map_coordinates(power, [rows, columns], order=1).sum(axis=1)
    return float(TILTS[int(along.argmax())])


def _without_rows(contrast: Picture, tilt: float) -> Picture:
    """Take away thin straight lines turned by `tilt` degrees from the horizontal."""
    height, width = contrast.shape
    level = ndimage.rotate(contrast, tilt, reshape=False, order=1, mode="constant", cval=np.nan)
    known = np.isfinite(level).sum(axis=1)
    level.sort(axis=1)  # what lies outside the picture comes last
    profile = np.where(known > width / 4, level[np.arange(height), (known * PRESENT).astype(int)], 0.0)
    thin = profile - ndimage.grey_opening(profile, size=max(3, int(THINNEST * max(contrast.shape))))
    thin = ndimage.maximum_filter1d(thin, 3)  # a line's edges lie between two rows
    rows, columns = np.indices(contrast.shape)
    angle = np.radians(tilt)
    middle = (height - 1) / 2, (width - 1) / 2
    place = middle[0] + (rows - middle[0]) * np.cos(angle) - (columns - middle[1]) * np.sin(angle)
    line = np.interp(place, np.arange(height), thin)
    cleared: Picture = np.where(contrast > 1.8 * line, contrast, np.maximum(contrast - 1.3 * line, 0))
    return cleared


def digit_in(contrast: Picture) -> Picture:
    """The ink of what looks most like a digit: the heaviest piece that the border does not cut, and what is near it."""
    contrast = uncut(contrast)
    pieces, count = pieces_of(contrast)
    box = _box(contrast, pieces, count)
    margin = max(2, int(0.15 * max(side.stop - side.start for side in box)))
    rows, columns = (slice(max(0, side.start - margin), side.stop + margin) for side in box)
    return inked(contrast[rows, columns])


def uncut(contrast: Picture) -> Picture:
    """The same without frames, and without the pieces that the border cuts unless there is little else."""
    contrast = without_frames(contrast, FAINTEST)
    alone = _without_cut_pieces(contrast)
    # else the digit itself is cut, or fills the picture
    return alone if alone.max() >= LEAST * contrast.max() else contrast


def pieces_of(contrast: Picture) -> tuple[NDArray[np.int32], int]:
    """The connected pieces of strong contrast by number from 1, and how many. Errors: NoDigitError."""
    peak = float(np.percentile(contrast, 99.9))
    if peak < FAINTEST:
        raise NoDigitError
    pieces, count = ndimage.label(contrast > max(0.4 * peak, otsu(contrast)), structure=np.ones((3, 3)))
    if count == 0:
        raise NoDigitError
    return pieces, count


def _without_cut_pieces(contrast: Picture) -> Picture:
    """The same without the pieces that the border cuts: the table beside the paper, a shadow's corner."""
    pieces, _ = pieces_of(contrast)
    cut = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    return _without(contrast, pieces, cut[cut > 0])


def _without_strips(contrast: Picture) -> Picture:
    """The same without what runs along a whole side of the picture, however dark it is; all of it if that is all."""
    pieces, count = pieces_of(contrast)
    sides = (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1])
    along = np.max([np.bincount(side, minlength=count + 1) / side.size for side in sides], axis=0)
    strips = np.flatnonzero(along[1:] > ALONG) + 1
    if strips.size == 0:
        return contrast
    inside = _without(contrast, pieces, strips)
    return inside if np.percentile(inside, 99.9) >= MARKED else contrast


def _without(contrast: Picture, pieces: NDArray[np.int32], numbers: NDArray[np.int64]) -> Picture:
    """The same without some pieces and their soft edges."""
    gone = ndimage.binary_dilation(np.isin(pieces, numbers), iterations=max(1, max(contrast.shape) // 100))
    result: Picture = np.where(gone, 0.0, contrast)
    return result


def _box(contrast: Picture, pieces: NDArray[np.int32], count: int) -> tuple[slice, slice]:
    """The box of the heaviest piece, grown by pieces nearby that are not mere specks."""
    boxes = ndimage.find_objects(pieces)
    mass = ndimage.sum_labels(contrast, pieces, np.arange(1, count + 1))
    main = int(mass.argmax())
    top, bottom, left, right = _edges(boxes[main])
    reach = REACH * max(bottom - top, right - left)
    for number in np.argsort(-mass):
        if mass[number] < SPECK * mass[main]:
            break
        above, below, before, after = _edges(boxes[number])
        apart = max(above - bottom, top - below, before - right, left - after)
        if apart <= reach:
            top, bottom, left, right = min(top, above), max(bottom, below), min(left, before), max(right, after)
    return slice(top, bottom), slice(left, right)


def _edges(box: tuple[slice, slice]) -> tuple[int, int, int, int]:
    return box[0].start, box[0].stop, box[1].start, box[1].stop


def inked(contrast: Picture) -> Picture:
    """Contrast to ink by the digit's own threshold, specks and cut-off neighbours left out."""
    smooth = ndimage.gaussian_filter(contrast, 0.015 * max(contrast.shape))
    level = otsu(smooth)
    inside, outside = smooth[smooth > level], smooth[smooth <= level]
    span = float(inside.mean() - outside.mean()) if inside.size and outside.size else 0.0
    if span <= 0:
        raise NoDigitError
    pieces, count = ndimage.label(smooth > level, structure=np.ones((3, 3)))
    mass = ndimage.sum_labels(smooth, pieces, np.arange(1, count + 1))
    kept = np.flatnonzero(mass >= SPECK * mass.max()) + 1
    near = ndimage.binary_dilation(np.isin(pieces, kept), iterations=max(1, round(0.02 * max(contrast.shape))))
    ink = np.clip(0.5 + 2 * (smooth - level) / span, 0, 1)
    result: Picture = np.where(near, ink, 0.0)
    return result


def is_of_strokes(ink: Picture) -> bool:
    """Whether a pen may have drawn it: nowhere wider than a bold stroke, for its size."""
    inked = np.pad(ink > 0.5, 1)
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    if rows.size == 0:
        return False
    size = max(np.ptp(rows), np.ptp(columns)) + 1
    return bool(2 * ndimage.distance_transform_edt(inked).max() <= BOLDEST * size)


def thickened(ink: Picture) -> Picture:
    """The same with strokes as wide as the thinner ones of MNIST, where a finer pen wrote it."""
    padded = np.pad(ink, max(1, int(STROKE * max(ink.shape))))
    rows, columns = np.flatnonzero((padded > 0.5).any(axis=1)), np.flatnonzero((padded > 0.5).any(axis=0))
    if rows.size == 0:
        return ink
    wanted = STROKE * (max(np.ptp(rows), np.ptp(columns)) + 1)
    depth = ndimage.distance_transform_edt(padded > 0.5)
    ridge = (depth > 0) & (depth >= ndimage.maximum_filter(depth, 3))
    missing = (wanted - (2 * float(np.median(depth[ridge])) - 1)) / 2
    if missing < 0.5:
        return ink
    grown: Picture = np.clip(missing + 1 - ndimage.distance_transform_edt(padded <= 0.5), 0, 1)
    return np.maximum(grown, padded)
