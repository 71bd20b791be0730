// Files of images to pixels.

/**
 * Pixels of a file or a bitmap: upright, and in the colors of the file, as
 * `load_image_for` reads them.
 */
export async function decoded(source) {
  let bitmap = source;
  if (source instanceof Blob) {
    try {
      bitmap = await createImageBitmap(source, {
        imageOrientation: "from-image",
        colorSpaceConversion: "none",
        premultiplyAlpha: "none",
      });
    } catch {
      throw new Error("This is no image that the browser can read.");
    }
  }
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  let isClear = false;
  for (let i = 3; i < data.length && !isClear; i += 4) isClear = data[i] < 255;
  return { data, width, height, channels: 4, isClear };
}
