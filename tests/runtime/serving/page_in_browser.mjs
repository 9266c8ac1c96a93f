// node page_in_browser.mjs ADDRESS PHOTO TOKEN PLAYWRIGHT CHROMIUM: what a person does with the page, and what it then says, as JSON.
import { createRequire } from "node:module";

const [address, photo, token, playwright, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(playwright)("playwright-core");
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
const browser = await chromium.launch({ executablePath, args });
const found = { elsewhere: [], broken: [] };
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  page.on("request", (request) => { if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(address)) found.elsewhere.push(request.url()); });
  page.on("pageerror", (error) => found.broken.push(String(error)));
  page.on("console", (message) => { if (/Content Security Policy/.test(message.text())) found.broken.push(message.text()); });
  const text = (id) => page.textContent(`#${id}`);
  const said = async (id, words) => { await page.waitForFunction(([id, words]) => new RegExp(words).test(document.getElementById(id).textContent), [id, words]); return text(id); };

  await page.goto(address);
  await page.waitForSelector("#login:not([hidden])");
  await page.fill("#token", "wrong");
  await page.click("#login button");
  found.wrong_token = await said("error", "token");
  await page.fill("#token", token);
  await page.click("#login button");
  await page.waitForFunction(() => document.querySelectorAll("#classes option").length > 0);
  found.classes = await page.$$eval("#classes option", (options) => options.map((option) => option.value));

  await page.setInputFiles("#file", photo);
  found.first = await said("what", ".");
  await page.waitForFunction(() => document.getElementById("map").naturalWidth > 0); // the policy lets the map through
  found.place = await page.$eval("#map", ({ style }) => [style.left, style.top, style.width, style.height].map(parseFloat));
  await page.click("#top li:nth-child(2) button");
  found.second = await said("what", await page.$eval("#top li:nth-child(2) span", (span) => span.textContent));
  await page.fill("#target", "nothing of the kind");
  await page.dispatchEvent("#target", "change");
  found.no_class = await said("error", ".");
  await page.setInputFiles("#file", { name: "x.png", mimeType: "image/png", buffer: Buffer.from("not a photo") });
  found.no_photo = await said("error", "browser");
  await page.fill("#target", "");
  await page.evaluate(() => { document.getElementById("what").textContent = ""; });
  await page.click("#camera");
  found.camera = await said("what", ".");
  await page.click("#camera");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  found.saved = download.suggestedFilename();
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
