// What an image goes through before the model: as `load_image_for` and
// `Artifact.run` of keras_convnext do it. Pure functions of numbers.

// As Pillow resizes bytes: weights are whole numbers of 2^-22, and each of the
// two passes ends in bytes.
const BITS = 22;
const HALF = 2 ** (BITS - 1);
const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(1 - Math.abs(x), 0) },
  bicubic: { support: 2, weight: cubic },
};

function cubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// For each new pixel along one axis: where the old ones begin that it is made
// of, how many they are, and their weights, `most` for each.
function weightsOf(size, goal, filter) {
  const scale = size / goal;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  const most = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(goal);
  const counts = new Int32Array(goal);
  const weights = new Int32Array(goal * most);
  for (let i = 0; i < goal; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const end = Math.min(Math.trunc(center + support + 0.5), size);
    const exact = [];
    let total = 0;
    for (let x = start; x < end; x++) {
      exact.push(filter.weight((x - center + 0.5) * (1 / stretch)));
      total += exact[exact.length - 1];
    }
    exact.forEach((value, x) => {
      const whole = (total === 0 ? value : value / total) * 2 ** BITS;
      weights[i * most + x] = Math.trunc(whole + (whole < 0 ? -0.5 : 0.5));
    });
    starts[i] = start;
    counts[i] = end - start;
  }
  return { starts, counts, weights, most };
}

// One pass into a clamped array. Along the axis neighbors are `step` apart and there are `goal`
// pixels; there are `lines` of them, `pitch` apart.
function pass(from, to, axis, goal, lines, step, pitch, newStep, newPitch) {
  const { starts, counts, weights, most } = axis;
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < goal; i++) {
      let place = line * pitch + starts[i] * step;
      let red = HALF, green = HALF, blue = HALF;
      for (let k = i * most, end = k + counts[i]; k < end; k++) {
        const weight = weights[k];
        red += from[place] * weight;
        green += from[place + 1] * weight;
        blue += from[place + 2] * weight;
        place += step;
      }
      const target = line * newPitch + i * newStep;
      to[target] = red >> BITS;
      to[target + 1] = green >> BITS;
      to[target + 2] = blue >> BITS;
    }
  }
}

/** An image in another size, as Pillow's `resize` makes it, to the bit. */
export function resized(image, width, height, interpolation) {
  const filter = FILTERS[interpolation];
  // From 13 on Pillow takes the other way where that leaves less to do.
  const lost = [image.width - width, image.height - height];
  const isTall = lost[1] > 0 && lost[1] > 2 * lost[0];
  const across = (x) => resizedAcross(x, width, filter);
  const down = (x) => resizedDown(x, height, filter);
  return isTall ? across(down(image)) : down(across(image));
}

function resizedAcross(image, width, filter) {
  const { height, channels } = image;
  if (width === image.width) return image;
  const data = new Uint8ClampedArray(width * height * 3);
  const axis = weightsOf(image.width, width, filter);
  const pitch = image.width * channels;
  pass(image.data, data, axis, width, height, channels, pitch, 3, width * 3);
  return { data, width, height, channels: 3 };
}

function resizedDown(image, height, filter) {
  const { width, channels } = image;
  if (height === image.height) return image;
  const data = new Uint8ClampedArray(width * height * 3);
  const axis = weightsOf(image.height, height, filter);
  const step = width * channels;
  pass(image.data, data, axis, height, width, step, channels, width * 3, 3);
  return { data, width, height, channels: 3 };
}

/** Halves to even, as Python's. */
export function round(x) {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

/** Height and width before the crop. */
export function resizedShape(height, width, preprocessing) {
  const { image_size: size, crop_pct: pct, crop_mode: mode } = preprocessing;
  const [goalHeight, goalWidth] = size.map((side) => Math.floor(side / pct));
  if (mode === "squash") return [goalHeight, goalWidth];
  if (mode === "center" && goalHeight === goalWidth) {
    const short = Math.min(height, width);
    return [height, width].map((x) => Math.floor((goalHeight * x) / short));
  }
  const nearest = mode === "center" ? Math.min : Math.max;
  const ratio = nearest(height / goalHeight, width / goalWidth);
  return [height, width].map((side) => Math.max(round(side / ratio), 1));
}

// Where an image begins in the middle of another, along one axis.
function start(length, goal) {
  if (length < goal) return Math.floor((goal - length) / 2);
  return -round((length - goal) / 2);
}

/**
 * The image as the model was evaluated on: resized and cropped.
 *
 * `image` has `data` (bytes, rows first), `width`, `height` and `channels` (3
 * or 4, of which the first three count); the result is RGB.
 */
export function prepared(image, preprocessing) {
  const shape = resizedShape(image.height, image.width, preprocessing);
  const { interpolation, crop_mode: mode, mean } = preprocessing;
  const whole = resized(image, shape[1], shape[0], interpolation);
  const [height, width] = preprocessing.image_size;
  const data = new Uint8Array(height * width * 3);
  if (mode === "border") {
    const fill = mean.map((value) => round(255 * value));
    for (let i = 0; i < data.length; i++) data[i] = fill[i % 3];
  }
  const left = start(whole.width, width);
  const top = start(whole.height, height);
  const from = Math.max(-left, 0);
  const to = Math.min(width - left, whole.width);
  for (let y = Math.max(top, 0); y < Math.min(top + whole.height, height); y++) {
    for (let x = from; x < to; x++) {
      const source = ((y - top) * whole.width + x) * whole.channels;
      const target = (y * width + x + left) * 3;
      for (let c = 0; c < 3; c++) data[target + c] = whole.data[source + c];
    }
  }
  return { data, width, height, channels: 3 };
}

/** RGB of 0–255, rows first, as the model takes it: `[array, shape]`. */
export function asInput(pixels, width, height, metadata) {
  const isFirst = metadata.data_format === "channels_first";
  const isBytes = metadata.input_dtype === "uint8";
  const count = pixels.length;
  const input = new (isBytes ? Uint8Array : Float32Array)(count);
  const scaled = scaling(metadata);
  const plane = count / 3;
  for (let i = 0; i < count; i++) {
    const channel = i % 3;
    const place = isFirst ? channel * plane + (i - channel) / 3 : i;
    input[place] = scaled(pixels[i], channel);
  }
  return [input, isFirst ? [1, 3, height, width] : [1, height, width, 3]];
}

function scaling(metadata) {
  if (metadata.normalizes) return (x) => x;
  const { mean, std } = metadata.preprocessing;
  return (x, channel) => {
    const part = Math.fround(x / 255);
    return (part - (mean[channel] ?? 0)) / (std[channel] ?? 1);
  };
}
