// What a picture becomes before an exported network and what its output is after it, as the network's contract says.
// Plain numbers in and out, no document: it runs in a page, a worker and Node.

const VERSION = 1;

/** By task: how a picture becomes an input, how outputs become objects, how these are drawn. Other tasks come here. */
export const TASKS = {
  detect: { prepare: letterbox, read: readBoxes, draw: drawObjects },
  segment: { prepare: letterbox, read: readMasks, draw: drawObjects },
  pose: { prepare: letterbox, read: readPoints, draw: drawObjects },
  obb: { prepare: letterbox, read: readTurned, draw: drawObjects },
  classify: { prepare: crop, read: readClasses, draw: drawClasses },
};

/** Return the row of a contract's task, or throw an Error, one line, where this module cannot serve the contract. */
export function taskOf(contract) {
  const { input, task, outputs } = contract;
  if (!(contract.contract <= VERSION)) throw new Error(`contract ${contract.contract}: this page reads ${VERSION}; export the page again.`);
  if (!(task in TASKS)) throw new Error(`task ${task}: this page has ${Object.keys(TASKS).join(', ')}.`);
  if (input.layout !== 'NCHW' || input.shape[0] !== 1 || input.shape[1] !== 3 || !input.shape.every(Boolean))
    throw new Error(`input ${input.layout} ${input.shape}: this page feeds one picture of three colours and a fixed size.`);
  if (contract.decode || (task !== 'classify' && outputs[0].unit !== 'pixels of the input'))
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

/**
 * Return what has a score above `conf`, surest first: {four, score, number, more}: the numbers of the box as the output
 * has them, and what stands behind box and scores.
 */
function candidates(contract, { data, dims }, conf) {
  const found = [];
  if (contract.suppression.inside) {
    for (let at = 0; at < data.length; at += dims[2]) {
      const [a, b, c, d, score, number, ...more] = data.subarray(at, at + dims[2]);
      if (score > conf) found.push({ four: [a, b, c, d], score, number, more });
    }
    return found;
  }
  const [, rows, anchors] = dims;
  const classes = Object.keys(contract.names).length;
  for (let i = 0; i < anchors; i++) {
    let [score, number] = [conf, -1];
    for (let c = 0, at = 4 * anchors + i; c < classes; c++, at += anchors) if (data[at] > score) [score, number] = [data[at], c];
    if (number < 0) continue;
    const column = (from, to) => Array.from({ length: to - from }, (_, row) => data[(from + row) * anchors + i]);
    found.push({ four: column(0, 4), score, number, more: column(4 + classes, rows) });
  }
  return found.sort((a, b) => b.score - a.score);
}

/** Return the same with the corners {x1, y1, x2, y2} of their boxes, in pixels of the input. */
function upright(contract, found) {
  return found.map(({ four: [x, y, w, h], ...rest }) => (contract.suppression.inside
    ? { x1: x, y1: y, x2: w, y2: h, ...rest } : { x1: x - w / 2, y1: y - h / 2, x2: x + w / 2, y2: y + h / 2, ...rest }));
}

function overlap(a, b) {
  const width = Math.min(a.x2, b.x2) - Math.max(a.x1, b.x1);
  const height = Math.min(a.y2, b.y2) - Math.max(a.y1, b.y1);
  if (width <= 0 || height <= 0) return 0;
  return (width * height) / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - width * height);
}

/** Return how two turned boxes overlap as Gaussians (arXiv 2106.06072), which is what Ultralytics suppresses by. */
function overlapTurned(p, q) {
  const spread = ({ w, h, angle }) => {
    const [a, b, cos, sin] = [w ** 2 / 12, h ** 2 / 12, Math.cos(angle), Math.sin(angle)];
    return [a * cos ** 2 + b * sin ** 2, a * sin ** 2 + b * cos ** 2, (a - b) * cos * sin];
  };
  const [a1, b1, c1] = spread(p);
  const [a2, b2, c2] = spread(q);
  const [a, b, c, dx, dy] = [a1 + a2, b1 + b2, c1 + c2, p.x - q.x, p.y - q.y];
  const [eps, whole] = [1e-7, a * b - c ** 2];
  const own = Math.sqrt(Math.max(a1 * b1 - c1 ** 2, 0) * Math.max(a2 * b2 - c2 ** 2, 0));
  const apart = (0.25 * (a * dy ** 2 + b * dx ** 2) - 0.5 * c * dx * dy) / (whole + eps) + 0.5 * Math.log(whole / (4 * own + eps) + eps);
  return 1 - Math.sqrt(1 - Math.exp(-Math.min(Math.max(apart, eps), 100)) + eps);
}

/**
 * Return the boxes of which no surer one (of the same class, unless all are as one) covers too much: none that is kept,
 * or, as Ultralytics has it for turned boxes, none at all.
 */
function suppress({ inside, iou, agnostic_nms, max_det }, boxes, covers = overlap) {
  if (inside) return boxes;
  const kept = [];
  boxes.forEach((box, i) => {
    const rivals = covers === overlap ? kept : boxes.slice(0, i);
    if (kept.length < max_det && !rivals.some((k) => (agnostic_nms || k.number === box.number) && covers(k, box) > iou)) kept.push(box);
  });
  return kept;
}

const across = (place, x) => Math.min(Math.max((x - place.left) / place.scale, 0), place.width);
const down = (place, y) => Math.min(Math.max((y - place.top) / place.scale, 0), place.height);

/** Return a box of the input as an object: in pixels of the picture. */
const objectOf = (contract, place, { score, number, x1, y1, x2, y2 }) => ({
  name: contract.names[number], number, score, box: [across(place, x1), down(place, y1), across(place, x2), down(place, y2)],
});

/** Return the boxes of the outputs that stand alone, in pixels of the input. */
function chosen(contract, outputs, conf) {
  return suppress(contract.suppression, upright(contract, candidates(contract, outputs[contract.outputs[0].name], conf)));
}

/** Return the objects of a detector's outputs, surest first: boxes in pixels of the picture. */
export function readBoxes(contract, outputs, place, conf = contract.suppression.conf) {
  return chosen(contract, outputs, conf).map((box) => objectOf(contract, place, box));
}

/** Return the same with the key points of each object: [x, y, how visible] in pixels of the picture. */
export function readPoints(contract, outputs, place, conf = contract.suppression.conf) {
  const [number, values] = contract.key_points;
  return chosen(contract, outputs, conf).map((box) => ({
    ...objectOf(contract, place, box),
    points: Array.from({ length: number }, (_, k) => {
      const [x, y, visible = 1] = box.more.slice(k * values, (k + 1) * values);
      return [across(place, x), down(place, y), visible];
    }),
  }));
}

/** Return turned boxes: box [centre x, centre y, width, height] and angle, and the four corners, in pixels of the picture. */
export function readTurned(contract, outputs, place, conf = contract.suppression.conf) {
  const found = candidates(contract, outputs[contract.outputs[0].name], conf)
    .map(({ four: [x, y, w, h], more: [angle], ...rest }) => ({ x, y, w, h, angle, ...rest }));
  return suppress(contract.suppression, found, overlapTurned).map(({ number, score, angle, ...b }) => {
    const [x, y, w, h] = [(b.x - place.left) / place.scale, (b.y - place.top) / place.scale, b.w / place.scale, b.h / place.scale];
    const along = [(w / 2) * Math.cos(angle), (w / 2) * Math.sin(angle)];
    const aside = [(-h / 2) * Math.sin(angle), (h / 2) * Math.cos(angle)];
    const corners = [[1, 1], [1, -1], [-1, -1], [-1, 1]].map(([i, j]) => [x + i * along[0] + j * aside[0], y + i * along[1] + j * aside[1]]);
    return { name: contract.names[number], number, score, box: [x, y, w, h], angle, corners };
  });
}

/** Return the places of the input's pixels `from` to `to` between the `cells` of a map that covers its `length`. */
function between(from, to, cells, length) {
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => {
    const at = Math.max(0, ((from + i + 0.5) * cells) / length - 0.5);
    const low = Math.min(Math.floor(at), cells - 1);
    return { low, high: Math.min(low + 1, cells - 1), share: at - low };
  });
}

/**
 * Return the mask of a box: {left, top, width, height, data} in pixels of the input, 1 where the prototypes `[channels, rows,
 * columns]`, weighted by the box's coefficients and enlarged bilinearly, are above 0.
 */
function maskOf({ x1, y1, x2, y2, more }, { data, dims }, input) {
  const [, channels, rows, columns] = dims;
  const [, , height, width] = input.shape;
  const [left, top] = [Math.max(0, Math.ceil(x1)), Math.max(0, Math.ceil(y1))];
  const across = between(left, Math.min(width, Math.ceil(x2)), columns, width);
  const down = between(top, Math.min(height, Math.ceil(y2)), rows, height);
  const mask = new Uint8Array(across.length * down.length);
  const small = new Float32Array(rows * columns).fill(NaN); // the map's cells, computed when they are first needed
  const cell = (row, column) => {
    const at = row * columns + column;
    if (Number.isNaN(small[at])) {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += more[c] * data[c * rows * columns + at];
      small[at] = sum;
    }
    return small[at];
  };
  down.forEach((y, i) => across.forEach((x, j) => {
    const upper = cell(y.low, x.low) * (1 - x.share) + cell(y.low, x.high) * x.share;
    const lower = cell(y.high, x.low) * (1 - x.share) + cell(y.high, x.high) * x.share;
    mask[i * across.length + j] = upper * (1 - y.share) + lower * y.share > 0 ? 1 : 0;
  }));
  return { left, top, width: across.length, height: down.length, data: mask };
}

/** Return objects with masks, in pixels of the input, and the place of each in the picture; one without a pixel is none. */
export function readMasks(contract, outputs, place, conf = contract.suppression.conf) {
  const prototypes = outputs[contract.outputs[1].name];
  return chosen(contract, outputs, conf).map((box) => {
    const mask = maskOf(box, prototypes, contract.input);
    const region = [(mask.left - place.left) / place.scale, (mask.top - place.top) / place.scale, mask.width / place.scale, mask.height / place.scale];
    return { ...objectOf(contract, place, box), mask, region };
  }).filter(({ mask }) => mask.data.includes(1));
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

/** Return a mask as a picture of one colour, clear where the mask is 0. */
function painted({ width, height, data }, [red, green, blue]) {
  const image = new ImageData(width, height);
  data.forEach((inside, i) => { if (inside) image.data.set([red, green, blue, 115], 4 * i); });
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}

/** Return the red, green and blue of a colour of the canvas. */
function numbers(context, fill) {
  context.fillStyle = fill;
  return [1, 3, 5].map((at) => parseInt(context.fillStyle.slice(at, at + 2), 16));
}

/** Draw boxes, masks, key points and turned boxes, whichever the objects have, over a picture of the canvas's size. */
export function drawObjects(context, objects) {
  const unit = Math.max(context.canvas.width, context.canvas.height) / 640;
  const size = Math.max(10, 14 * unit);
  context.lineWidth = Math.max(1, 2 * unit);
  for (const { name, number, score, box, mask, region, points, corners } of objects.toReversed()) {
    const own = colour(number);
    context.strokeStyle = own;
    if (mask) context.drawImage(painted(mask, numbers(context, own)), ...region);
    const around = corners ?? [[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]]];
    context.beginPath();
    around.forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    context.stroke();
    points?.filter(([, , visible]) => visible > 0.25).forEach(([x, y], k) => {
      context.beginPath();
      context.arc(x, y, Math.max(2, 4 * unit), 0, 2 * Math.PI);
      context.fillStyle = colour(number + 7 * (k + 1));
      context.fill();
    });
    const [x, y] = around.reduce((a, b) => (b[1] < a[1] ? b : a));
    write(context, `${name} ${score.toFixed(2)}`, x, y > 1.3 * size ? y - 1.3 * size : y, size, own);
  }
}

/** Write the likeliest classes into the corner of a picture. */
export function drawClasses(context, objects) {
  const size = Math.max(10, (14 * Math.max(context.canvas.width, context.canvas.height)) / 640);
  objects.forEach(({ name, number, score }, i) => write(context, `${name} ${score.toFixed(2)}`, 0, 1.3 * size * i, size, colour(number)));
}
