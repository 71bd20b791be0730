"""OpenCV's resizing: answers saved from it."""

import zlib

import numpy as np
import pytest

from keras_convnext.images import resizing

pytestmark = pytest.mark.once

# By height, width, channels, new height and new width: CRC-32 of the pixels
# that cv2.resize gives for `picture`, with INTER_LINEAR and, of the first
# channel, INTER_NEAREST. Written by `python tests/images/test_resizing.py`
# with opencv-python-headless.
ANSWERS = {
    (6, 8, 3, 6, 8): (729954192, 3088178353),
    (6, 8, 3, 3, 4): (531216023, 1816576691),
    (6, 8, 3, 12, 16): (1568716021, 4148461752),
    (1, 1, 3, 5, 7): (2838520507, 802330670),
    (5, 7, 3, 1, 1): (3271045261, 2366072709),
    (1, 9, 1, 4, 4): (2520417894, 512267409),
    (2, 2, 4, 1, 1): (2861703131, 2366072709),
    (480, 640, 3, 800, 1067): (303604345, 3615898489),
    (427, 640, 3, 480, 719): (4145052565, 2648364769),
    (46, 40, 4, 90, 49): (876243777, 2479177639),
    (69, 16, 3, 61, 49): (2576097030, 1730481994),
    (69, 68, 3, 69, 105): (3891834051, 1753405336),
    (11, 82, 4, 89, 55): (1903661231, 1119346347),
    (34, 85, 4, 79, 49): (2821205371, 547784654),
    (113, 32, 4, 4, 74): (2165448697, 3996860992),
    (13, 72, 3, 86, 5): (3918637118, 1245829556),
    (40, 15, 1, 46, 66): (3648088465, 11288758),
    (37, 77, 4, 8, 53): (3849853377, 4183031061),
    (86, 106, 1, 45, 118): (1711075612, 4143322853),
    (49, 86, 4, 100, 88): (1701442708, 3973732785),
    (10, 48, 3, 56, 91): (4254648341, 3981982584),
    (79, 109, 3, 63, 72): (2136221593, 2353824830),
    (37, 34, 1, 105, 45): (1884537397, 2091245194),
    (49, 87, 1, 85, 23): (3407426396, 1610747647),
    (26, 5, 4, 18, 57): (4048487000, 721946744),
    (88, 23, 3, 85, 32): (843881530, 663768798),
    (25, 95, 3, 96, 91): (3000564339, 995062184),
    (97, 25, 4, 106, 108): (3713420883, 2611442044),
    (98, 62, 1, 37, 34): (1008317833, 966980700),
    (44, 13, 4, 76, 12): (931258997, 2885292329),
    (86, 92, 4, 99, 93): (1966229501, 3147496245),
    (32, 30, 4, 15, 102): (3795099871, 117583154),
    (29, 34, 3, 31, 110): (3008307777, 3983061966),
    (51, 30, 3, 51, 94): (2810508420, 1721715600),
    (39, 24, 4, 102, 68): (38320679, 2736989559),
    (74, 71, 1, 36, 105): (3868528721, 2607043670),
    (77, 92, 1, 41, 48): (3087906646, 2593065343),
    (95, 93, 1, 102, 17): (2187698859, 4091532285),
    (87, 17, 1, 66, 19): (3613812887, 661786984),
    (77, 26, 3, 87, 60): (1070405118, 3927011265),
    (28, 119, 4, 82, 52): (2392532760, 2561398980),
    (116, 116, 1, 113, 107): (3668777941, 3749504152),
    (75, 48, 4, 79, 33): (314075714, 1968830548),
    (72, 14, 1, 115, 10): (1612249780, 833291880),
    (106, 10, 3, 99, 36): (3439853224, 2414045606),
    (88, 27, 3, 13, 11): (1859185706, 156306950),
    (91, 101, 3, 38, 23): (3657071243, 2504615205),
    (62, 48, 3, 92, 53): (2070420279, 436519463),
    (52, 1, 3, 36, 21): (2227781368, 3045537547),
}


def picture(height, width, channels):
    """Noise of all gray levels, in whole numbers alone."""
    x = np.arange(height * width * channels, dtype="uint64")
    x = (x + 12345) * 2654435761 % 2**32
    x = (x ^ (x >> 15)) * 2246822519 % 2**32
    return (x >> 24).astype("uint8").reshape(height, width, channels)


@pytest.mark.parametrize("case", ANSWERS)
def test_pixels_are_those_of_opencv(case):
    image, size = picture(*case[:3]), case[3:]
    linear, nearest = ANSWERS[case]
    resized = resizing.linear(image, *size)
    assert resized.shape == (*size, case[2]) and resized.dtype == "uint8"
    assert zlib.crc32(resized.tobytes()) == linear
    resized = resizing.nearest(image[None, ..., 0], *size)
    assert resized.shape == (1, *size) and resized.dtype == "uint8"
    assert zlib.crc32(resized.tobytes()) == nearest


def test_strips_do_not_show(monkeypatch):
    image = picture(50, 40, 3)
    expected = resizing.linear(image, 71, 33)
    monkeypatch.setattr(resizing, "STRIP", 1)
    np.testing.assert_array_equal(resizing.linear(image, 71, 33), expected)


@pytest.mark.parametrize(
    "image",
    [np.zeros((2, 2, 3)), np.zeros((2, 2), "uint8")]
    + [np.zeros((2, 0, 3), "uint8"), np.zeros((2, 2, 2), "uint8")],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="Received: .* array of shape"):
        resizing.linear(image, 4, 4)


# By mmcv's `rescale_size`, but for the last: there one side would be 0.
@pytest.mark.parametrize(
    "size, expected",
    [((480, 640), (800, 1067)), ((640, 427), (1199, 800))]
    + [((1080, 1920), (750, 1333)), ((1333, 800), (1333, 800))]
    + [((100, 30), (1333, 400)), ((3, 5000), (1, 1333))]
    + [((1, 5000), (1, 1333))],
)
def test_sizes_are_those_of_mmdetection(size, expected):
    assert resizing.fitted_size(*size) == expected
    assert resizing.fitted_size(*size[::-1]) == expected[::-1]


def cases():
    generator = np.random.default_rng(24)
    yield from [(6, 8, 3, 6, 8), (6, 8, 3, 3, 4), (6, 8, 3, 12, 16)]
    yield from [(1, 1, 3, 5, 7), (5, 7, 3, 1, 1), (1, 9, 1, 4, 4)]
    yield from [(2, 2, 4, 1, 1), (480, 640, 3, 800, 1067)]
    yield (427, 640, 3, 480, 719)
    for _ in range(40):
        height, width, *size = generator.integers(1, 120, 4).tolist()
        yield height, width, int(generator.choice((1, 3, 4))), *size


def answer(case):
    import cv2

    image, size = picture(*case[:3]), case[:2:-1]
    linear = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    nearest = cv2.resize(image[..., 0], size, interpolation=cv2.INTER_NEAREST)
    return zlib.crc32(linear.tobytes()), zlib.crc32(nearest.tobytes())


if __name__ == "__main__":
    for case in cases():
        print(f"    {case}: {answer(case)},")
