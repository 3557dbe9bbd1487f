// The page: opens the network of its folder, feeds it pictures, videos and the camera, shows what is found and how fast.
import { taskOf } from './vanillayolo.js';

const $ = (id) => document.getElementById(id);
const wanted = new URLSearchParams(location.search); // ?backend=wasm|webgpu&threads=N
const state = { times: [], told: 0 };
const canvas = $('canvas');
const context = canvas.getContext('2d', { willReadFrequently: true, alpha: false });

const fail = (error) => { $('error').textContent = error.message ?? String(error); };
const guarded = (work) => async (...given) => {
  try { $('error').textContent = ''; await work(...given); } catch (error) { fail(error); }
};

/** Return a file of the folder; gzip is opened here, so that it is small over the wire from any server. */
async function load(name) {
  const answer = await fetch(name).catch((error) => { throw new Error(`${name}: not reached (${error.message}); is the server running?`); });
  if (!answer.ok) throw new Error(`${name}: missing (${answer.status}); put the whole folder that the export wrote on the server.`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer());
}

/** Open the network in the browser's GPU or in WebAssembly. */
async function open(backend) {
  const { contract } = state;
  const [ort, binary, model] = await Promise.all([import(`./ort/${backend}.js`), load(`ort/${backend}.wasm.gz`), state.model]);
  const most = Number(wanted.get('threads')) || Math.min(4, navigator.hardwareConcurrency);
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? most : 1; // threads share memory
  const session = await ort.InferenceSession.create(model, { executionProviders: [backend] }).catch((error) => {
    throw new Error(`${contract.file}: does not open in ${backend} (${String(error.message).split('\n')[0]}); export it again.`);
  });
  const never = new Promise(() => {});
  const device = backend === 'webgpu' ? await ort.env.webgpu.device : { lost: never };
  const lost = device.lost.then(({ reason }) => { throw new Error(`The GPU was lost (${reason})`); });
  lost.catch((error) => toWasm(error.message));
  const threads = ort.env.wasm.numThreads;
  state.backend = backend;
  state.where = backend === 'webgpu' ? 'WebGPU' : `WebAssembly, ${threads} thread${threads > 1 ? 's' : ''}`;
  state.run = (data) => Promise.race([lost, session.run({ [contract.input.name]: new ort.Tensor('float32', data, contract.input.shape) })]);
}

/** Say why the GPU is left, once, and open the network in WebAssembly. */
function toWasm(reason) {
  if (!state.left) fail(`${reason}; going on in WebAssembly.`);
  state.left ??= state.opening = open('wasm');
  return state.left;
}

async function start() {
  state.contract = JSON.parse(new TextDecoder().decode(await load('contract.json')));
  const { contract } = state;
  state.task = taskOf(contract);
  document.title = $('status').textContent = `${contract.file}: opening`;
  state.model = load(contract.file);
  $('level').hidden = !contract.suppression || contract.suppression.inside;
  $('conf').value = contract.suppression?.conf ?? 0;
  const backend = wanted.get('backend');
  const adapter = backend === 'wasm' ? null : await navigator.gpu?.requestAdapter().catch(() => null);
  if (backend === 'webgpu' && !adapter) throw new Error('This browser has no WebGPU here; leave out ?backend=webgpu.');
  const software = adapter?.info?.isFallbackAdapter; // slower than WebAssembly
  if (adapter && (backend || !software)) await open('webgpu').catch((error) => toWasm(error.message));
  else await open('wasm');
  document.title = contract.file;
  say(`${contract.file} is ready (${state.where}).`);
}

const say = (text) => { $('status').textContent = text; state.told = performance.now(); };
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Show frames a second and the step that takes longest, over the last 30 pictures. */
function showSpeed(times) {
  state.times = [...state.times, times].slice(-30);
  const steps = Object.keys(times).map((name) => [name, median(state.times.map((t) => t[name]))]);
  const [slowest, most] = steps.reduce((a, b) => (b[1] > a[1] ? b : a));
  const all = steps.reduce((sum, step) => sum + step[1], 0);
  $('speed').textContent = `${(1000 / all).toFixed(1)} frames a second; slowest: ${slowest}, ${most.toFixed(1)} ms (${state.where})`;
  $('speed').dataset.ms = JSON.stringify(Object.fromEntries(steps));
}

/** Say what was found in words: a list, the canvas's label, and the status; of a stream no more often than each two seconds. */
function tell(objects) {
  const counts = new Map();
  for (const { name } of objects) counts.set(name, (counts.get(name) ?? 0) + 1);
  const words = [...counts].map(([name, count]) => (objects[0].box ? `${count} ${name}` : name)).join(', ') || 'nothing found';
  $('objects').replaceChildren(...objects.map(({ name, number, score, box, angle, points, mask }) => {
    const item = document.createElement('li');
    const more = [box && `at ${box.map(Math.round).join(', ')}`, angle !== undefined && `turned by ${Math.round((angle * 180) / Math.PI)} degrees`];
    if (points) more.push(`key points ${points.map(([x, y]) => `${Math.round(x)}, ${Math.round(y)}`).join('; ')}`);
    const pixels = mask?.data.reduce((sum, inside) => sum + inside, 0);
    item.textContent = [`${name}, score ${score.toFixed(2)}`, ...more].filter(Boolean).join(', ');
    Object.assign(item.dataset, { number, score, box: box ?? '', more: [angle ?? [], ...(points ?? []), pixels ?? []].flat() });
    return item;
  }));
  canvas.setAttribute('aria-label', words);
  if (!state.video || performance.now() - state.told > 2000) say(words);
}

let last = Promise.resolve();
/** Find the objects of one picture (anything that a canvas draws) and show them, after those before it. */
const process = (source) => { last = last.catch(() => {}).then(() => processOne(source)); return last; };

async function processOne(source) {
  await state.opening;
  const { contract, task } = state;
  const marks = [performance.now()];
  const [width, height] = [source.videoWidth || source.width, source.videoHeight || source.height];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  context.drawImage(source, 0, 0);
  const place = task.prepare(contract, context.getImageData(0, 0, width, height));
  marks.push(performance.now());
  const outputs = await state.run(place.data).catch((error) => {
    if (state.backend !== 'webgpu') throw error;
    return toWasm(error.message).then(() => state.run(place.data));
  });
  marks.push(performance.now());
  const objects = task.read(contract, outputs, place, Number($('conf').value));
  marks.push(performance.now());
  task.draw(context, objects);
  marks.push(performance.now());
  showSpeed(Object.fromEntries(['preparing', 'the network', 'reading its output', 'drawing'].map((name, i) => [name, marks[i + 1] - marks[i]])));
  tell(objects);
}

function stop() {
  state.video?.srcObject?.getTracks().forEach((track) => track.stop());
  state.video?.pause();
  URL.revokeObjectURL(state.video?.src);
  state.video = undefined;
  state.times = [];
  $('camera').textContent = 'Camera';
}

/** Run on a video or a camera until another source is chosen. */
async function play(settings, refuse) {
  const video = Object.assign(document.createElement('video'), { muted: true, playsInline: true, loop: true, ...settings });
  await video.play().catch(refuse);
  stop();
  state.video = video;
  $('camera').textContent = 'Stop';
  while (state.video === video) {
    await process(video);
    await new Promise(requestAnimationFrame);
  }
}

const show = guarded(async (file) => {
  const refuse = () => { throw new Error(`${file.name}: not a readable picture or video; choose one that this browser shows (JPEG, PNG, WebP, MP4).`); };
  if (file.type.startsWith('video/')) return play({ src: URL.createObjectURL(file) }, refuse);
  const picture = await createImageBitmap(file, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' }).catch(refuse);
  stop();
  state.shown = picture;
  await process(picture);
});

$('file').addEventListener('change', ({ target }) => { if (target.files[0]) show(target.files[0]).then(() => { target.value = ''; }); });
$('camera').addEventListener('click', guarded(async () => {
  if (state.video) return stop();
  if (!navigator.mediaDevices) throw new Error('Camera: browsers give it to https and localhost only.');
  const refuse = (error) => { throw new Error(`Camera: not given (${error.message}); allow it in the browser.`); };
  await play({ srcObject: await navigator.mediaDevices.getUserMedia({ video: true }).catch(refuse) }, refuse);
}));
$('conf').addEventListener('change', guarded(async () => { if (state.shown && !state.video) await process(state.shown); }));
for (const type of ['dragover', 'dragleave', 'drop']) document.addEventListener(type, (event) => {
  event.preventDefault();
  $('drop').classList.toggle('over', type === 'dragover');
  if (type === 'drop' && event.dataTransfer.files[0]) show(event.dataTransfer.files[0]);
});

$('error').textContent = '';
state.opening = start();
state.opening.catch(fail);
