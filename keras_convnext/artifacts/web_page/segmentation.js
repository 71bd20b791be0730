// Every pixel's class, as `segmentation.segment` of keras_convnext finds it.

import { resized, round } from "./pixels.js";

// The long side may have so many crops, the short side one.
const LONG_SIDE = 4;
const SMALLEST = 32;
// Labels of larger images would take minutes, and no screen shows them.
const LARGEST = 1024;
const OPACITY = 0.5;

/** Height and width of an image whose short side has `crop` pixels. */
export function scaledSize(height, width, crop) {
  const long = (LONG_SIDE * crop) / Math.max(height, width);
  const factor = Math.min(long, crop / Math.min(height, width));
  return [height, width].map((side) => Math.trunc(side * factor + 0.5));
}

/** Corners `[top, left]` of windows that cover an image. */
export function windows(height, width, crop, stride) {
  const [tops, lefts] = [height, width].map((length) => {
    const starts = [];
    for (let x = 0; x < length - crop; x += stride) starts.push(x);
    return [...starts, Math.max(length - crop, 0)];
  });
  return tops.flatMap((top) => lefts.map((left) => [top, left]));
}

// For each new pixel along one axis the two old ones, and the part of the
// second: half-pixel centers, not antialiased.
function neighbors(size, goal) {
  const found = [];
  for (let i = 0; i < goal; i++) {
    const center = ((2 * i + 1) * size - goal) / (2 * goal);
    const place = Math.min(Math.max(center, 0), size - 1);
    const first = Math.floor(place);
    found.push([first, Math.min(first + 1, size - 1), place - first]);
  }
  return found;
}

// Calls `take(y, row)` with each row of a map in another height, which is
// still as wide as the map.
function eachRow(map, height, take) {
  const { data, width, channels } = map;
  const pitch = width * channels;
  const row = new Float32Array(pitch);
  neighbors(map.height, height).forEach(([above, below, part], y) => {
    for (let i = 0; i < pitch; i++) {
      const first = data[above * pitch + i];
      row[i] = first + part * (data[below * pitch + i] - first);
    }
    take(y, row);
  });
}

// A map, or an image of which the first three channels count, as floats in
// another size.
function interpolated(map, height, width) {
  const channels = Math.min(map.channels, 3);
  const data = new Float32Array(height * width * channels);
  const columns = neighbors(map.width, width);
  let target = 0;
  eachRow(map, height, (_, row) => {
    for (const [left, right, part] of columns)
      for (let c = 0; c < channels; c++) {
        const first = row[left * map.channels + c];
        const second = row[right * map.channels + c];
        data[target++] = first + part * (second - first);
      }
  });
  return { data, height, width, channels };
}

// The class with the largest logit, for each pixel of another size.
function labelsOf(logits, height, width) {
  const { channels } = logits;
  const labels = new Uint16Array(height * width);
  const columns = neighbors(logits.width, width);
  eachRow(logits, height, (y, row) => {
    columns.forEach(([left, right, part], x) => {
      let best = 0;
      let largest = -Infinity;
      for (let c = 0; c < channels; c++) {
        const first = row[left * channels + c];
        const value = first + part * (row[right * channels + c] - first);
        if (value > largest) [largest, best] = [value, c];
      }
      labels[y * width + x] = best;
    });
  });
  return labels;
}

function cut(view, top, left, height, width) {
  const pitch = width * 3;
  const data = new Float32Array(height * pitch);
  for (let y = 0; y < height; y++) {
    const start = ((top + y) * view.width + left) * 3;
    data.set(view.data.subarray(start, start + pitch), y * pitch);
  }
  return data;
}

/**
 * The class of each pixel, in the size of the image or in that of a screen.
 *
 * `logitsOf(pixels, width, height)` gives those of a window, rows first.
 */
export async function segmented(image, metadata, logitsOf) {
  const crop = Math.min(...metadata.preprocessing.image_size);
  const [height, width] = scaledSize(image.height, image.width, crop);
  if (Math.min(height, width) < SMALLEST)
    throw new Error("The image is too long for its width: cut it.");
  const view = interpolated(image, height, width);
  const [rows, columns] = [Math.min(crop, height), Math.min(crop, width)];
  const channels = metadata.classes.length;
  const data = new Float32Array(height * width * channels);
  const counts = new Float32Array(height * width);
  const stride = Math.max(Math.floor((crop * 2) / 3), 1);
  for (const [top, left] of windows(height, width, crop, stride)) {
    const pixels = cut(view, top, left, rows, columns);
    const logits = await logitsOf(pixels, columns, rows);
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++) {
        const place = (top + y) * width + left + x;
        counts[place] += 1;
        const source = (y * columns + x) * channels;
        for (let c = 0; c < channels; c++)
          data[place * channels + c] += logits[source + c];
      }
  }
  for (let i = 0; i < data.length; i++)
    data[i] /= counts[Math.floor(i / channels)];
  const scale = Math.min(LARGEST / Math.max(image.height, image.width), 1);
  const size = [image.height, image.width].map((x) => Math.round(x * scale));
  const labels = labelsOf({ data, height, width, channels }, ...size);
  return { labels, height: size[0], width: size[1] };
}

/** Red, green and blue of a class, by the bits of its number. */
export function colorOf(number) {
  const color = [0, 0, 0];
  for (let bit = 0; bit < 8; bit++)
    for (let c = 0; c < 3; c++)
      color[c] |= (((number + 1) >> (3 * bit + c)) & 1) << (7 - bit);
  return color;
}

/** The image under the colors of its classes, in the size of the labels. */
export function overlaid(image, { labels, height, width }) {
  const below = resized(image, width, height, "bilinear");
  const data = new Uint8Array(height * width * 3);
  labels.forEach((label, i) => {
    colorOf(label).forEach((color, c) => {
      const pixel = below.data[i * below.channels + c];
      data[i * 3 + c] = round(pixel * (1 - OPACITY) + color * OPACITY);
    });
  });
  return { data, width, height };
}

/** The part of the pixels that each class has. */
export function sharesOf({ labels }, count) {
  const shares = new Array(count).fill(0);
  for (const label of labels) shares[label] += 1;
  return shares.map((x) => x / labels.length);
}
