"""PNG and JPEG files to brightness: depths, transparency, orientation, bombs and what is no picture."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_ff.errors import ConfigError
from mnist_ff.images.image_io import MAX_PIXELS, read_brightness

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
FILE = Path("a.png")


def test_eight_and_sixteen_bits_mean_the_same() -> None:
    Image.fromarray(GREY).save("8.png")
    Image.fromarray(GREY.astype(np.uint16) * 257).save("16.png")
    assert np.allclose(read_brightness(Path("8.png")), GREY / 255)
    assert np.allclose(read_brightness(Path("16.png")), GREY / 255, atol=1e-4)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_every_kind_of_png(mode: str) -> None:
    half = np.where(np.arange(8) < 4, 0, 255).astype(np.uint8)[None, :].repeat(8, axis=0)
    Image.fromarray(half).convert("RGB" if mode == "P" else "L").convert(mode).save(FILE)
    assert np.allclose(read_brightness(FILE), half / 255)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg(mode: str) -> None:
    Image.fromarray(GREY).convert("RGB").convert(mode).save("a.jpg", quality=95)
    assert np.abs(read_brightness(Path("a.jpg")) - GREY / 255).max() < 0.05


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_large_picture_is_read_smaller(name: str) -> None:
    pixels = np.zeros((6000, 3000), dtype=np.uint8)
    pixels[:, 1500:] = 200
    Image.fromarray(pixels).save(name)
    seen = read_brightness(Path(name))
    assert 1280 <= seen.shape[0] < 2560
    assert seen.shape[0] == 2 * seen.shape[1]
    assert seen[100, -100] == pytest.approx(200 / 255, abs=0.01)


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_background_becomes_contrasting_paper(ink: int) -> None:
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[2:5, 2:5] = (ink, ink, ink, 255)
    Image.fromarray(pixels).save(FILE)
    seen = read_brightness(FILE)
    assert seen[3, 3] == ink / 255
    assert seen[0, 0] == 1 - ink / 255


def test_paper_with_transparent_corners_stays_paper() -> None:
    pixels = np.full((20, 20, 4), 230, dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[:3, :3] = 0
    pixels[8:12, 8:12, :3] = 20
    Image.fromarray(pixels).save(FILE)
    seen = read_brightness(FILE)
    assert seen[0, 0] == pytest.approx(230 / 255)
    assert seen[9, 9] == pytest.approx(20 / 255)


def test_a_transparent_colour_of_a_palette() -> None:
    """Black on nothing, as a drawing with two colours is saved."""
    image = Image.new("P", (8, 8), 0)
    image.putpalette([9, 9, 9, 0, 0, 0])
    image.paste(1, (2, 2, 5, 5))
    image.save(FILE, transparency=0)
    seen = read_brightness(FILE)
    assert (seen[3, 3], seen[0, 0]) == (0.0, 1.0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_that_was_turned(orientation: int) -> None:
    """The file holds the picture as the sensor saw it; the note in it says how to turn it back."""
    upright = np.zeros((40, 64), dtype=np.uint8)
    upright[:16, :16] = 255
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose from upright to what the sensor saw
    image = Image.fromarray(upright)
    stored = image if orientation == 1 else image.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[274] = orientation
    stored.save("a.jpg", exif=exif, quality=95)
    seen = read_brightness(Path("a.jpg"))
    assert seen.shape == (40, 64)
    assert np.abs(seen - upright / 255).mean() < 0.02


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int) -> bytes:
    """A small file that says it is large."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [11_000, 60_000])
def test_a_decompression_bomb_is_one_line(side: int) -> None:
    FILE.write_bytes(png(side, side))
    with pytest.raises(ConfigError, match=rf"a\.png: has more than {MAX_PIXELS:,} pixels"):
        read_brightness(FILE)


def test_a_text_bomb_is_one_line() -> None:
    Image.fromarray(GREY).save(FILE)
    whole = FILE.read_bytes()
    text = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(200_000_000)))
    FILE.write_bytes(whole[:33] + text + whole[33:])
    with pytest.raises(ConfigError, match=r"a\.png: cannot be read"):
        read_brightness(FILE)


def gif() -> bytes:
    Image.fromarray(GREY).save("x.gif")
    return Path("x.gif").read_bytes()


def cut() -> bytes:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99), dtype=np.uint8)).save("x.png")
    return Path("x.png").read_bytes()[:2000]


@pytest.mark.parametrize(
    "make", [bytes, gif, cut, lambda: b"hello", lambda: png(5, 5)[:40], lambda: b"\xff\xd8\xff\xe0"]
)
def test_what_is_no_whole_picture_is_one_line(make: object) -> None:
    FILE.write_bytes(make())  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"a\.png: (is not a PNG or JPEG image|cannot be read)") as error:
        read_brightness(FILE)
    assert len(str(error.value).splitlines()) == 1
