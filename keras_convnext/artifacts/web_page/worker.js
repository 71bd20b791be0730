// Reads images and runs the model, aside from the page, which stays awake.
import * as ort from "./onnxruntime-web.js";
import { asInput, prepared } from "./pixels.js";
import { decoded } from "./reading.js";
import { overlaid, segmented, sharesOf } from "./segmentation.js";

let metadata, session;

const tasks = { open, answer };

self.onmessage = async ({ data: { id, task, content } }) => {
  try {
    self.postMessage({ id, result: await tasks[task](content) });
  } catch (error) {
    self.postMessage({ id, error: error.message ?? String(error) });
  }
};

async function open(content) {
  metadata = content.metadata;
  // More threads need headers that a plain server does not send.
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = content.wasm;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(content.model, {
    executionProviders: ["wasm"],
  });
  return ort.env.versions.web;
}

async function answer(source) {
  const start = performance.now();
  const image = await decoded(source);
  const task = metadata.outputs.includes("decode") ? segments : classes;
  const found = await task(image);
  const all = performance.now() - start;
  return { ...found, isClear: image.isClear, preparing: all - found.computing };
}

async function classes(image) {
  const picture = prepared(image, metadata.preprocessing);
  const { data, width, height } = picture;
  const { values, computing } = await run(data, width, height);
  return { values, computing, picture };
}

async function segments(image) {
  let computing = 0;
  const found = await segmented(image, metadata, async (...window) => {
    const part = await run(...window);
    computing += part.computing;
    return part.values.decode;
  });
  const shares = sharesOf(found, metadata.classes.length);
  return { values: { shares }, computing, picture: overlaid(image, found) };
}

// The outputs for pixels of 0–255, by name, and the milliseconds.
async function run(pixels, width, height) {
  const [input, shape] = asInput(pixels, width, height, metadata);
  const start = performance.now();
  const image = new ort.Tensor(metadata.input_dtype, input, shape);
  const outputs = await session.run({ image });
  const computing = performance.now() - start;
  const values = {};
  for (const name of metadata.outputs) {
    values[name] = outputs[name].data;
    if (!values[name].every(Number.isFinite))
      throw new Error("The model returned values that are no numbers.");
  }
  return { values, computing };
}
