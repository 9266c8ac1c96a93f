// A fused file in the browser: one inference of ONNX Runtime Web gives the prediction and the finished map.
import { box, classOf, coloured, explain, prepare, readSpec } from "./camspec.mjs";

const $ = (id) => document.getElementById(id);
const DIST = new URL("node_modules/onnxruntime-web/dist/", import.meta.url).href;
let ort, session, spec; // of the chosen model
let photo = null; // an ImageData: what was explained last
let stream = null; // of the camera
let queue = Promise.resolve(); // one thing at a time

/** Opens the chosen model on the chosen backend. */
async function open() {
  const [file] = $("model").files;
  if (!file) return;
  const old = session;
  session = null; // what is asked from here on waits for the new model
  $("what").textContent = "Choose a model, then a photo.";
  await old?.release();
  const bytes = new Uint8Array(await file.arrayBuffer());
  const found = readSpec(globalThis.protobuf, bytes);
  const backend = $("backend").value;
  // Only the static form is made for WebGPU: the other one has sizes that depend on the data.
  if (backend === "webgpu" && found.fused.form !== "static") throw new Error("WebGPU takes files of the form 'static' alone: export it again with `--fused-form static`.");
  if (backend === "webgpu" && !(await navigator.gpu?.requestAdapter())) throw new Error("This browser has no WebGPU here: choose the CPU.");
  $("what").textContent = "Opening …";
  ort = await import(`${DIST}ort.${backend}.min.mjs`);
  ort.env.wasm.wasmPaths = DIST;
  ort.env.wasm.numThreads = 1; // more need a server that isolates the page (COOP and COEP)
  session = await ort.InferenceSession.create(bytes, { executionProviders: [backend] });
  spec = found;
  $("what").textContent = "Choose a photo.";
  $("error").textContent = "";
  await run();
}

/** Explains what is in `photo`. */
async function run() {
  if (!session || !photo) return;
  const start = performance.now();
  const prepared = prepare(photo.data, photo.width, photo.height, 4, spec);
  const ready = performance.now();
  const found = await explain(ort, session, spec, prepared, classOf($("target").value, spec));
  const times = { prepare: ready - start, explain: performance.now() - ready };
  show(found, box(prepared.frame), times);
  globalThis.explained = { ...found, times }; // for the console, and tests
}

function show(found, [x0, y0, x1, y1], times) {
  Object.assign($("photo"), { width: photo.width, height: photo.height });
  $("photo").getContext("2d").putImageData(photo, 0, 0);
  const [height, width] = found.size;
  Object.assign($("map"), { width, height, hidden: found.empty });
  $("map").getContext("2d").putImageData(new ImageData(coloured(found.map, 1), width, height), 0, 0);
  $("seen").hidden = false;
  $("error").textContent = "";
  const place = { left: `${x0 * 100}%`, top: `${y0 * 100}%`, width: `${(x1 - x0) * 100}%`, height: `${(y1 - y0) * 100}%` };
  Object.assign($("map").style, place);
  Object.assign($("seen").style, place);
  const percent = (p) => `${(p * 100).toFixed(1)} %`;
  $("what").textContent = `${found.label}: ${found.probability === null ? found.value.toPrecision(4) : percent(found.probability)}`;
  $("cost").textContent = (found.empty ? "The map is empty: nothing speaks for this class. " : "") + `${times.explain.toFixed(0)} ms, and ${times.prepare.toFixed(0)} ms for the photo`;
  $("top").replaceChildren(...found.top.map(([, label, p]) => Object.assign(document.createElement("li"), { textContent: `${label}, ${percent(p)}` })));
}

/** The pixels of a picture, upright and as its file has them. */
function pixels(picture, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

async function load(file) {
  if (!file) return;
  stop();
  let picture;
  try { picture = await createImageBitmap(file, { colorSpaceConversion: "none" }); } catch {
    throw new Error("The browser cannot read this file as a photo: choose a JPEG or PNG.");
  }
  photo = pixels(picture, picture.width, picture.height);
  await run();
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  $("camera").setAttribute("aria-pressed", "false");
}

async function camera() {
  if (stream) { stop(); return; }
  if (!navigator.mediaDevices) throw new Error("Browsers give a camera to pages by HTTPS or at localhost alone.");
  try { stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640 } }); } catch {
    throw new Error("There is no camera that may be used.");
  }
  const mine = stream;
  $("camera").setAttribute("aria-pressed", "true");
  const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true });
  await video.play();
  const next = () => attempt(async () => {
    if (stream !== mine) return;
    photo = pixels(video, video.videoWidth, video.videoHeight); // the frame that is shown is the one that was explained
    try { await run(); } catch (error) { stop(); throw error; }
    requestAnimationFrame(next);
  });
  next();
}

/** Runs what a person asked for, after what runs already; what goes wrong is said in a sentence. */
function attempt(work) {
  queue = queue.then(async () => {
    try { await work(); } catch (error) { $("error").textContent = error.message; }
  });
  return queue;
}

const fade = () => { $("map").style.opacity = $("opacity").value / 100; };
$("model").onchange = $("backend").onchange = () => attempt(open);
$("file").onchange = () => attempt(() => load($("file").files[0]));
$("target").onchange = () => attempt(run);
$("camera").onclick = () => attempt(camera);
$("opacity").oninput = fade;
document.querySelector("form").onsubmit = (event) => { event.preventDefault(); };
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => { event.preventDefault(); const [file] = event.dataTransfer.files; attempt(() => load(file)); });
fade();
if ($("model").files.length) attempt(open); // what a browser kept when the page was loaded again
