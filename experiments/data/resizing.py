"""Images brought to one size: the largest square in the middle, resized."""

import numpy as np
from jaxtyping import UInt8


def to_square(
    pixels: UInt8[np.ndarray, "height width channels"], size: int
) -> UInt8[np.ndarray, "size size channels"]:
    """The middle of an image, so that its short side has `size` pixels.

    Each pixel is a mean of the pixels that it covers, with weights that fall linearly
    with the distance (Pillow's bilinear filter), so nothing is aliased. An image of
    this size already is returned as it is.
    """
    height, width, channels = pixels.shape
    if height == width == size:
        return pixels
    from PIL import Image  # `prepare`, which only asks for names, shouldn't wait for it

    short = min(height, width)
    left, top = (width - short) / 2, (height - short) / 2
    box = left, top, left + short, top + short
    resized = [
        Image.fromarray(pixels[..., channel]).resize(
            (size, size), Image.Resampling.BILINEAR, box
        )
        for channel in range(channels)
    ]
    return np.stack([np.asarray(channel) for channel in resized], axis=-1)
