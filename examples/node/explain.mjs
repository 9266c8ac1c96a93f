// node explain.mjs MODEL.fused.cam.onnx PHOTO [--target CLASS] [--output overlay.png] [--map map.f32] [--json]
// One inference gives the prediction and the finished heatmap: ONNX Runtime, and nothing of cfcam's.
import { readFile, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import * as ort from "onnxruntime-node";
import protobuf from "protobufjs/minimal.js";
import sharp from "sharp";
import { box, classOf, coloured, explain, prepare, readSpec } from "../web/camspec.mjs";

const USAGE = "usage: node explain.mjs MODEL.fused.cam.onnx PHOTO [--target CLASS] [--output overlay.png] [--map map.f32] [--json]";

async function main() {
  const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      target: { type: "string", short: "t", default: "" },
      output: { type: "string", short: "o", default: "overlay.png" },
      map: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (options.help) { console.log(USAGE); return; }
  if (positionals.length !== 2) throw new Error(USAGE);
  const [model, photo] = positionals;

  const bytes = await readFile(model);
  const spec = readSpec(protobuf, bytes);
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: Number(process.env.OMP_NUM_THREADS) || 0 });

  // Upright, without transparency, three channels: what the model's description starts from.
  const upright = sharp(await readFile(photo)).autoOrient().toColourspace("srgb").removeAlpha();
  const { data, info } = await upright.raw().toBuffer({ resolveWithObject: true });
  const prepared = prepare(data, info.width, info.height, info.channels, spec);
  const found = await explain(ort, session, spec, prepared, classOf(options.target, spec));

  if (options.map) await writeFile(options.map, new Uint8Array(found.map.buffer, found.map.byteOffset, found.map.byteLength));
  if (options.json) {
    const { map, size, ...said } = found;
    console.log(JSON.stringify(said));
  } else {
    const percent = (p) => `${(p * 100).toFixed(1)} %`;
    console.log(`${found.label}: ${found.probability === null ? found.value.toPrecision(4) : percent(found.probability)}`);
    for (const [, label, p] of found.top) console.log(`  ${percent(p).padStart(7)}  ${label}`);
    if (found.empty) console.log("The map is empty: nothing speaks for this class.");
  }
  await overlay(data, info, found, box(prepared.frame)).toFile(options.output);
  if (!options.json) console.log(`wrote ${options.output}`);
}

/** The photo with the map where the model looked; what sticks out of the photo was padding. */
function overlay(data, { width, height, channels }, { map, size: [rows, columns] }, [x0, y0, x1, y1]) {
  const [left, top] = [Math.max(0, Math.round(x0 * width)), Math.max(0, Math.round(y0 * height))];
  const [right, bottom] = [Math.min(width, Math.round(x1 * width)), Math.min(height, Math.round(y1 * height))];
  const seen = { // in cells of the map
    left: Math.round(((Math.max(0, x0) - x0) / (x1 - x0)) * columns),
    top: Math.round(((Math.max(0, y0) - y0) / (y1 - y0)) * rows),
    width: Math.max(1, Math.round(((Math.min(1, x1) - Math.max(0, x0)) / (x1 - x0)) * columns)),
    height: Math.max(1, Math.round(((Math.min(1, y1) - Math.max(0, y0)) / (y1 - y0)) * rows)),
  };
  const heat = sharp(coloured(map), { raw: { width: columns, height: rows, channels: 4 } })
    .extract(seen)
    .resize(Math.max(1, right - left), Math.max(1, bottom - top), { fit: "fill", kernel: "linear" })
    .png();
  const picture = sharp(data, { raw: { width, height, channels } });
  return { toFile: async (path) => picture.composite([{ input: await heat.toBuffer(), left, top }]).toFile(path) };
}

main().catch((error) => {
  console.error(`explain.mjs: ${error.message}`);
  process.exitCode = 1;
});
