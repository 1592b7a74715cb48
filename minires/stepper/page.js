// What the page does: shows a step, plays, listens to keys, buttons, the timeline and the address.

// The data as it was before packing.py left out all repetitions.
function unpack({ kinds, parts, data }) {
  const known = [];
  const open = value => {
    if (!Array.isArray(value)) return value;
    const [first, ...rest] = value;
    if (first >= 0 && !rest.length) return known[first];
    return first < 0 ? rest.map(open) : Object.fromEntries(kinds[first].map((key, i) => [key, open(rest[i])]));
  };
  for (const part of parts) known.push(open(part));
  return open(data);
}

const DATA = unpack(JSON.parse(document.getElementById("data").textContent));
const at = id => document.getElementById(id);
const state = { track: 0, step: 0, back: [], timer: null, address: null, opened: new Map() };
const steps = () => DATA.tracks[state.track].steps;

// The longest number a table ever holds, so that it keeps its size from step to step.
const lengths = DATA.tracks.map(track => {
  const found = new Map();
  for (const step of track.steps) for (const panel of step.groups.flat()) {
    const { rows } = DATA.planes[panel.plane];
    const key = `${panel.key} ${(rows[0] || []).length}`;
    found.set(key, Math.max(found.get(key) || 1, ...rows.flat().map(text => text.length)));
  }
  return found;
});
for (const track of DATA.tracks) { // a plane keeps its scale, too
  const points = track.steps.flatMap(step => step.path ?? []);
  const reach = [0, 1].map(i => Math.max(1e-9, ...points.map(p => Math.abs(p[i]))));
  track.steps = track.steps.map(step => ({ ...step, reach })); // copies: equal steps are one object
}
const longest = (panel, group) => Math.max(...group
  .filter(p => DATA.planes[p.plane].rows[0].length === DATA.planes[panel.plane].rows[0].length)
  .map(p => lengths[state.track].get(`${p.key} ${DATA.planes[p.plane].rows[0].length}`)));

function element(name, attributes, text) {
  const made = document.createElement(name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  return made;
}

function showSource(line) {
  const f = DATA.functions[line.function];
  at("file").textContent = `${f.file}, line ${line.first}`;
  at("callers").textContent = DATA.callers[line.callers].map(([name, number]) => `${name}, line ${number} › `).join("") + f.name;
  const list = element("ol", {});
  f.lines.forEach((text, i) => {
    const now = f.first + i >= line.first && f.first + i <= line.last;
    const item = element("li", now ? { class: "now" } : {});
    if (f.first + i === line.first) item.setAttribute("aria-current", "true");
    item.append(element("span", {}, f.first + i), text || " ");
    list.append(item);
  });
  at("source").replaceChildren(list);
  const marked = list.querySelector(".now"), box = at("source");
  if (marked) box.scrollTop = marked.offsetTop - box.offsetTop - box.clientHeight / 2.5;
}

function table(variable) {
  const { rows, of } = DATA.planes[variable.plane], made = element("table", {}), body = element("tbody", {});
  rows.forEach((row, r) => {
    const tr = element("tr", {});
    row.forEach((text, c) => tr.append(element("td", { "data-ref": `${variable.ref}|${r},${c}` }, text)));
    body.append(tr);
  });
  made.append(body);
  const parts = [made];
  if (of[0] > rows.length || of[1] > rows[0].length)
    parts.push(element("p", { class: "note" }, `first ${rows.length}×${rows[0].length} of ${of[0]}×${of[1]}`));
  return parts;
}

function showVariables(line) {
  const arrays = [], scalars = element("p", { class: "scalars" });
  const variables = line.variables.map((number, i) => {
    const value = DATA.values[number];
    const ref = `${line.record}|${value.name}|${value.view ?? ""}|after`;
    return { ...value, ref, changed: line.changed.includes(i) };
  });
  for (const variable of variables.sort((a, b) => b.changed - a.changed)) {
    const name = element("span", variable.changed ? { class: "changed" } : {}, variable.name + (variable.changed ? " ●" : ""));
    if (variable.text !== undefined) {
      const item = element("span", { class: "scalar" });
      item.append(name, " = ", element("span", { "data-ref": variable.ref }, variable.text));
      scalars.append(item, " ");
      continue;
    }
    const box = element("details", {}), summary = element("summary", {});
    summary.append(name, element("span", { class: "note" }, ` ${variable.shape}`));
    box.append(summary, ...table(variable));
    box.open = state.opened.get(variable.name) ?? variable.changed;
    summary.addEventListener("click", () => state.opened.set(variable.name, !box.open));
    arrays.push(box);
  }
  at("variables").replaceChildren(...arrays, scalars);
}

// The way out of a layer that is open; or, outside, the layers in a row, the one at hand marked.
function showPath() {
  const button = (text, attributes, act) => {
    const made = element("button", { type: "button", ...attributes }, text);
    made.addEventListener("click", act);
    return made;
  };
  if (state.track > 0) {
    const out = button(DATA.tracks[0].name, { title: "Out again (Esc)" }, leave);
    return at("path").replaceChildren(out, ` › ${DATA.tracks[state.track].name}`);
  }
  const layer = step => (step.zoom === "" ? null : DATA.tracks[step.zoom].name.replace(/, \w+$/, ""));
  const now = steps()[state.step], names = [...new Set(steps().map(layer).filter(Boolean))];
  const find = name => steps().findIndex(step => layer(step) === name && step.part === now.part);
  at("path").replaceChildren(...names.map(name => button(name, layer(now) === name ? { "aria-current": "step" } : {},
    () => go(find(name) < 0 ? steps().findIndex(step => layer(step) === name) : find(name)))));
}

function showParts() {
  const runs = [];
  for (const step of steps()) {
    if (runs.length && runs.at(-1).part === step.part) runs.at(-1).count += 1;
    else runs.push({ part: step.part, count: 1 });
  }
  at("parts").replaceChildren(...runs.map((run, i) => {
    const made = element("div", { class: run.part === "backward" || (run.part !== "forward" && i % 2) ? "backward" : "forward" }, run.part);
    made.style.flexGrow = run.count;
    made.style.flexBasis = 0;
    return made;
  }));
}

function show(step, keep = true) {
  state.step = Math.max(0, Math.min(steps().length - 1, step));
  const now = steps()[state.step], line = DATA.lines[now.line], count = `step ${state.step + 1} of ${steps().length}`;
  at("part").textContent = now.part;
  at("part").dataset.part = now.part;
  at("count").textContent = count;
  at("move").textContent = now.title;
  at("text").innerHTML = now.text;
  at("formula").innerHTML = now.formula;
  at("timeline").max = steps().length;
  at("timeline").value = state.step + 1;
  at("timeline").setAttribute("aria-valuetext", `${count}, ${now.part}: ${now.title}`);
  at("inside").hidden = now.zoom === "";
  at("first").disabled = at("back").disabled = state.step === 0;
  at("next").disabled = at("end").disabled = state.step === steps().length - 1;
  showPath();
  showSource(line);
  showVariables(line);
  at("once").hidden = !now.groups.flat().some(panel => DATA.planes[panel.plane].rows.flat().includes(""));
  drawPicture(now, longest, keep);
  if (!state.timer) announce();
  clearTimeout(state.address);
  state.address = setTimeout(showAddress, 100); // browsers stop a page that changes its address too often
}

function showAddress() {
  const address = (state.track ? `#track=${state.track}&` : "#") + `step=${state.step + 1}`;
  try { history.replaceState(null, "", address); } catch { /* a page inside a notebook has no address */ }
}

// Said to those who listen; not while the page plays, which would talk without end.
function announce() {
  const now = steps()[state.step];
  at("live").textContent = `${at("count").textContent}, ${now.part}. ${now.title}. ${at("text").textContent}`;
}

function pause() {
  clearInterval(state.timer);
  if (state.timer) announce();
  state.timer = null;
  at("playing").textContent = "Play";
  at("sign").setAttribute("d", "M7 4v16l11-8z");
}

function play() {
  if (state.step === steps().length - 1) show(0);
  state.timer = setInterval(() => {
    if (state.step < steps().length - 1) show(state.step + 1);
    if (state.step === steps().length - 1) pause();
  }, Number(at("speed").value));
  at("playing").textContent = "Pause";
  at("sign").setAttribute("d", "M6 4h4v16H6zM14 4h4v16h-4z");
}

const toggle = () => (state.timer ? pause() : play());
const go = step => { pause(); show(step); };

function enter() {
  const { zoom } = steps()[state.step];
  if (zoom === "") return;
  state.back.push([state.track, state.step]);
  openTrack(zoom, 0);
}

function leave() {
  if (at("keys").open) {
    at("keys").open = false;
    at("keys").firstElementChild.focus();
    return;
  }
  if (state.track > 0) openTrack(...(state.back.pop() || [0, 0]));
}

function openTrack(track, step) {
  pause();
  state.track = track;
  showParts();
  show(step, false);
}

const KEYS = {
  " ": toggle, ArrowRight: () => go(state.step + 1), ArrowLeft: () => go(state.step - 1), Home: () => go(0),
  End: () => go(steps().length - 1), r: () => go(0), Enter: enter, Escape: leave,
};

document.addEventListener("keydown", event => {
  const { target } = event, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!at("shortcuts").checked || event.ctrlKey || event.altKey || event.metaKey || !(key in KEYS)) return;
  if (target.closest("input, select, textarea, [contenteditable]")) return;
  if ((key === " " || key === "Enter") && target.closest("button, summary, a")) return;
  event.preventDefault();
  KEYS[key]();
});

at("first").addEventListener("click", () => go(0));
at("back").addEventListener("click", () => go(state.step - 1));
at("play").addEventListener("click", toggle);
at("next").addEventListener("click", () => go(state.step + 1));
at("end").addEventListener("click", () => go(steps().length - 1));
at("reset").addEventListener("click", () => go(0));
at("inside").addEventListener("click", enter);
at("timeline").addEventListener("input", () => go(Number(at("timeline").value) - 1));
at("speed").addEventListener("change", () => { if (state.timer) { pause(); play(); } });
at("theme").addEventListener("change", () => {
  if (at("theme").value) document.documentElement.dataset.theme = at("theme").value;
  else delete document.documentElement.dataset.theme;
});
window.addEventListener("resize", () => show(state.step, false));

function fromAddress() {
  const asked = new URLSearchParams(location.hash.slice(1)), whole = name => Math.trunc(Number(asked.get(name))) || 0;
  const track = whole("track");
  state.track = track > 0 && track < DATA.tracks.length ? track : 0;
  openTrack(state.track, (whole("step") || 1) - 1);
}
window.addEventListener("hashchange", fromAddress);
at("path").hidden = document.querySelector("#keys .zoom").hidden = DATA.tracks.length === 1;
fromAddress();
