// From what the model returns to rows of the page.

import { colorOf } from "./segmentation.js";

const TOP = 5;
const MOST_AREAS = 12;
const THRESHOLD = 0.5; // of models of many labels without their own

/**
 * Rows with a name, a text, and for scores the part of 1, and a note.
 *
 * `values` are the model's outputs by name, for one image.
 */
export function answersOf(values, metadata) {
  if (values.values) return numbers(values.values, metadata);
  if (values.shares) return areas(values.shares, metadata);
  const isMany = metadata.activation === "sigmoid";
  const scores = values.scores ?? softmax(values.logits);
  const named = [...scores].map((score, i) => ({
    name: metadata.classes?.[i][1] ?? `class ${i}`,
    text: percent(score),
    part: score,
    threshold: isMany ? (metadata.thresholds?.[i] ?? THRESHOLD) : undefined,
  }));
  // As the model has them where they are equal.
  named.sort((a, b) => b.part - a.part);
  if (!isMany) {
    const rows = named.slice(0, TOP);
    rows[0].isThere = true;
    return { rows, note: restOf(named, rows) };
  }
  for (const row of named) row.isThere = row.part >= row.threshold;
  const there = named.filter((x) => x.isThere);
  const others = named.filter((x) => !x.isThere).slice(0, TOP);
  const rows = [...there, ...others];
  const text = there.length
    ? "In bold: labels whose score reaches the line, their threshold."
    : "No label's score reaches the line, its threshold.";
  return { rows, note: `${text} ${restOf(named, rows)}` };
}

function restOf(all, rows) {
  const count = all.length - rows.length;
  return count ? `${count} more with lower scores.` : "";
}

function numbers(values, { classes, units }) {
  const rows = [...values].map((value, i) => {
    const name = classes?.[i][1] ?? `number ${i + 1}`;
    return { name, text: short(value), isThere: true };
  });
  const told = rows.map(
    ({ name }, i) =>
      `${name} ${short(units.mean[i])} ± ${short(units.std[i])}`,
  );
  const note = units
    ? `In the units of the targets. In training: ${told.join(", ")}.`
    : "";
  return { rows, note };
}

// Of a segmenter: the classes that have pixels.
function areas(shares, { classes }) {
  const found = shares
    .map((share, i) => ({
      name: classes[i][1],
      text: percent(share),
      part: share,
      color: colorOf(i),
    }))
    .filter((x) => x.part > 0);
  found.sort((a, b) => b.part - a.part);
  const rows = found.slice(0, MOST_AREAS);
  const count = found.length - rows.length;
  return { rows, note: count ? `${count} more with fewer pixels.` : "" };
}

// Four digits, as text without an exponent where it is short.
function short(value) {
  const rounded = Number(value.toPrecision(4));
  return String(rounded);
}

function percent(score) {
  return `${(100 * score).toFixed(score < 0.001 || score > 0.999 ? 2 : 1)} %`;
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = [...logits].map((x) => Math.exp(x - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / total);
}
