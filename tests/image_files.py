"""A folder with every kind of image file that people have."""

import io

import numpy as np
from PIL import Image
from pipelines import CHINA
from pipelines import FLOWER

PHOTO = CHINA[100:260, 200:420]
BROKEN = ("cat/empty.jpg", "cat/text.jpg", "dog/truncated.jpg")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
IGNORED = ("cat/notes.txt", "dog/nested/sizes.csv", "README")


def write_image_files(folder):
    """Writes two classes below a folder."""
    files = {**good_files(), **broken_files()}
    files |= dict.fromkeys(IGNORED, b"not an image")
    files["dog/._photo.jpg"] = b"what macOS leaves behind"
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def good_files():
    photo = Image.fromarray(PHOTO)
    rgba = photo.convert("RGBA")
    rgba.putalpha(photo.convert("L"))
    palette = photo.quantize(64)
    sixteen = np.asarray(photo.convert("L")).astype("uint16") * 256 + 20
    files = {
        "cat/bitmap.bmp": encoded(photo, "BMP"),
        "cat/cmyk.jpg": encoded(photo.convert("CMYK"), "JPEG"),
        "cat/gray.jpg": encoded(photo.convert("L"), "JPEG"),
        "cat/palette.png": encoded(palette, "PNG", transparency=3),
        "cat/rgba.png": encoded(rgba, "PNG"),
        "cat/sixteen.png": encoded(Image.fromarray(sixteen), "PNG"),
        "cat/tiny.png": encoded(photo.resize((1, 1)), "PNG"),
        "dog/SHOUTED.JPG": encoded(Image.fromarray(FLOWER[:90, :70]), "JPEG"),
        "dog/animated.gif": encoded(
            palette, "GIF", save_all=True, append_images=[palette.rotate(180)]
        ),
        "dog/nested/deeper/photo.png": encoded(photo, "PNG"),
        "dog/nested/scan.TIFF": encoded(photo, "TIFF"),
        "dog/photo.webp": encoded(photo, "WEBP", quality=90),
        "dog/progressive.jpeg": encoded(photo, "JPEG", progressive=True),
        "dog/über den Wolken 1.jpg": encoded(photo, "JPEG", subsampling=0),
    }
    for number in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = number
        files[f"cat/exif_{number}.jpg"] = encoded(photo, "JPEG", exif=exif)
    return files


def broken_files():
    whole = encoded(Image.fromarray(PHOTO), "JPEG", quality=95)
    contents = (b"", b"This is no image.", whole[: len(whole) // 2])
    return dict(zip(BROKEN, contents))


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
