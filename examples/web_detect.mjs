// Run a picture through a network in Node with the folder of a page and nothing else: its contract, module and library.
//
//     vanillayolo export model=best.pt format=web
//     convert street.jpg street.ppm        # ImageMagick; Node itself reads no JPEG
//     node web_detect.mjs best_web street.ppm [score]
//
// Prints a line for every object: class, score, x1 y1 x2 y2 of a box in pixels of the picture; then x, y and visibility of
// each key point, or how many pixels of the input its mask has. Of a turned box: centre x, y, width, height, angle in radians.
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

function end(line) {
  console.error(line);
  process.exit(2);
}

function read(path) {
  try { return readFileSync(path); } catch { return end(`${path}: not there; give the folder of a page and a picture.`); }
}

/** Import a module of the folder, which has no package.json that says what its .js files are. */
const load = (path) => import(`data:text/javascript,${encodeURIComponent(read(path).toString())}`);

/** Return {data, width, height} of a binary PPM: RGBA bytes, as a browser's ImageData has them. */
function picture(path) {
  const bytes = read(path);
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(bytes.subarray(0, 64).toString('latin1'));
  if (!head || bytes.length < head[0].length + 3 * head[1] * head[2]) end(`${path}: not a binary PPM picture (P6, 255).`);
  const [width, height] = [Number(head[1]), Number(head[2])];
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let i = 0, at = head[0].length; i < data.length; i += 4, at += 3) data.set(bytes.subarray(at, at + 3), i);
  return { data, width, height };
}

const [folder, file, score] = process.argv.slice(2);
if (!file) end('usage: node web_detect.mjs best_web street.ppm [score]');
const contract = JSON.parse(read(`${folder}/contract.json`));
const { taskOf } = await load(`${folder}/vanillayolo.js`);
const ort = await load(`${folder}/ort/wasm.js`);
ort.env.wasm.wasmBinary = gunzipSync(read(`${folder}/ort/wasm.wasm.gz`));
ort.env.wasm.numThreads = 1;
const task = taskOf(contract);
const place = task.prepare(contract, picture(file));
const session = await ort.InferenceSession.create(new Uint8Array(read(`${folder}/${contract.file}`)));
const outputs = await session.run({ [contract.input.name]: new ort.Tensor('float32', place.data, contract.input.shape) });
for (const found of task.read(contract, outputs, place, score === undefined ? undefined : Number(score))) {
  const pixels = found.mask?.data.reduce((sum, inside) => sum + inside, 0);
  const more = [...(found.box ?? []), found.angle ?? [], ...(found.points ?? []), pixels ?? []].flat();
  console.log([found.name, found.score.toFixed(4), ...more.map((x) => x.toFixed(3))].join(' '));
}
