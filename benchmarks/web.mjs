// Times ONNX files in one headless Chromium, in turns: node web.mjs {"playwright", "chromium", "url", "files", "threads", "rounds", "size"}
const given = JSON.parse(process.argv[2]);
const { chromium } = await import(given.playwright);
const browser = await chromium.launch({ executablePath: given.chromium, args: ['--no-sandbox'] });

async function times(threads) {
  const page = await browser.newPage();
  await page.goto(`${given.url}empty.html`);
  const seen = await page.evaluate(async ({ files, rounds, size, threads }) => {
    const ort = await import('/ort/wasm.js');
    const packed = await fetch('/ort/wasm.wasm.gz');
    ort.env.wasm.wasmBinary = new Uint8Array(await new Response(packed.body.pipeThrough(new DecompressionStream('gzip'))).arrayBuffer());
    ort.env.wasm.numThreads = threads;
    const sessions = {};
    for (const file of files) sessions[file] = await ort.InferenceSession.create(`/${file}`, { executionProviders: ['wasm'] });
    const data = Float32Array.from({ length: 3 * size * size }, () => Math.random());
    const taken = Object.fromEntries(files.map((file) => [file, []]));
    for (let round = -5; round < rounds; round++) {
      for (const file of files) {
        const feeds = { images: new ort.Tensor('float32', data, [1, 3, size, size]) };
        const started = performance.now();
        await sessions[file].run(feeds);
        if (round >= 0) taken[file].push(performance.now() - started);
      }
    }
    return taken;
  }, { ...given, threads });
  await page.close();
  return seen;
}

/** Open the page with nothing cached, give it a picture at once, and return ms to the first answer and bytes. */
async function cold() {
  const context = await browser.newContext();
  const page = await context.newPage();
  const sizes = [];
  page.on('requestfinished', (request) => sizes.push(request.sizes().then((s) => [request.url(), s.responseBodySize])));
  const started = Date.now();
  await page.goto(given.page);
  await page.getByLabel('Picture or video').setInputFiles(given.picture);
  await page.waitForFunction(() => document.getElementById('speed').textContent || document.getElementById('error').textContent);
  const ms = Date.now() - started;
  const error = await page.textContent('#error');
  const bytes = Object.fromEntries((await Promise.all(sizes)).map(([url, size]) => [new URL(url).pathname, size]));
  await context.close();
  return { ms, error, bytes };
}

/** Return, by file, the operators that a session for WebGPU leaves to the CPU. */
async function onCpu() {
  const gpu = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan,WebGPUService', '--use-vulkan=swiftshader'];
  const other = await chromium.launch({ executablePath: given.chromium, args: ['--no-sandbox', ...gpu] });
  const page = await other.newPage();
  const left = {};
  for (const file of given.files) {
    await page.goto(`${given.url}empty.html`);
    const lines = [];
    const keep = (message) => lines.push(message.text());
    page.on('console', keep);
    await page.evaluate(async (file) => {
      const ort = await import('/ort/webgpu.js');
      const packed = await fetch('/ort/webgpu.wasm.gz');
      ort.env.wasm.wasmBinary = new Uint8Array(await new Response(packed.body.pipeThrough(new DecompressionStream('gzip'))).arrayBuffer());
      ort.env.logLevel = 'verbose';
      await ort.InferenceSession.create(`/${file}`, { executionProviders: ['webgpu'], logSeverityLevel: 0 });
    }, file);
    page.off('console', keep);
    const from = lines.findIndex((line) => line.includes('placed on [CPUExecutionProvider]'));
    const nodes = from < 0 ? [] : lines.slice(from + 1, lines.findIndex((line, i) => i > from && line.includes('placed on [')));
    left[file] = nodes.map((line) => line.match(/(\w+) \(/)?.[1]).filter(Boolean);
  }
  await other.close();
  return left;
}

const seen = { chromium: browser.version() };
if (given.page) seen.cold = [await cold(), await cold(), await cold()];
if (given.webgpu) seen.on_cpu = await onCpu();
for (const threads of given.threads) seen[threads] = await times(threads);
console.log(JSON.stringify(seen));
await browser.close();
