// The playground: choose an example, change it, check or run it.

import { createEditor } from "./editor.js";
import { Engine } from "./engine.js";
import { readLink, writeLink } from "./link.js";
import { Output } from "./output.js";
import { showFields, withValue } from "./parameters.js";

const $ = (id) => document.getElementById(id);
const examples = await (await fetch(new URL("examples.json", import.meta.url))).json();
const output = new Output($("output"));
const editor = createEditor($("editor"), { label: "Python program", changed: onChange, run });
let example = examples[0];
let started, clock;

// --- Python --------------------------------------------------------------------------------------------------------

const engine = new Engine((message) => {
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  const { loaded, total, text } = message;
  if (message.event === "loading") {
    Object.assign($("loading"), { value: loaded, max: total, hidden: false });
    status(`Loading Python: ${megabytes(loaded)} of ${megabytes(total)} MB`);
  } else if (message.event === "stage") {
    $("loading").hidden = true;
    status(text || "Python is ready.");
  } else if (message.event === "ready") {
    $("loading").hidden = true;
    status(`Python is ready: minires ${message.version}.`);
    $("status").dataset.seconds = message.seconds; // from the last byte to here
  } else if (message.event === "broken") {
    $("loading").hidden = true;
    status(`Python did not start: ${text}`, true);
  }
});

function status(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
  $("retry").hidden = !wrong;
}

async function run() {
  if (engine.job) return;
  output.clear();
  editor.markLine(0);
  busy(true);
  const work =
    example.kind === "check"
      ? { do: "check", source: editor.text, op: example.op, needsPictures: /matplotlib|minires\.plot/.test(editor.text) }
      : { do: "run", source: editor.text, fresh: true, needsPictures: true };
  const over = await engine.run(work, (message) => {
    if (message.event === "done") return;
    if (message.line) editor.markLine(message.line);
    output.tell(message);
  });
  const seconds = (performance.now() - started) / 1000;
  busy(false);
  output.tell({ ...over, seconds });
}

function busy(is) {
  $("run").disabled = is;
  $("stop").disabled = !is;
  $("output").setAttribute("aria-busy", is);
  clearInterval(clock);
  started = performance.now();
  const tick = () => ($("clock").textContent = is ? `${((performance.now() - started) / 1000).toFixed(0)} s` : "");
  tick();
  if (is) clock = setInterval(tick, 1000);
}

// --- the example and its program -----------------------------------------------------------------------------------

function choose(chosen, code = null) {
  example = chosen;
  $("example").value = example.name;
  $("title").textContent = example.title;
  $("about").textContent = example.about;
  $("run").textContent = example.kind === "check" ? "Check" : "Run";
  editor.text = code ?? example.source;
  output.clear();
}

function onChange(text) {
  showFields($("parameters"), text, (parameter, value) => (editor.text = withValue(editor.text, parameter, value)));
  writeLink(example.name, text === example.source ? null : text);
}

async function follow() {
  let link = { example: null, code: null };
  try {
    link = await readLink();
  } catch {
    status("The link is damaged: its program cannot be read.", true);
  }
  choose(examples.find(({ name }) => name === link.example) ?? examples[0], link.code);
}

async function share() {
  const address = await writeLink(example.name, editor.text === example.source ? null : editor.text);
  try {
    await navigator.clipboard.writeText(address);
    $("said").textContent = "The link is copied.";
  } catch {
    $("said").textContent = "The link is in the address bar.";
  }
  setTimeout(() => ($("said").textContent = ""), 4000);
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([editor.text + (example.tail ?? "")], { type: "text/x-python" }));
  link.download = `${example.name.replaceAll("-", "_")}.py`;
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const group of new Set(examples.map((found) => found.group))) {
  const options = examples.filter((found) => found.group === group).map(({ name, title }) => new Option(title, name));
  const list = document.createElement("optgroup");
  list.label = group;
  list.append(...options);
  $("example").append(list);
}
$("example").onchange = () => choose(examples.find(({ name }) => name === $("example").value));
$("run").onclick = run;
$("stop").onclick = () => engine.stop();
$("reset").onclick = () => choose(example);
$("share").onclick = share;
$("download").onclick = download;
$("retry").onclick = () => engine.restart();
addEventListener("hashchange", () => location.hash.includes("=") && follow()); // a plain name is a place on this page
await follow();
