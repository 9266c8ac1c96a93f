// What a fused file says about itself, and from a photo's pixels to its input: for browsers and for Node.
// The format is docs/contract.md; resizing is Pillow's, so that maps are those of `cfcam explain`.

/**
 * The CamSpec in an ONNX file's metadata.
 * @param {object} protobuf The package protobufjs.
 * @param {Uint8Array} bytes The file.
 */
export function readSpec(protobuf, bytes) {
  let spec;
  try {
    const reader = protobuf.Reader.create(bytes);
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag >>> 3 !== 14) { reader.skipType(tag & 7); continue; } // ModelProto.metadata_props
      const end = reader.uint32() + reader.pos;
      const entry = {};
      while (reader.pos < end) {
        const field = reader.uint32();
        if (field >>> 3 === 1) entry.key = reader.string();
        else if (field >>> 3 === 2) entry.value = reader.string();
        else reader.skipType(field & 7);
      }
      if (entry.key === "cfcam.spec") spec = JSON.parse(entry.value);
    }
  } catch {
    throw new Error("This is not an ONNX file, or it is damaged: export it again.");
  }
  if (!spec) throw new Error("This ONNX file says nothing about its preprocessing: make it with `cfcam export --fused`.");
  if (spec.schema.split(".")[0] !== "1") throw new Error(`The file's CamSpec is of version ${spec.schema}, and this program reads 1.x.`);
  if (!spec.fused) throw new Error("This file has no finished map: export it again with `--fused`.");
  if (!["rgb", "bgr", "gray"].includes(spec.input.color)) throw new Error(`This program has no photos of the kind '${spec.input.color}'.`);
  if (!["float32", "uint8"].includes(spec.input.dtype)) throw new Error(`This program makes no ${spec.input.dtype} inputs.`);
  return spec;
}

const halfToEven = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** Where the input lies on a photo of w0 x h0 pixels: the size it is scaled to, and the input's corner there. */
export function frame(w0, h0, { width: w, height: h, resize }) {
  let { mode } = resize;
  if (mode === "fit") mode = Math.max(w0 * h, h0 * w) <= 1.25 * Math.min(w0 * h, h0 * w) ? "stretch" : "pad";
  let size;
  if (mode === "shorter") {
    const short = resize.size ?? Math.max(w, h);
    const long = Math.floor((short * Math.max(w0, h0)) / Math.min(w0, h0));
    size = w0 <= h0 ? [short, long] : [long, short];
  } else if (mode === "stretch") {
    size = resize.size ? [resize.size, resize.size] : [w, h];
  } else {
    const scale = Math.min(w / w0, h / h0);
    size = [Math.max(1, Math.min(w, halfToEven(w0 * scale))), Math.max(1, Math.min(h, halfToEven(h0 * scale)))];
  }
  const rounded = resize.corner === "nearest" ? halfToEven : Math.floor;
  return { size, corner: [rounded((size[0] - w) / 2), rounded((size[1] - h) / 2)], input: [w, h] };
}

/** The input's (left, top, right, bottom) as fractions of the photo; outside 0 to 1 where it was padded. */
export function box({ size, corner, input }) {
  return [corner[0] / size[0], corner[1] / size[1], (corner[0] + input[0]) / size[0], (corner[1] + input[1]) / size[1]];
}

/** Pillow's filters: how far they reach, and their weight at a distance. */
const FILTERS = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => cubic(Math.abs(x))],
  lanczos: [3, (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0)],
  hamming: [1, (x) => (Math.abs(x) < 1 ? sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)) : 0)],
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
};
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const cubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0);

/** Weights are whole numbers of this share, as Pillow's are: so sums are exact, and roundings the same. */
const UNIT = 2 ** 22;

/** For each of `count` new pixels from `first` on: the first old pixel that enters, and the weights from there on. */
function weights(old, count, kind) {
  if (kind === "nearest") { // added up from pixel to pixel, as Pillow does it: its ties are Pillow's
    let place = 0.5 * (old / count);
    return Array.from({ length: count }, () => { const low = Math.floor(place); place += old / count; return [low, [UNIT]]; });
  }
  const [support, filter] = FILTERS[kind] ?? (() => { throw new Error(`This program has no '${kind}' filter.`); })();
  const scale = old / count;
  const wide = Math.max(1, scale);
  return Array.from({ length: count }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - support * wide + 0.5));
    const high = Math.min(old, Math.trunc(centre + support * wide + 0.5));
    const raw = Array.from({ length: high - low }, (_, k) => filter((low + k - centre + 0.5) / wide));
    const sum = raw.reduce((a, b) => a + b, 0);
    return [low, raw.map((value) => Math.trunc((value / sum) * UNIT + (value < 0 ? -0.5 : 0.5)))];
  });
}

/**
 * The cut [x0, x1) x [y0, y1) of a picture that is scaled to w1 x h1, with Pillow's filters: in two passes, each to bytes.
 * Which goes first is Pillow 13's choice: the rows', if they shrink by more than twice as many pixels as the columns.
 */
function resized(data, w0, h0, channels, [w1, h1], [x0, y0, x1, y1], kind) {
  const across = weights(w0, w1, kind).slice(x0, x1);
  const down = weights(h0, h1, kind).slice(y0, y1);
  if (h0 - h1 > 2 * Math.max(0, w0 - w1)) return rowPass(columnPass(data, w0, channels, down), w0, channels, across);
  return columnPass(rowPass(data, w0, channels, across), across.length, channels, down);
}

/** Scales every row, of `width` pixels, by the weights of each new pixel. */
function rowPass(data, width, channels, across) {
  const rows = data.length / (width * channels);
  const result = new Uint8ClampedArray(rows * across.length * channels);
  for (let y = 0, place = 0; y < rows; y++)
    for (const [low, ws] of across)
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let k = 0; k < ws.length; k++) sum += ws[k] * data[(y * width + low + k) * channels + c];
        result[place++] = Math.floor(sum / UNIT + 0.5);
      }
  return result;
}

/** Scales every column; rows have `width` pixels. */
function columnPass(data, width, channels, down) {
  const row = width * channels;
  const result = new Uint8ClampedArray(down.length * row);
  down.forEach(([low, ws], y) => {
    for (let x = 0; x < row; x++) {
      let sum = 0;
      for (let k = 0; k < ws.length; k++) sum += ws[k] * data[(low + k) * row + x];
      result[y * row + x] = Math.floor(sum / UNIT + 0.5);
    }
  });
  return result;
}

/**
 * A photo as the model takes it.
 * @param {Uint8Array|Uint8ClampedArray} pixels Red, green, blue (and, with stride 4, something) of each pixel of the upright photo.
 * @returns {{data: Float32Array|Uint8Array, dims: number[], frame: object}}
 */
export function prepare(pixels, w0, h0, stride, { input }) {
  const channels = input.color === "gray" ? 1 : 3;
  const photo = new Uint8Array(w0 * h0 * channels);
  for (let i = 0; i < w0 * h0; i++) {
    const [r, g, b] = [pixels[i * stride], pixels[i * stride + 1], pixels[i * stride + 2]];
    if (channels === 1) photo[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16; // Pillow's luma
    else photo.set(input.color === "bgr" ? [b, g, r] : [r, g, b], i * 3);
  }
  const { width: w, height: h } = input;
  const where = frame(w0, h0, input);
  const [left, top] = where.corner;
  const cut = [Math.max(left, 0), Math.max(top, 0), Math.min(left + w, where.size[0]), Math.min(top + h, where.size[1])];
  const values = resized(photo, w0, h0, channels, where.size, cut, input.resize.interpolation);
  const data = new (input.dtype === "uint8" ? Uint8ClampedArray : Float32Array)(channels * h * w);
  const columns = cut[2] - cut[0];
  for (let c = 0; c < channels; c++) {
    const table = Array.from({ length: 256 }, (_, p) => (p * input.scale - input.mean[c]) / input.std[c]);
    if (input.folded) {
      // The graph normalises: where there is no photo it gets the mean colour, as it would be 0 otherwise.
      const blank = input.folded.mean[c] / input.folded.scale;
      for (let i = 0; i < h * w; i++) data[input.layout === "NCHW" ? c * h * w + i : i * channels + c] = blank;
    }
    for (let y = cut[1]; y < cut[3]; y++)
      for (let x = cut[0]; x < cut[2]; x++) {
        const value = table[values[((y - cut[1]) * columns + x - cut[0]) * channels + c]];
        const [row, column] = [y - top, x - left];
        data[input.layout === "NCHW" ? (c * h + row) * w + column : (row * w + column) * channels + c] = value;
      }
  }
  const dims = input.layout === "NCHW" ? [1, channels, h, w] : [1, h, w, channels];
  return { data: input.dtype === "uint8" ? new Uint8Array(data.buffer) : data, dims, frame: where };
}

/** The class that a person means by an index or a label; -1 for nothing. */
export function classOf(text, { output }) {
  const words = text.trim();
  if (words === "") return -1;
  const found = (output.labels ?? []).flatMap((label, i) => (label.toLowerCase() === words.toLowerCase() ? [i] : []));
  if (found.length === 1) return found[0];
  const index = Number(words);
  if (found.length === 0 && Number.isInteger(index) && index >= 0 && index < output.classes) return index;
  const range = `0 to ${output.classes - 1}`;
  throw new Error(found.length > 1 ? `Several classes are called '${words}': give one of ${found.join(", ")}.` : `There is no class '${words}': give a label as it is, or ${range}.`);
}

/**
 * One inference: the prediction, and the finished map.
 * @param {object} ort onnxruntime-node or onnxruntime-web.
 * @param {number} target A class, or -1 for the top one.
 */
export async function explain(ort, session, spec, prepared, target) {
  const feeds = { [spec.input.name]: new ort.Tensor(spec.input.dtype, prepared.data, prepared.dims) };
  // A file of several classes in one inference has a column for each: here all of them, or the only one, ask for the same.
  const columns = spec.columns?.count ?? 1;
  const asked = new BigInt64Array(columns).fill(BigInt(target));
  if (session.inputNames.includes(spec.target)) feeds[spec.target] = new ort.Tensor("int64", asked, spec.columns ? [1, columns] : [1]);
  else if (target !== -1) throw new Error("This file always explains the same class: export it without --fixed-target.");
  const found = await session.run(feeds, [spec.output.name, spec.fused.map, spec.fused.empty, spec.chosen]);
  const chosen = Number(found[spec.chosen].data[0]);
  const measured = probabilities(Array.from(found[spec.output.name].data), spec.output);
  return {
    class: chosen,
    label: label(chosen, spec),
    probability: measured?.[chosen] ?? null,
    value: measured ? null : found[spec.output.name].data[chosen],
    top: (measured ?? []).map((p, i) => [i, label(i, spec), p]).sort((a, b) => b[2] - a[2]).slice(0, 5),
    empty: Boolean(found[spec.fused.empty].data[0]),
    map: found[spec.fused.map].data.subarray(0, spec.fused.size[0] * spec.fused.size[1]),
    size: spec.fused.size, // [height, width]
  };
}

const label = (index, { output }) => output.labels?.[index] ?? String(index);

/** From the scores to probabilities; of a regression there are none. */
function probabilities(scores, { kind }) {
  if (kind === "regression") return null;
  if (kind === "binary") return scores.map((z) => 1 / (1 + Math.exp(-z)));
  if (kind !== "logits") return scores;
  const most = Math.max(...scores);
  const parts = scores.map((z) => Math.exp(z - most));
  const sum = parts.reduce((a, b) => a + b, 0);
  return parts.map((part) => part / sum);
}

const COLOURS = [[9, 14, 44], [52, 23, 93], [107, 29, 117], [163, 37, 125], [212, 62, 105], [242, 104, 81], [255, 152, 58], [255, 201, 65], [252, 245, 138]];

/** The map as a picture to be laid over the photo: red, green, blue and opacity of each of its cells. */
export function coloured(map, opacity = 0.65) {
  const picture = new Uint8ClampedArray(map.length * 4);
  map.forEach((value, i) => {
    const place = Math.min(Math.max(value, 0), 1) * (COLOURS.length - 1);
    const [low, part] = [Math.min(Math.floor(place), COLOURS.length - 2), place % 1 || (place === COLOURS.length - 1 ? 1 : 0)];
    for (let c = 0; c < 3; c++) picture[i * 4 + c] = COLOURS[low][c] + (COLOURS[low + 1][c] - COLOURS[low][c]) * part;
    picture[i * 4 + 3] = 255 * opacity * (0.23 + 0.77 * value);
  });
  return picture;
}
