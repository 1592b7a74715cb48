// "Run this page": its cells become editors, and Python runs them here, one after the other, with shared names.

const cells = [...document.querySelectorAll("div.cell")].filter((cell) => cell.querySelector(".cell_input pre"));
const site = new URL("../../static/", import.meta.url);
const element = (tag, attributes, text = "") => Object.assign(document.createElement(tag), attributes, { textContent: text });

if ("serviceWorker" in navigator) navigator.serviceWorker.register(new URL("../service-worker.js", site)).catch(() => {});
for (const pre of document.querySelectorAll(".cell_output pre")) // what is no table may break its lines
  if (!/[│┃|]|\S {2,}\S/.test(pre.textContent)) pre.classList.add("prose");
if (cells.length) offer();

function offer() {
  const bar = element("div", { className: "runner" });
  const start = element("button", { type: "button", className: "first" }, "Run this page");
  const said = element("span", {}, "in your browser, with nothing to install");
  said.setAttribute("role", "status");
  bar.append(start, said);
  document.querySelector("article h1").after(bar);
  start.onclick = async () => {
    start.disabled = true;
    said.textContent = "Loading";
    const page = await openPage(bar, said);
    start.textContent = "Run all";
    start.disabled = false;
    start.onclick = page.runAll;
    page.runAll();
  };
}

async function openPage(bar, said) {
  const load = (name) => import(new URL(name, site));
  const [{ createEditor }, { Engine }, { Output }] = await Promise.all(["editor.js", "engine.js", "output.js"].map(load));
  let fresh = true;
  const engine = new Engine((message) => {
    const { event, loaded, total, text, version } = message;
    if (event === "loading") said.textContent = `Loading Python: ${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
    else if (event === "ready") said.textContent = `Python is ready: minires ${version}.`;
    else if (event === "stage") said.textContent = text || "Python is ready.";
    else if (event === "broken") said.textContent = `Python did not start: ${text}`;
  });
  const stop = element("button", { type: "button" }, "Stop");
  stop.onclick = () => engine.stop();
  bar.insertBefore(stop, said);

  const parts = cells.map((cell, number) => {
    const input = cell.querySelector(".cell_input");
    const text = input.querySelector("pre").textContent.replace(/\n$/, "");
    const box = element("div", { className: "cell-editor" });
    const below = element("div", { className: "cell-bar" });
    const button = element("button", { type: "button" }, "Run");
    button.setAttribute("aria-label", `Run cell ${number + 1}`);
    below.append(button);
    const region = element("div", { className: "run-output" });
    region.setAttribute("aria-label", `Output of cell ${number + 1}`);
    region.setAttribute("role", "region");
    const shown = cell.querySelector(".cell_output");
    input.replaceWith(box, below);
    if (shown) shown.replaceWith(region);
    else cell.append(region);
    if (shown) region.append(...shown.childNodes);
    const part = { region };
    part.editor = createEditor(box, { text, label: `Cell ${number + 1}`, run: () => part.run() });
    part.run = async () => {
      const output = new Output(region);
      part.editor.markLine(0);
      const work = { do: "run", source: part.editor.text, fresh, needsPictures: true };
      fresh = false;
      let failed = false;
      const over = await engine.run(work, (message) => {
        if (message.event === "done") return;
        failed ||= message.event === "error";
        if (message.line) part.editor.markLine(message.line);
        output.tell(message);
      });
      if (over.stopped) output.tell(over);
      if (over.restarted) fresh = true;
      return !failed && !over.stopped;
    };
    button.onclick = () => engine.job || part.run();
    return part;
  });
  const runAll = async () => {
    if (engine.job) return;
    fresh = true;
    for (const part of parts) if (!(await part.run())) break;
  };
  return { runAll };
}
