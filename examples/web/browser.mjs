// node browser.mjs MODEL PHOTO [--backend wasm|webgpu] [--target CLASS] [--map map.f32] [--screenshot page.png] [--repeat N] [--camera]
// The page in headless Chromium, as a test sees it: prints JSON with the class, and milliseconds (the least of the repeats).
import { createReadStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values: options, positionals: [model, photo] } = parseArgs({
  allowPositionals: true,
  options: {
    backend: { type: "string", default: "wasm" },
    target: { type: "string", default: "" },
    map: { type: "string" },
    screenshot: { type: "string" },
    repeat: { type: "string", default: "1" },
    camera: { type: "boolean", default: false },
    chromium: { type: "string", default: process.env.CHROMIUM ?? "/usr/bin/chromium" },
  },
});

const KINDS = { ".html": "text/html", ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm" };
const server = createServer((request, response) => {
  const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
  const file = createReadStream(join(import.meta.dirname, path === "/" ? "index.html" : path));
  file.on("open", () => { response.setHeader("Content-Type", KINDS[extname(path)] ?? "text/html"); file.pipe(response); });
  file.on("error", () => { response.statusCode = 404; response.end(); });
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const address = `http://127.0.0.1:${server.address().port}/`;

const args = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
args.push("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream");
if (options.backend === "webgpu") args.push("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan");
else args.push("--disable-gpu");
const browser = await chromium.launch({ executablePath: options.chromium, args });
try {
  const page = await browser.newPage({ viewport: { width: 1000, height: 760 } });
  const elsewhere = [];
  page.on("request", (request) => { if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(address)) elsewhere.push(request.url()); });
  page.on("pageerror", (error) => { console.error(`page: ${error}`); });
  await page.goto(address);
  await page.selectOption("#backend", options.backend);
  await page.fill("#target", options.target);
  const settled = () => page.waitForFunction(() => globalThis.explained || document.getElementById("error").textContent, null, { timeout: options.backend === "webgpu" ? 400_000 : 60_000 });
  await page.setInputFiles("#model", model);
  if (options.camera) await page.click("#camera");
  else await page.setInputFiles("#file", photo);
  await settled();
  const error = await page.textContent("#error");
  if (error) throw new Error(error);
  if (options.camera) await page.waitForTimeout(1000);
  let least = Infinity;
  for (let n = 0; n < Number(options.repeat); n++) {
    least = Math.min(least, await page.evaluate(() => globalThis.explained.times.explain));
    if (n + 1 === Number(options.repeat)) break;
    await page.evaluate(() => { globalThis.explained = null; document.getElementById("target").dispatchEvent(new Event("change")); });
    await settled();
  }
  const { map, ...said } = await page.evaluate(() => { const { top, times, ...rest } = globalThis.explained; return { ...rest, map: Array.from(rest.map) }; });
  if (options.map) await writeFile(options.map, new Uint8Array(Float32Array.from(map).buffer));
  if (options.screenshot) await page.screenshot({ path: options.screenshot });
  console.log(JSON.stringify({ ...said, milliseconds: least, elsewhere }));
} catch (error) {
  console.error(`browser.mjs: ${error.message}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  server.close();
}
