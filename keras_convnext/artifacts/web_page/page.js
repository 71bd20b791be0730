// What the page shows. The model runs in worker.js.
import { answersOf } from "./answers.js";

const part = (id) => document.getElementById(id);
const FILES = {
  metadata: "keras_convnext.json",
  wasm: "onnxruntime-web.wasm",
  model: "model.onnx",
};
const CROPS = {
  center: "resized by its short side, then the center cropped",
  squash: "both sides resized, then the center cropped",
  border: "resized by its long side, then padded",
};

// The worker, asked by number: answers to an older image are not shown.

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let count = 0;

worker.onmessage = ({ data: { id, result, error } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(result);
  else reject(new Error(error));
};
worker.onerror = () => tell("This browser cannot run the model.", true);

/** What worker.js answers; `transferred` are buffers that it may keep. */
export function ask(task, content, transferred = []) {
  count += 1;
  worker.postMessage({ id: count, task, content }, transferred);
  return new Promise((resolve, reject) => {
    waiting.set(count, { resolve, reject });
  });
}

function tell(text, isWrong = false) {
  part("status").textContent = text;
  part("status").className = isWrong ? "wrong" : "";
}

// Loading

async function fetched(name, advance) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: HTTP status ${response.status}`);
  const total = Number(response.headers.get("Content-Length"));
  const parts = [];
  let length = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    length += value.length;
    if (total) advance(Math.min(length / total, 1));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

let metadata;
const opened = load();

async function load() {
  metadata = await (await fetch(FILES.metadata)).json();
  const { model, weights, license } = metadata;
  document.title = model;
  part("title").textContent = model;
  const facts = [weights, license && `license: ${license}`];
  part("about").textContent = facts.filter(Boolean).join(" · ");
  const wasm = await fetched(FILES.wasm, () => {});
  const bytes = await fetched(FILES.model, (x) => (part("progress").value = x));
  const files = { metadata, wasm, model: bytes };
  const version = await ask("open", files, [wasm.buffer, bytes.buffer]);
  part("versions").textContent =
    `${metadata.producer}, ONNX Runtime Web ${version}`;
  part("progress").hidden = true;
  tell("");
  document.body.classList.add("ready");
}

// One image

let latest = 0;

async function show(source) {
  const own = (latest += 1);
  try {
    await opened;
    tell("Computing …");
    const found = await ask("answer", await source);
    if (own !== latest) return;
    tell("");
    part("result").hidden = false;
    paint(found.picture);
    list(answersOf(found.values, metadata));
    explain(found);
  } catch (error) {
    if (own === latest) tell(error.message, true);
  }
}

function paint({ data, width, height }) {
  const canvas = part("picture");
  Object.assign(canvas, { width, height });
  canvas.className = Math.max(width, height) < 128 ? "tiny" : "";
  const image = new ImageData(width, height);
  for (let i = 0, k = 0; i < data.length; i += 3, k += 4) {
    image.data.set(data.subarray(i, i + 3), k);
    image.data[k + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function element(tag, className, ...content) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...content);
  return made;
}

function list({ rows, note }) {
  part("answers").replaceChildren(...rows.map(row));
  part("note").textContent = note;
}

function row({ name, text, part: share, threshold, isThere, color }) {
  const head = element(
    "div",
    "name",
    element("bdi", "", name),
    element("span", "number", text),
  );
  const item = element("li", isThere ? "there" : "", head);
  if (share === undefined) {
    item.querySelector(".number").classList.add("value");
    return item;
  }
  const bar = element("div", "bar");
  bar.style.width = `${100 * share}%`;
  if (color) bar.style.background = `rgb(${color})`;
  const track = element("div", "track", bar);
  if (threshold !== undefined) {
    const line = element("div", "threshold");
    line.style.left = `${100 * threshold}%`;
    track.append(line);
  }
  item.append(track);
  return item;
}

function explain({ computing, preparing, isClear }) {
  const isSegmenter = metadata.outputs.includes("decode");
  part("seen").textContent =
    (isSegmenter ? seenInWindows() : seenAtOnce()) +
    (isClear ? " Transparent parts may differ from those in Python." : "");
  part("time").textContent =
    `${computing.toFixed(0)} ms for the model, ${preparing.toFixed(0)} ms to ` +
    "read and resize the image.";
}

function seenAtOnce() {
  const { image_size, crop_mode, crop_pct, interpolation } =
    metadata.preprocessing;
  const [height, width] = image_size;
  const crop = crop_pct < 1 ? ` (${crop_pct})` : "";
  return (
    `What the model sees: turned upright; ${CROPS[crop_mode]}${crop}; ` +
    `${width} × ${height} pixels; ${interpolation}.`
  );
}

function seenInWindows() {
  const crop = Math.min(...metadata.preprocessing.image_size);
  return (
    "The classes of all pixels. The model sees the image turned upright; " +
    `resized until its short side has ${crop} pixels; in windows of ` +
    `${crop} × ${crop} pixels.`
  );
}

// Where images come from

function imageIn(items) {
  const file = [...(items?.files ?? [])][0];
  if (file) show(file);
  else tell("There is no image in it.", true);
}

part("file").onchange = ({ target }) => {
  if (target.files.length) imageIn(target);
  target.value = ""; // the same file may be chosen again
};
document.addEventListener("paste", ({ clipboardData }) =>
  imageIn(clipboardData),
);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  imageIn(event.dataTransfer);
});

const video = part("video");

function endCamera() {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  part("live").hidden = true;
}

part("camera").onclick = async () => {
  try {
    if (!navigator.mediaDevices)
      throw new Error("browsers allow it on https:// and localhost alone");
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment" },
    });
    part("live").hidden = false;
    await video.play();
  } catch (error) {
    endCamera();
    tell(`There is no camera: ${error.message}.`, true);
  }
};
part("shoot").onclick = () => {
  const picture = createImageBitmap(video);
  show(picture.finally(endCamera));
};
part("close").onclick = endCamera;

opened.catch((error) => {
  part("progress").hidden = true;
  tell(`The model could not be loaded: ${error.message}`, true);
});
