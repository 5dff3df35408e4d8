"""From a photograph of a digit to its ink: removes uneven light, shadows, noise, ruled lines and the paper's colour.

centre.centred() comes next. All lengths are relative to the size of the picture or of the digit.
Rotated digits are not deskewed: of 2,000 digits rotated by up to 15 degrees the default network classifies 96.8 %
correctly as they are, and 96.2 to 96.7 % after deskewing by image moments.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_ff.images.frames import without_frames
from mnist_ff.images.paper import MIN_CONTRAST, Picture, otsu, read_paper, shrunk

WORKING_SIDE_PX = 480
"""Longer side of the reduced picture in which the digit is found, in pixels."""
LOG_OFFSET = 0.05
"""Added to the brightness before its logarithm, so that noise in dark areas stays small."""
CLOSING_SIZE = 0.35
"""Side of the closing's structuring element, as a fraction of the picture's shorter side. Strokes are narrower,
shadows wider."""
MAX_LINE_WIDTH = 0.04
"""Maximum width of a ruled line, as a fraction of the picture's longer side."""
LINE_QUANTILE = 0.4
"""Quantile of the contrast along a row that is taken for the contrast of a ruled line."""
SPECTRUM_SIZE = 512
"""Side of the Fourier spectrum that gives the angle of ruled lines, in samples."""
CLIP = 0.2
"""Upper limit of contrast when that angle is estimated, as a fraction of the 99.9th percentile."""
MAX_STROKE_WIDTH = 0.45
"""Maximum stroke width, as a fraction of the digit's longer side."""
MIN_STROKE_WIDTH = 0.1
"""Minimum stroke width, as a fraction of the digit's longer side: 2 of 20 pixels. Four of five MNIST digits have it."""
MIN_INK_CONTRAST = 0.05
"""Minimum contrast of ink, in natural log units."""
MIN_UNCUT_CONTRAST = 0.3
"""Minimum contrast of a digit that the border does not cut, as a fraction of the strongest contrast."""
MIN_EDGE_COVERAGE = 0.8
"""Fraction of one side of the picture above which a piece along it is no digit, but the edge of some object."""
MIN_PIECE_MASS = 0.04
"""Minimum mass of a piece, as a fraction of the heaviest piece's. Lighter pieces are specks."""
MAX_PIECE_GAP = 0.25
"""Maximum gap between pieces of one digit, as a fraction of the heaviest piece's longer side."""
LINE_ANGLES = np.arange(-20, 20.1, 0.25)
"""Angles of ruled lines that are tried, in degrees from the horizontal."""


class NoDigitError(Exception):
    """Nothing in a picture stands out like a digit."""


@dataclass(frozen=True)
class Written:
    """The ink of a picture."""

    ink: Picture
    """(h, w) the most likely digit, from 0, paper, to 1, ink."""
    contrast: Picture
    """(h, w) everything on the paper, from 0, paper. `ink` was chosen from it."""
    is_drawn: bool
    """Whether a program drew the picture: its grey levels are used as ink unchanged."""


def ink_of(brightness: Picture) -> Picture:
    """The ink of the most likely digit, from 0, paper, to 1. Ink may be darker or lighter than the paper.

    Args:
        brightness: (H, W) floats from 0, black, to 1, white.

    Returns:
        (h, w) floats. A large picture is reduced first.
    Errors: NoDigitError.
    """
    return written_in(brightness).ink


def written_in(brightness: Picture) -> Written:
    """As ink_of(), with the contrast that the digit was chosen from. Errors: NoDigitError."""
    drawn = drawn_ink(brightness)
    if drawn is not None:
        return Written(drawn, drawn, True)
    light = np.log(
        shrunk(brightness, WORKING_SIDE_PX) + LOG_OFFSET
    )  # a logarithm turns the ratio of ink to paper, which light does not change, into a difference
    smooth = ndimage.gaussian_filter(light, max(light.shape) / 400)
    dark, smooth = read_paper(smooth)
    sign = 1 if dark else -1
    contrast = _contrast_of(sign * smooth)
    ink = digit_in(contrast)
    if not is_of_strokes(ink):  # it found the paper, on a table of the ink's tone
        with suppress(NoDigitError):
            other_contrast = _contrast_of(-sign * smooth)
            other = digit_in(other_contrast)
            if is_of_strokes(other):
                contrast, ink = other_contrast, other
    return Written(thickened(ink), contrast, False)


def _contrast_of(light: Picture) -> Picture:
    """Contrast of what is darker than the paper, without frames, edges of objects and ruled lines."""
    return without_lines(_without_strips(without_frames(standing_out(light), MIN_INK_CONTRAST)))


def drawn_ink(brightness: Picture) -> Picture | None:
    """The ink of a picture that a program drew: its paper has exactly one brightness. None for any other picture."""
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
    """How much darker than its surroundings each pixel is: the black top-hat of the picture, from 0.

    A closing fills what is narrower than its structuring element and keeps the edges of shadows in place.
    """
    element = max(3, int(CLOSING_SIZE * min(light.shape)))
    contrast = ndimage.grey_closing(light, size=(element, element), mode="nearest") - light
    result: Picture = np.maximum(contrast - np.median(contrast), 0)
    return result


def without_lines(contrast: Picture) -> Picture:
    """The contrast without ruled lines or squares: straight, thin lines across the whole picture."""
    if min(contrast.shape) < 64:
        return contrast
    power = _spectrum(_fine_structure(shrunk(contrast, 300)))
    contrast = _without_rows(contrast, _line_angle(power))
    return _without_rows(contrast.T, _line_angle(power.T)).T


def _fine_structure(contrast: Picture) -> Picture:
    """What is as narrow as ruled lines (a white top-hat), clipped so that the digit's edges weigh less."""
    element = max(3, int(MAX_LINE_WIDTH * max(contrast.shape)))
    thin = contrast - ndimage.grey_opening(contrast, size=(element, element))
    result: Picture = np.minimum(thin, CLIP * np.percentile(contrast, 99.9))
    return result


def _spectrum(picture: Picture) -> Picture:
    """(SPECTRUM_SIZE, SPECTRUM_SIZE) magnitudes of the 2-D Fourier transform, zero frequency in the middle."""
    window = np.outer(np.hanning(picture.shape[0]), np.hanning(picture.shape[1]))
    power: Picture = np.abs(
        np.fft.fftshift(np.fft.fft2((picture - picture.mean()) * window, (SPECTRUM_SIZE, SPECTRUM_SIZE)))
    )
    return power


def _line_angle(power: Picture) -> float:
    """The angle of nearly horizontal lines, in degrees: the direction in which the spectrum is strongest."""
    radius = np.arange(SPECTRUM_SIZE // 25, SPECTRUM_SIZE // 2 - 8)[None, :]
    angle = np.radians(LINE_ANGLES)[:, None]
    rows, columns = SPECTRUM_SIZE // 2 + radius * np.cos(angle), SPECTRUM_SIZE // 2 - radius * np.sin(angle)
    along = ndimage.map_coordinates(power, [rows, columns], order=1).sum(axis=1)
    return float(LINE_ANGLES[int(along.argmax())])


def _without_rows(contrast: Picture, tilt: float) -> Picture:
    """Remove thin straight lines at an angle of `tilt` degrees from the horizontal."""
    height, width = contrast.shape
    level = ndimage.rotate(contrast, tilt, reshape=False, order=1, mode="constant", cval=np.nan)
    known = np.isfinite(level).sum(axis=1)
    level.sort(axis=1)  # NaN, outside the picture, comes last
    profile = np.where(known > width / 4, level[np.arange(height), (known * LINE_QUANTILE).astype(int)], 0.0)
    thin = profile - ndimage.grey_opening(profile, size=max(3, int(MAX_LINE_WIDTH * max(contrast.shape))))
    thin = ndimage.maximum_filter1d(thin, 3)  # a line's edges lie between two rows
    rows, columns = np.indices(contrast.shape)
    angle = np.radians(tilt)
    middle = (height - 1) / 2, (width - 1) / 2
    place = middle[0] + (rows - middle[0]) * np.cos(angle) - (columns - middle[1]) * np.sin(angle)
    line = np.interp(place, np.arange(height), thin)
    cleared: Picture = np.where(contrast > 1.8 * line, contrast, np.maximum(contrast - 1.3 * line, 0))
    return cleared


def digit_in(contrast: Picture) -> Picture:
    """The ink of the most likely digit: the heaviest piece that the border does not cut, and pieces near it."""
    contrast = uncut(contrast)
    pieces, count = pieces_of(contrast)
    box = _box(contrast, pieces, count)
    margin = max(2, int(0.15 * max(side.stop - side.start for side in box)))
    rows, columns = (slice(max(0, side.start - margin), side.stop + margin) for side in box)
    return inked(contrast[rows, columns])


def uncut(contrast: Picture) -> Picture:
    """The contrast without frames, and without pieces that the border cuts unless little else is left."""
    contrast = without_frames(contrast, MIN_INK_CONTRAST)
    alone = _without_cut_pieces(contrast)
    # otherwise the digit itself is cut, or fills the picture
    return alone if alone.max() >= MIN_UNCUT_CONTRAST * contrast.max() else contrast


def pieces_of(contrast: Picture) -> tuple[NDArray[np.int32], int]:
    """The connected components of strong contrast: (H, W) labels from 1, 0 for paper, and their number.

    Errors: NoDigitError.
    """
    peak = float(np.percentile(contrast, 99.9))
    if peak < MIN_INK_CONTRAST:
        raise NoDigitError
    pieces, count = ndimage.label(contrast > max(0.4 * peak, otsu(contrast)), structure=np.ones((3, 3)))
    if count == 0:
        raise NoDigitError
    return pieces, count


def _without_cut_pieces(contrast: Picture) -> Picture:
    """The contrast without pieces that touch the border, such as a table beside the paper or a shadow's corner."""
    pieces, _ = pieces_of(contrast)
    cut = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    return _without(contrast, pieces, cut[cut > 0])


def _without_strips(contrast: Picture) -> Picture:
    """The contrast without pieces along a whole side of the picture; unchanged if nothing else stands out."""
    pieces, count = pieces_of(contrast)
    sides = (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1])
    along = np.max([np.bincount(side, minlength=count + 1) / side.size for side in sides], axis=0)
    strips = np.flatnonzero(along[1:] > MIN_EDGE_COVERAGE) + 1
    if strips.size == 0:
        return contrast
    inside = _without(contrast, pieces, strips)
    return inside if np.percentile(inside, 99.9) >= MIN_CONTRAST else contrast


def _without(contrast: Picture, pieces: NDArray[np.int32], numbers: NDArray[np.int64]) -> Picture:
    """The contrast without some pieces and their soft edges."""
    gone = ndimage.binary_dilation(np.isin(pieces, numbers), iterations=max(1, max(contrast.shape) // 100))
    result: Picture = np.where(gone, 0.0, contrast)
    return result


def _box(contrast: Picture, pieces: NDArray[np.int32], count: int) -> tuple[slice, slice]:
    """The bounding box of the heaviest piece and of all nearby pieces that are not specks."""
    boxes = ndimage.find_objects(pieces)
    mass = ndimage.sum_labels(contrast, pieces, np.arange(1, count + 1))
    main = int(mass.argmax())
    top, bottom, left, right = _edges(boxes[main])
    reach = MAX_PIECE_GAP * max(bottom - top, right - left)
    for number in np.argsort(-mass):
        if mass[number] < MIN_PIECE_MASS * mass[main]:
            break
        above, below, before, after = _edges(boxes[number])
        apart = max(above - bottom, top - below, before - right, left - after)
        if apart <= reach:
            top, bottom, left, right = min(top, above), max(bottom, below), min(left, before), max(right, after)
    return slice(top, bottom), slice(left, right)


def _edges(box: tuple[slice, slice]) -> tuple[int, int, int, int]:
    return box[0].start, box[0].stop, box[1].start, box[1].stop


def inked(contrast: Picture) -> Picture:
    """Contrast to ink from 0 to 1, by Otsu's threshold, without specks and parts of neighbours."""
    smooth = ndimage.gaussian_filter(contrast, 0.015 * max(contrast.shape))
    level = otsu(smooth)
    inside, outside = smooth[smooth > level], smooth[smooth <= level]
    span = float(inside.mean() - outside.mean()) if inside.size and outside.size else 0.0
    if span <= 0:
        raise NoDigitError
    pieces, count = ndimage.label(smooth > level, structure=np.ones((3, 3)))
    mass = ndimage.sum_labels(smooth, pieces, np.arange(1, count + 1))
    kept = np.flatnonzero(mass >= MIN_PIECE_MASS * mass.max()) + 1
    near = ndimage.binary_dilation(np.isin(pieces, kept), iterations=max(1, round(0.02 * max(contrast.shape))))
    ink = np.clip(0.5 + 2 * (smooth - level) / span, 0, 1)
    result: Picture = np.where(near, ink, 0.0)
    return result


def is_of_strokes(ink: Picture) -> bool:
    """Whether a pen may have drawn it: no stroke is wider than MAX_STROKE_WIDTH."""
    inked = np.pad(ink > 0.5, 1)
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    if rows.size == 0:
        return False
    size = max(np.ptp(rows), np.ptp(columns)) + 1
    return bool(2 * ndimage.distance_transform_edt(inked).max() <= MAX_STROKE_WIDTH * size)


def thickened(ink: Picture) -> Picture:
    """The ink with strokes widened to MIN_STROKE_WIDTH where they are thinner."""
    padded = np.pad(ink, max(1, int(MIN_STROKE_WIDTH * max(ink.shape))))
    rows, columns = np.flatnonzero((padded > 0.5).any(axis=1)), np.flatnonzero((padded > 0.5).any(axis=0))
    if rows.size == 0:
        return ink
    wanted = MIN_STROKE_WIDTH * (max(np.ptp(rows), np.ptp(columns)) + 1)
    depth = ndimage.distance_transform_edt(padded > 0.5)
    ridge = (depth > 0) & (depth >= ndimage.maximum_filter(depth, 3))
    missing = (wanted - (2 * float(np.median(depth[ridge])) - 1)) / 2
    if missing < 0.5:
        return ink
    grown: Picture = np.clip(missing + 1 - ndimage.distance_transform_edt(padded <= 0.5), 0, 1)
    return np.maximum(grown, padded)
