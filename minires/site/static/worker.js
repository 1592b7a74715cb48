// Python in a Web Worker of its own: the page stays free whatever a program does, and can end it.
//
// Every file is named in runtime.json with its size and SHA-256, is fetched once, counted while it comes, and used only
// if its hash is right. Nothing else is fetched.
"use strict";

const realFetch = self.fetch.bind(self);
const verified = new Map(); // URL -> the bytes of a file that has the right hash
let runtime, pyodide, session;
let pictures = null; // a promise: matplotlib is loaded once, when it is first needed

const post = (message) => self.postMessage(message);

// A browser says "Failed to fetch", or something like it, where a file cannot be had.
const why = (error) => (error instanceof TypeError && /fetch|network|load/i.test(error.message)
  ? "its files cannot be loaded. Is this device on line? (A room without a network: minires site --pyodide FOLDER)"
  : String(error.message || error));

self.onmessage = async ({ data }) => {
  try {
    if (data.do === "start") await start(data);
    else await act(data);
  } catch (error) {
    post({ event: "broken", text: why(error) });
  }
};

async function start({ interrupts }) {
  runtime = await (await realFetch("runtime.json")).json();
  runtime.pyodide = new URL(runtime.pyodide, location).href;
  const files = runtime.files.filter((file) => !file.later);
  await load(files);
  const loaded = performance.now();
  self.fetch = fetchVerified;
  for (const name of ["pyodide.js", "pyodide.asm.js"]) importBytes(verified.get(at(name)));
  post({ event: "stage", text: "Starting Python" });
  pyodide = await loadPyodide({
    indexURL: runtime.pyodide,
    lockFileURL: new URL("pyodide-lock.json", location).href,
    env: { HOME: "/home/pyodide", MPLBACKEND: "module://minires.site.figures", COLUMNS: "110" },
  });
  pyodide.setStdin({ error: true });
  if (interrupts) pyodide.setInterruptBuffer(interrupts);
  await pyodide.loadPackage("numpy", { messageCallback: () => {} });
  const folder = pyodide.runPython("import sysconfig; sysconfig.get_path('purelib')");
  for (const wheel of runtime.files.filter((file) => file.wheel)) {
    pyodide.unpackArchive(verified.get(at(wheel.name)), "wheel", { extractDir: folder });
  }
  const { Session } = pyodide.pyimport("minires.site.playground");
  session = Session((message) => post(message.toJs({ dict_converter: Object.fromEntries })));
  post({ event: "ready", version: runtime.version, seconds: (performance.now() - loaded) / 1000 });
}

async function act({ do: kind, source, op, fresh, needsPictures }) {
  if (needsPictures) await (pictures ??= loadPictures());
  if (kind === "check") session.check(source, op);
  else session.run(source, fresh);
}

async function loadPictures() {
  await load(runtime.files.filter((file) => file.later));
  post({ event: "stage", text: "Loading matplotlib" });
  await pyodide.loadPackage("matplotlib", { messageCallback: () => {} });
  pyodide.runPython("import logging; logging.getLogger('matplotlib').setLevel('ERROR'); import minires.site.figures");
  post({ event: "stage", text: "" });
}

// --- files ---------------------------------------------------------------------------------------------------------

function at(name) {
  const file = runtime.files.find((found) => found.name === name);
  return new URL(file.wheel ? `wheels/${name}` : runtime.pyodide + name, location).href;
}

async function load(files) {
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const got = new Map();
  let told = 0;
  const count = (file, bytes) => {
    got.set(file.name, bytes);
    const loaded = [...got.values()].reduce((sum, n) => sum + n, 0);
    if (loaded - told < 100_000 && loaded < total) return;
    told = loaded;
    post({ event: "loading", loaded, total });
  };
  await Promise.all(files.map(async (file) => verified.set(at(file.name), await fetchFile(file, count))));
}

async function fetchFile(file, count) {
  const url = at(file.name);
  // Without crypto (a page that comes by plain http from another machine) the browser itself checks the hash.
  const response = await realFetch(url, crypto.subtle ? {} : { integrity: `sha256-${base64(file.sha256)}` });
  if (!response.ok) throw new Error(`${url} cannot be loaded (${response.status})`);
  if (!crypto.subtle) {
    const bytes = await response.arrayBuffer();
    count(file, bytes.byteLength);
    return bytes;
  }
  const bytes = new Uint8Array(file.size);
  let filled = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.length > file.size) throw new Error(`${url} is longer than it should be`);
    bytes.set(value, filled);
    count(file, (filled += value.length));
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== file.sha256) throw new Error(`${url} is not the file it should be: its SHA-256 differs`);
  return bytes.buffer;
}

const base64 = (hex) => btoa(String.fromCharCode(...hex.match(/../g).map((byte) => parseInt(byte, 16))));

function importBytes(bytes) {
  const url = URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));
  importScripts(url);
  URL.revokeObjectURL(url);
}

async function fetchVerified(resource) {
  const url = new URL(resource.url || resource, location).href;
  if (url === new URL("pyodide-lock.json", location).href) return realFetch(url);
  const bytes = verified.get(url);
  if (!bytes) throw new TypeError(`${url}: the playground loads nothing but its own files`);
  const type = url.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
  return new Response(bytes, { headers: { "Content-Type": type } });
}
