// node ratio.mjs PLAIN.onnx FUSED.cam.onnx... [--rounds N]
// What the map costs in WebAssembly: CPU time of an inference of each file, one thread, taking turns; the least of all rounds.
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import * as ort from "onnxruntime-web";

const { values: { rounds }, positionals: [plain, ...fused] } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "40" } },
});
if (!fused.length) {
  console.error("usage: node ratio.mjs PLAIN.onnx FUSED.cam.onnx... [--rounds N]");
  process.exit(1);
}
ort.env.wasm.numThreads = 1;

async function opened(path) {
  const session = await ort.InferenceSession.create(await readFile(path), { executionProviders: ["wasm"] });
  const feeds = {};
  for (const { name, shape, type } of session.inputMetadata) {
    const dims = shape.map((side) => (typeof side === "number" ? side : 1)); // one image
    const count = dims.reduce((a, b) => a * b, 1);
    feeds[name] = type === "int64" ? new ort.Tensor(BigInt64Array.from({ length: count }, () => -1n), dims)
      : new ort.Tensor(Float32Array.from({ length: count }, (_, i) => Math.sin(i / 50) + Math.sin(i / 7)), dims);
  }
  return async () => {
    const { user: start } = process.cpuUsage();
    await session.run(feeds);
    return (process.cpuUsage().user - start) / 1000;
  };
}

// The plain file twice: how far two equal rows part says how far to trust the others.
const files = [["plain", await opened(plain)], ["plain again", await opened(plain)]];
for (const path of fused) files.push([basename(path), await opened(path)]);
const least = Object.fromEntries(files.map(([name]) => [name, Infinity]));
for (let round = 0; round < Number(rounds) + 2; round++)
  for (const [name, run] of files) {
    const milliseconds = await run();
    if (round >= 2) least[name] = Math.min(least[name], milliseconds);
  }
for (const [name, milliseconds] of Object.entries(least))
  console.log(`${name.padEnd(32)} ${milliseconds.toFixed(1).padStart(7)} ms  ${(milliseconds / least.plain).toFixed(2)}`);
