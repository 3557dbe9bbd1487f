// Works through a page in one headless Chromium and prints what it showed, as JSON. Driven by test_web.py:
//   node browser.mjs {"playwright": ..., "chromium": ..., "url": ..., "isolated": ..., "files": {...}, "shots": FOLDER}
const given = JSON.parse(process.argv[2]);
const { chromium } = await import(given.playwright);

const GPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan,WebGPUService', '--use-vulkan=swiftshader'];
const CAMERA = ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'];
const browser = await chromium.launch({ executablePath: given.chromium, args: ['--no-sandbox', ...GPU, ...CAMERA] });
const context = await browser.newContext({ viewport: { width: 700, height: 900 } });
context.setDefaultTimeout(120000); // a GPU in software on a busy core
const asked = [];
context.on('request', (request) => asked.push(request.url()));

/** Open the page and wait until it is ready or says why not. */
async function open(url, prepare) {
  const page = await context.newPage();
  await prepare?.(page);
  await page.goto(url);
  await page.waitForFunction(() => /ready/.test(document.title + document.getElementById('status').textContent) || document.getElementById('error').textContent);
  return page;
}

const clear = (page) => page.evaluate(() => { for (const id of ['error', 'speed']) document.getElementById(id).textContent = ''; });

/** Give the page a file and return what it then shows. */
async function shown(page, file) {
  await clear(page);
  await page.getByLabel('Picture or video').setInputFiles(file);
  return settled(page);
}

async function settled(page) {
  await page.waitForFunction(() => document.getElementById('error').textContent || document.getElementById('speed').textContent);
  return page.evaluate(() => ({
    error: document.getElementById('error').textContent,
    status: document.getElementById('status').textContent,
    speed: document.getElementById('speed').textContent,
    label: document.getElementById('canvas').getAttribute('aria-label'),
    objects: [...document.querySelectorAll('#objects li')].map(({ dataset: d, textContent }) => (
      { number: +d.number, score: +d.score, box: d.box ? d.box.split(',').map(Number) : null,
        more: d.more ? d.more.split(',').map(Number) : [], text: textContent })),
  }));
}

const wasm = '?backend=wasm';
const page = await open(given.url + wasm); // of the scenarios that need no other
const scenarios = {
  async picture() {
    const seen = await shown(page, given.files.picture);
    await page.screenshot({ path: `${given.shots}/light.png` });
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.screenshot({ path: `${given.shots}/dark.png` });
    return seen;
  },
  async broken() {
    return shown(page, given.files.broken);
  },
  async dropped() {
    await clear(page);
    await page.evaluate(async () => {
      const drawn = new OffscreenCanvas(40, 30);
      drawn.getContext('2d').fillRect(5, 5, 20, 20);
      const data = new DataTransfer();
      data.items.add(new File([await drawn.convertToBlob()], 'drawn.png', { type: 'image/png' }));
      document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    });
    return settled(page);
  },
  async keyboard() {
    const names = [];
    for (let i = 0; i < 3; i++) {
      await page.keyboard.press('Tab');
      names.push(await page.evaluate(() => document.activeElement.id));
    }
    return { names };
  },
  async camera() {
    await clear(page);
    await page.getByRole('button', { name: 'Camera' }).press('Enter');
    const seen = await settled(page);
    await page.getByRole('button', { name: 'Stop' }).press('Enter');
    await page.getByRole('button', { name: 'Camera' }).waitFor();
    return seen;
  },
  async video() {
    const seen = await shown(page, given.files.video);
    await page.getByRole('button', { name: 'Stop' }).click();
    return seen;
  },
  async missing() {
    const page = await open(given.url + wasm, (page) => page.route('**/*.onnx', (route) => route.fulfill({ status: 404 })));
    return { error: await page.textContent('#error'), later: (await shown(page, given.files.picture)).error };
  },
  async threads() {
    const page = await open(`${given.isolated}${wasm}&threads=2`);
    return shown(page, given.files.picture);
  },
  async gpu() {
    const page = await open(`${given.url}?backend=webgpu`, (page) => page.addInitScript(() => {
      const request = globalThis.GPUAdapter?.prototype.requestDevice;
      if (request) GPUAdapter.prototype.requestDevice = async function (...args) { return (globalThis.device = await request.apply(this, args)); };
    }));
    const where = await page.textContent('#status');
    const lost = await page.evaluate(async () => { globalThis.device?.destroy(); return Boolean(globalThis.device); });
    if (lost) await page.waitForFunction(() => document.getElementById('error').textContent);
    const told = await page.textContent('#error');
    return { where, lost, told, ...(await shown(page, given.files.picture)) };
  },
};
const seen = {};
for (const name of given.scenarios ?? Object.keys(scenarios)) seen[name] = await scenarios[name]();
console.log(JSON.stringify({ ...seen, asked }));
await browser.close();
