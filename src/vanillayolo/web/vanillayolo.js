// What a picture becomes before an exported network and what its output is after it, as the network's contract says.
// Plain numbers in and out, no document: it runs in a page, a worker and Node.

const VERSION = 1;

/** By task: how a picture becomes an input, how outputs become objects, how these are drawn. Other tasks come here. */
export const TASKS = {
  detect: { prepare: letterbox, read: readBoxes, draw: drawBoxes },
  classify: { prepare: crop, read: readClasses, draw: drawClasses },
};

/** Return the row of a contract's task, or throw an Error, one line, where this module cannot serve the contract. */
export function taskOf(contract) {
  const { input, task, outputs } = contract;
  if (!(contract.contract <= VERSION)) throw new Error(`contract ${contract.contract}: this page reads ${VERSION}; export the page again.`);
  if (!(task in TASKS)) throw new Error(`task ${task}: this page has ${Object.keys(TASKS).join(' and ')}.`);
  if (input.layout !== 'NCHW' || input.shape[0] !== 1 || input.shape[1] !== 3 || !input.shape.every(Boolean))
    throw new Error(`input ${input.layout} ${input.shape}: this page feeds one picture of three colours and a fixed size.`);
  if (contract.decode || (task === 'detect' && outputs[0].unit !== 'pixels of the input'))
    throw new Error(`output in ${outputs[0].unit}: this page reads pixels of the input; export the page again.`);
  return TASKS[task];
}

/** Return the number that Python's round() gives: a half goes to the even one. */
const round = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/**
 * Return, for each of `to` pixels of a line, the first of the `from` that it is made of, and the weights of these:
 * as Pillow has them (antialias), or as OpenCV's bilinear resize, in parts of 2048.
 */
function taps(from, to, antialias) {
  const scale = from / to;
  const reach = antialias ? Math.max(scale, 1) : 1;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const last = Math.min(from, Math.floor(centre + reach + 0.5));
    const weights = Array.from({ length: last - first }, (_, j) => Math.max(0, 1 - Math.abs(first + j + 0.5 - centre) / reach));
    const sum = weights.reduce((a, b) => a + b);
    return { first, weights: weights.map((w) => (antialias ? w / sum : round(Math.fround((2048 * w) / sum)))) };
  });
}

/**
 * Resize a picture bilinearly into a place of an input: planes of red, green and blue from 0 to 1. To the last bit as
 * OpenCV does, or, with antialias, as Pillow: each rounds between the two directions in its own way.
 *
 * @param picture {data, width, height}: RGBA bytes, as ImageData has them.
 * @param size [width, height] that it is resized to; `from` [left, top] is the first pixel of that to be put,
 * @param input {data, width, height}: Float32Array of three planes; `at` [left, top] is where it goes.
 */
function resizeInto(picture, size, from, input, at, antialias) {
  const columns = taps(picture.width, size[0], antialias).slice(from[0], from[0] + input.width - at[0]);
  const rows = taps(picture.height, size[1], antialias).slice(from[1], from[1] + input.height - at[1]);
  const line = 3 * columns.length;
  const wide = new Map(); // rows of the picture at their new width, made when they are first needed
  const widen = (y) => {
    const out = new Float32Array(line);
    const start = 4 * y * picture.width;
    columns.forEach(({ first, weights }, x) => {
      for (let j = 0, p = start + 4 * first; j < weights.length; j++, p += 4) {
        out[3 * x] += weights[j] * picture.data[p];
        out[3 * x + 1] += weights[j] * picture.data[p + 1];
        out[3 * x + 2] += weights[j] * picture.data[p + 2];
      }
    });
    wide.set(y, antialias ? out.map(Math.round) : out);
    return wide.get(y);
  };
  const sum = new Float32Array(line);
  const plane = input.width * input.height;
  rows.forEach(({ first, weights }, y) => {
    sum.fill(0);
    for (let j = 0; j < weights.length; j++) {
      const above = wide.get(first + j) ?? widen(first + j);
      if (antialias) for (let i = 0; i < line; i++) sum[i] += weights[j] * above[i];
      else for (let i = 0; i < line; i++) sum[i] += (weights[j] * (above[i] >> 4)) >> 16;
    }
    wide.delete(first - 1);
    const start = (at[1] + y) * input.width + at[0];
    for (let i = 0, x = start; i < line; i += 3, x++)
      for (let c = 0; c < 3; c++) input.data[c * plane + x] = (antialias ? Math.round(sum[i + c]) : (sum[i + c] + 2) >> 2) / 255;
  });
}

function emptyInput(contract, value) {
  const [, , height, width] = contract.input.shape;
  return { data: new Float32Array(3 * width * height).fill(value), width, height };
}

/** Return a network's input and how its pixels become the picture's: (x - left) / scale. */
export function letterbox(contract, picture) {
  const input = emptyInput(contract, contract.preprocessing.margin / 255);
  const scale = Math.min(input.height / picture.height, input.width / picture.width);
  const size = [round(picture.width * scale), round(picture.height * scale)];
  const [left, top] = [round((input.width - size[0]) / 2 - 0.1), round((input.height - size[1]) / 2 - 0.1)];
  resizeInto(picture, size, [0, 0], input, [left, top], false);
  return { data: input.data, scale, left, top, width: picture.width, height: picture.height };
}

/** Return a classifier's input: the shorter side resized, the centre cropped. */
export function crop(contract, picture) {
  const input = emptyInput(contract, 0);
  const scale = Math.max(input.height / picture.height, input.width / picture.width);
  const size = [Math.max(input.width, Math.floor(picture.width * scale + 1e-6)), Math.max(input.height, Math.floor(picture.height * scale + 1e-6))];
  resizeInto(picture, size, [round((size[0] - input.width) / 2), round((size[1] - input.height) / 2)], input, [0, 0], true);
  return { data: input.data };
}

/** Return the boxes {x1, y1, x2, y2, score, number} in pixels of the input whose score is above `conf`. */
function candidates(contract, { data, dims }, conf) {
  const found = [];
  if (contract.suppression.inside) {
    for (let at = 0; at < data.length; at += dims[2]) {
      const [x1, y1, x2, y2, score, number] = data.subarray(at, at + 6);
      if (score > conf) found.push({ x1, y1, x2, y2, score, number });
    }
    return found;
  }
  const anchors = dims[2];
  const classes = Object.keys(contract.names).length;
  for (let i = 0; i < anchors; i++) {
    let [score, number] = [conf, -1];
    for (let c = 0, at = 4 * anchors + i; c < classes; c++, at += anchors) if (data[at] > score) [score, number] = [data[at], c];
    if (number < 0) continue;
    const [x, y, w, h] = [data[i], data[anchors + i], data[2 * anchors + i] / 2, data[3 * anchors + i] / 2];
    found.push({ x1: x - w, y1: y - h, x2: x + w, y2: y + h, score, number });
  }
  return found.sort((a, b) => b.score - a.score);
}

function overlap(a, b) {
  const width = Math.min(a.x2, b.x2) - Math.max(a.x1, b.x1);
  const height = Math.min(a.y2, b.y2) - Math.max(a.y1, b.y1);
  if (width <= 0 || height <= 0) return 0;
  return (width * height) / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - width * height);
}

/** Return the boxes of which no surer one (of the same class, unless all are as one) covers too much. */
function suppress({ inside, iou, agnostic_nms, max_det }, boxes) {
  if (inside) return boxes;
  const kept = [];
  for (const box of boxes) {
    if (kept.length === max_det) break;
    if (!kept.some((k) => (agnostic_nms || k.number === box.number) && overlap(k, box) > iou)) kept.push(box);
  }
  return kept;
}

/** Return the objects of a detector's outputs, surest first: boxes in pixels of the picture. */
export function readBoxes(contract, outputs, place, conf = contract.suppression.conf) {
  const boxes = suppress(contract.suppression, candidates(contract, outputs[contract.outputs[0].name], conf));
  const across = (x) => Math.min(Math.max((x - place.left) / place.scale, 0), place.width);
  const down = (y) => Math.min(Math.max((y - place.top) / place.scale, 0), place.height);
  return boxes.map((b) => ({
    name: contract.names[b.number], number: b.number, score: b.score,
    box: [across(b.x1), down(b.y1), across(b.x2), down(b.y2)],
  }));
}

/** Return the five likeliest classes of a classifier's outputs. */
export function readClasses(contract, outputs) {
  const scores = Array.from(outputs[contract.outputs[0].name].data);
  const objects = scores.map((score, number) => ({ name: contract.names[number], number, score }));
  return objects.sort((a, b) => b.score - a.score).slice(0, 5);
}

const colour = (number) => `hsl(${(number * 137.5) % 360} 90% 65%)`;

function write(context, text, x, y, size, fill) {
  context.font = `${size}px system-ui, sans-serif`;
  context.fillStyle = fill;
  context.fillRect(x, y, context.measureText(text).width + size / 2, 1.3 * size);
  context.fillStyle = 'black';
  context.fillText(text, x + size / 4, y + size);
}

/** Draw boxes over a picture of the size of the canvas. */
export function drawBoxes(context, objects) {
  const unit = Math.max(context.canvas.width, context.canvas.height) / 640;
  const size = Math.max(10, 14 * unit);
  context.lineWidth = Math.max(1, 2 * unit);
  for (const { name, number, score, box: [x1, y1, x2, y2] } of objects.toReversed()) {
    context.strokeStyle = colour(number);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    write(context, `${name} ${score.toFixed(2)}`, x1, y1 > 1.3 * size ? y1 - 1.3 * size : y1, size, colour(number));
  }
}

/** Write the likeliest classes into the corner of a picture. */
export function drawClasses(context, objects) {
  const size = Math.max(10, (14 * Math.max(context.canvas.width, context.canvas.height)) / 640);
  objects.forEach(({ name, number, score }, i) => write(context, `${name} ${score.toFixed(2)}`, 0, 1.3 * size * i, size, colour(number)));
}
