"""The real files, where there is a network: `pytest -m network`.

Logits that Hugging Face's conversion scripts expect of the official files, on
image 000000039769 of COCO val2017 (two cats on a couch), within 1e-3. V1
figures are for the image resized straight to the input, V2 figures for the
official evaluation transform.
"""

import io
import urllib.request

import numpy as np
import pytest
from conftest import predict

import keras_convnext
from keras_convnext.images.transform import load_image

IMAGE = "http://images.cocodataset.org/val2017/000000039769.jpg"
EXPECTED = [
    ("convnext_tiny", "fb_in1k", (-0.1210, -0.6605, 0.1918)),
    ("convnext_small", "fb_in1k", (-0.4473, -0.1847, -0.6365)),
    ("convnext_base", "fb_in1k", (0.4525, 0.7539, 0.0308)),
    ("convnext_base", "fb_in1k_384", (0.3561, 0.6350, -0.0384)),
    ("convnext_large", "fb_in1k", (0.4174, -0.0989, 0.1489)),
    ("convnext_large", "fb_in1k_384", (0.2513, -0.1349, -0.1613)),
    ("convnext_base", "fb_in22k", (1.2980, 0.3631, -0.1198)),
    ("convnext_large", "fb_in22k", (1.2963, 0.1227, 0.1723)),
    ("convnext_xlarge", "fb_in22k", (1.7956, 0.8390, 0.2820)),
    ("convnext_base", "fb_in22k_ft_in1k", (-0.2822, -0.0502, -0.0878)),
    ("convnext_base", "fb_in22k_ft_in1k_384", (-0.5672, -0.0730, -0.4348)),
    ("convnext_large", "fb_in22k_ft_in1k", (0.2681, 0.2365, 0.6246)),
    ("convnext_large", "fb_in22k_ft_in1k_384", (-0.2642, 0.3931, 0.5116)),
    ("convnext_xlarge", "fb_in22k_ft_in1k", (-0.6677, -0.1873, -0.8379)),
    ("convnext_xlarge", "fb_in22k_ft_in1k_384", (-0.7749, -0.2967, -0.6444)),
    ("convnextv2_atto", "fcmae_ft_in1k", (-0.3930, 0.1747, -0.5246)),
    ("convnextv2_femto", "fcmae_ft_in1k", (-0.1727, -0.5341, -0.7818)),
    ("convnextv2_pico", "fcmae_ft_in1k", (-0.0333, 0.1563, -0.9137)),
    ("convnextv2_nano", "fcmae_ft_in1k", (-0.1744, -0.1555, -0.0713)),
    ("convnextv2_tiny", "fcmae_ft_in1k", (0.9996, 0.1966, -0.4386)),
    ("convnextv2_base", "fcmae_ft_in1k", (-0.2553, -0.6708, -0.1359)),
    ("convnextv2_large", "fcmae_ft_in1k", (-0.0673, -0.5627, -0.3753)),
    ("convnextv2_huge", "fcmae_ft_in1k", (-0.6377, -0.7458, -0.2150)),
    ("convnextv2_nano", "fcmae_ft_in22k_in1k", (1.0799, 0.2322, -0.8860)),
    ("convnextv2_nano", "fcmae_ft_in22k_in1k_384", (0.3766, 0.4917, -1.1426)),
    ("convnextv2_tiny", "fcmae_ft_in22k_in1k", (0.4220, -0.6919, -0.4317)),
    ("convnextv2_tiny", "fcmae_ft_in22k_in1k_384", (0.1082, -0.8286, -0.5095)),
    ("convnextv2_base", "fcmae_ft_in22k_in1k", (-0.2419, -0.6221, 0.2176)),
    ("convnextv2_base", "fcmae_ft_in22k_in1k_384", (0.0391, -0.4371, 0.3786)),
    ("convnextv2_large", "fcmae_ft_in22k_in1k", (-0.0504, 0.5636, -0.1729)),
    ("convnextv2_large", "fcmae_ft_in22k_in1k_384", (0.3560, 0.9486, 0.3149)),
    ("convnextv2_huge", "fcmae_ft_in22k_in1k_384", (-0.2469, -0.4550, -0.5853)),
    ("convnextv2_huge", "fcmae_ft_in22k_in1k_512", (-0.3090, 0.0802, -0.0682)),
]


@pytest.fixture(scope="module")
def cats():
    with urllib.request.urlopen(IMAGE, timeout=60) as response:
        return io.BytesIO(response.read()).getvalue()


@pytest.mark.network
@pytest.mark.parametrize("name, tag, expected", EXPECTED)
def test_logits_of_the_published_files(cats, name, tag, expected):
    model = keras_convnext.create_model(
        name, weights=tag, classifier_activation=None
    )
    size = model.preprocessing.image_size
    squash = "v2" not in name or size[0] >= 384
    image = load_image(
        cats,
        size,
        crop_pct=1.0 if squash else 0.875,
        mode="squash" if squash else "center",
    )
    logits = predict(model, image[None].astype("float32"))
    np.testing.assert_allclose(logits[0, :3], expected, atol=1e-3)
