"use strict";
// Draws the picture of a step: tables of numbers in groups, marks on their cells, arrows between the marks.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 44; // on the right, for arrows that go around a table

function node(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// The size of a table in units of its font size f: a cell is wide enough for the longest number it ever shows.
function sizeOf(panel, f, longest) {
  const { rows } = DATA.planes[panel.plane];
  const cw = Math.max(1.9, longest * 0.6 + 0.75) * f, ch = 1.75 * f;
  const label = Math.max(12, f * 0.95);
  const caption = (panel.label.length + panel.shape.length + 2) * label * 0.56;
  const table = (rows[0] || []).length * cw;
  return { cw, ch, label, table, w: Math.max(table, caption), h: rows.length * ch, top: label * 1.5 };
}

// Where everything lies for a font size: groups from left to right, on a new line where the width is used up.
function layOut(groups, f, width, longest, gap, wrap = true) {
  const gapX = Math.max(28, f * 3) + gap, gapY = Math.max(14, f * 1.1);
  const places = new Map();
  let x = 0, y = 0, lineHeight = 0, widest = 0, line = [];
  const center = () => { for (const [item, h] of line) item.forEach(p => { p.y += (lineHeight - h) / 2; }); line = []; };
  for (const group of groups) {
    const sizes = group.map(panel => sizeOf(panel, f, longest(panel, group)));
    const stacked = width > 480 - MARGIN || group.length === 1;
    let w = 0, h = 0;
    const items = [];
    let px = 0, py = 0, rowHeight = 0;
    sizes.forEach((s, i) => {
      if (stacked) {
        items.push({ ...s, panel: group[i], x: 0, y: h });
        w = Math.max(w, s.w); h += s.top + s.h + gapY;
      } else {
        if (px > 0 && px + s.w > width) { px = 0; py += rowHeight; rowHeight = 0; }
        items.push({ ...s, panel: group[i], x: px, y: py });
        px += s.w + gapX * 0.6; w = Math.max(w, px - gapX * 0.6);
        rowHeight = Math.max(rowHeight, s.top + s.h + gapY); h = py + rowHeight;
      }
    });
    if (wrap && x > 0 && x + w > width) { center(); y += lineHeight + gapY; x = 0; lineHeight = 0; }
    items.forEach(p => { p.x += x; p.y += y; places.set(p.panel.key, p); });
    line.push([items, h]);
    x += w + gapX; widest = Math.max(widest, x - gapX); lineHeight = Math.max(lineHeight, h);
  }
  center();
  return { places, w: widest + 2, h: y + lineHeight + 2 };
}

function fit(groups, width, height, longest, gap) {
  const narrow = width <= 480, margin = groups.flat().length > 2 ? MARGIN : 0;
  let best = null;
  for (let f = 26; !narrow && f >= 11; f -= 0.5) { // all groups in one line, if they need not be small for it
    const layout = layOut(groups, f, width, longest, gap, false);
    layout.f = f;
    if (layout.w <= width && layout.h <= height) return layout;
  }
  for (let f = 26; f >= 10; f -= 0.5) {
    const layout = layOut(groups, f, width - margin, longest, gap);
    Object.assign(layout, { f, narrow, w: layout.w + margin });
    if (layout.w <= width && layout.h <= height) return layout;
    if (!best || best.w > width || f >= 13) best = layout; // if it has to be too tall, not larger than need be
  }
  return best;
}

function drawPanel(place, f, parent, texts) {
  const { panel, x, y, cw, ch, label, top } = place;
  const { rows, of } = DATA.planes[panel.plane];
  const caption = node("text", { x, y: y + label, class: "label", "font-size": label }, texts, panel.label + " ");
  node("tspan", { class: "size", "font-weight": 400, "font-size": label * 0.85 }, caption, panel.shape);
  const number = text => parseFloat(text.replace("−", "-"));
  const largest = Math.max(...rows.flat().map(text => Math.abs(number(text)) || 0).filter(Number.isFinite), 1e-12);
  rows.forEach((row, r) => row.forEach((text, c) => {
    const box = { x: x + c * cw, y: y + top + r * ch, width: cw, height: ch };
    if (text === "") { // not known yet
      node("rect", { ...box, x: box.x + 2, y: box.y + 2, width: cw - 4, height: ch - 4, class: "unknown" }, parent);
      return;
    }
    node("rect", { ...box, class: "cell" }, parent);
    const value = number(text);
    if (value) {
      const strength = Math.min(1, Math.abs(value) / largest);
      node("rect", { ...box, class: value > 0 ? "plus" : "minus", "fill-opacity": 0.06 + 0.34 * strength }, parent);
    }
    node("text", { x: box.x + cw / 2, y: box.y + ch * 0.68, "text-anchor": "middle", "font-size": f,
      "data-ref": `${panel.ref}|${r},${c}` }, texts, text);
  }));
  if (of[0] > rows.length || of[1] > (rows[0] || []).length) {
    const note = `first ${rows.length}×${rows[0].length} of ${of[0]}×${of[1]}`;
    node("text", { x, y: y + top + rows.length * ch + label, class: "size", "font-size": label * 0.85 }, texts, note);
  }
}

function boxOf(place, [r, c, h, w]) {
  return { x: place.x + c * place.cw, y: place.y + place.top + r * place.ch, w: w * place.cw, h: h * place.ch };
}

// Marks live on from step to step, so that a window glides over the image.
function drawMarks(layout, layer, keep) {
  const wanted = new Map();
  for (const [key, place] of layout.places)
    for (const kind of ["read", "write"])
      place.panel[kind].forEach((cells, i) => wanted.set(`${key} ${kind} ${i}`, { ...boxOf(place, cells), kind }));
  for (const old of [...layer.children]) if (!keep || !wanted.has(old.dataset.key)) old.remove();
  for (const [key, b] of wanted) {
    const mark = [...layer.children].find(m => m.dataset.key === key)
      || node("rect", { class: `mark ${b.kind}`, rx: 3, "data-key": key }, layer);
    for (const [name, value] of [["x", b.x], ["y", b.y], ["width", b.w], ["height", b.h]]) {
      mark.setAttribute(name, value);
      mark.style[name] = `${value}px`;
    }
  }
}

// The box around the cells that a move marks in a table; around all of it, if there are none.
function markedBox(place, kinds) {
  const list = kinds.map(kind => place.panel[kind]).find(cells => cells.length);
  if (!list) return tableOf(place);
  const boxes = list.map(cells => boxOf(place, cells));
  const x = Math.min(...boxes.map(b => b.x)), y = Math.min(...boxes.map(b => b.y));
  return { x, y, w: Math.max(...boxes.map(b => b.x + b.w)) - x, h: Math.max(...boxes.map(b => b.y + b.h)) - y };
}

// Where an arrow touches a table: at its edge, level with the marked cells.
// An arrow that would run through a third table goes around it, on the right.
function anchor(place, marked, other, around, narrow) {
  const table = tableOf(place), cx = marked.x + marked.w / 2, cy = marked.y + marked.h / 2;
  if (around) return { x: table.x + table.w, y: cy, dx: 1, dy: 0 };
  const apart = other.y > table.y + table.h || other.y + other.h < table.y;
  const beside = (other.x > table.x + table.w || other.x + other.w < table.x) && !(apart && narrow);
  if (beside) return other.x > table.x ? { x: table.x + table.w, y: cy, dx: 1, dy: 0 } : { x: table.x, y: cy, dx: -1, dy: 0 };
  if (other.y + other.h / 2 > table.y + table.h / 2) return { x: cx, y: table.y + table.h, dx: 0, dy: 1 };
  return { x: cx, y: table.y - place.top, dx: 0, dy: -1 };
}

// An arrow between two tables that stand over each other: straight down where it can be, else from the nearest edge.
function straighten(a, b, start, goal) {
  const low = Math.max(start.x, goal.x), high = Math.min(start.x + start.w, goal.x + goal.w);
  const inside = (x, box) => Math.min(Math.max(x, box.x + 8), box.x + box.w - 8);
  if (low < high) a.x = b.x = (low + high) / 2;
  else [a.x, b.x] = [inside(goal.x + goal.w / 2, start), inside(start.x + start.w / 2, goal)];
}

function tableOf(place) {
  const { rows } = DATA.planes[place.panel.plane];
  return boxOf(place, [0, 0, rows.length, rows[0].length]);
}

// Whether a third table lies between two that stand over each other.
function isBetween(layout, from, to) {
  const [a, b] = [tableOf(from), tableOf(to)];
  const apart = b.x > a.x + a.w || a.x > b.x + b.w;
  const low = Math.min(a.y + a.h, b.y + b.h), high = Math.max(a.y, b.y);
  return !apart && [...layout.places.values()].some(other => {
    const c = tableOf(other);
    return other !== from && other !== to && c.y >= low && c.y + c.h <= high;
  });
}

function hasRightNeighbour(layout, place, y) {
  return [...layout.places.values()].map(tableOf).some(t => t.x > place.x + place.table && t.y <= y && t.y + t.h >= y);
}

function drawArrows(step, layout, layer) {
  layer.replaceChildren();
  for (const arrow of step.arrows) {
    const from = layout.places.get(arrow.start), to = layout.places.get(arrow.end);
    if (!from || !to) continue;
    const around = isBetween(layout, from, to);
    const start = markedBox(from, ["read", "write"]), goal = markedBox(to, ["write", "read"]);
    const a = anchor(from, start, goal, around, layout.narrow), b = anchor(to, goal, start, around, layout.narrow);
    if (a.dy && b.dy) straighten(a, b, start, goal);
    const far = Math.hypot(a.x - b.x, a.y - b.y) / 2.5;
    const reach = a.dy && b.dy ? Math.abs(a.y - b.y) / 2 : Math.max(16, Math.min(90, far));
    const end = { x: b.x + b.dx * 9, y: b.y + b.dy * 9 };
    const edge = Math.max(...[...layout.places.values()].map(place => place.x + place.table));
    const under = around && hasRightNeighbour(layout, from, a.y); // then it leaves below
    if (under) Object.assign(a, { x: start.x + start.w / 2, y: tableOf(from).y + tableOf(from).h });
    const turn = { x: a.x, y: a.y + (under ? 7 : 0) };
    const column = [...layout.places.values()].map(tableOf).filter(t => t.x === tableOf(from).x); // past it before it bends
    const out = { x: a.dx > 0 ? Math.max(...column.map(t => t.x + t.w)) : a.x, y: a.y };
    const [p, q] = around ? [{ x: edge, y: turn.y }, { x: edge, y: end.y }] : [out, end];
    const bend = (at, d) => (around ? { x: edge + MARGIN * 1.2, y: at.y } : { x: at.x + d.dx * reach, y: at.y + d.dy * reach });
    const [c, d] = [bend(p, a), bend(q, b)];
    const way = [`M${a.x},${a.y} L${turn.x},${turn.y} L${p.x},${p.y}`,
      `C${c.x},${c.y} ${d.x},${d.y} ${q.x},${q.y} L${end.x},${end.y}`].join(" ");
    node("path", { class: `arrow ${arrow.style}`, d: way }, layer);
    const side = { x: -b.dy * 5, y: b.dx * 5 };
    node("path", { class: `head ${arrow.style}`, d: `M${b.x},${b.y} L${end.x + side.x},${end.y + side.y} `
      + `L${end.x - side.x},${end.y - side.y} Z` }, layer);
    if (arrow.label) {
      const parts = document.createElement("template");
      parts.innerHTML = arrow.label;
      const level = !around && !a.dy && Math.abs(p.y - q.y) < 10; // in its middle; else a third of the way, beside it
      const weights = level ? [0.125, 0.375, 0.375, 0.125] : [0.343, 0.441, 0.189, 0.027];
      const along = axis => [p, c, d, q].reduce((sum, point, i) => sum + weights[i] * point[axis], 0);
      const beside = level ? { x: 0, y: -5 } : { x: 30, y: p.y < q.y ? -6 : 16 };
      const shift = around ? { x: -26, y: -5 } : a.dy ? { x: 28, y: 9 } : beside;
      const text = node("text", { class: "arrow-label", x: along("x") + shift.x, y: along("y") + shift.y }, layer);
      for (const part of parts.content.childNodes)
        node("tspan", part.dataset ? { "data-ref": part.dataset.ref } : {}, text, part.textContent);
    }
  }
}

// The loss from above, as rings of equal height, and the points that were passed.
function drawValley(step, svg) {
  const { path = [], bowl } = step;
  svg.toggleAttribute("hidden", path.length === 0);
  svg.replaceChildren();
  if (!path.length) return;
  const w = 380, h = 230, reach = step.reach.map(value => value * 1.15);
  const x = value => w / 2 + value / reach[0] * (w / 2 - 14), y = value => h / 2 - value / reach[1] * (h / 2 - 14);
  for (const [name, value] of [["viewBox", `0 0 ${w} ${h}`], ["width", w], ["height", h]]) svg.setAttribute(name, value);
  const rim = (bowl[0] * reach[0] ** 2 + bowl[1] * reach[1] ** 2) / 2;
  for (let k = 1; k <= 8; k += 1) {
    const level = rim * (k / 8) ** 2;
    node("ellipse", { class: "ring", cx: x(0), cy: y(0), rx: x(Math.sqrt(2 * level / bowl[0])) - x(0),
      ry: y(0) - y(Math.sqrt(2 * level / bowl[1])) }, svg);
  }
  node("text", { x: w - 4, y: y(0) + 16, class: "size", "font-size": 13, "text-anchor": "end" }, svg, "w0 →");
  node("text", { x: x(0) + 5, y: 12, class: "size", "font-size": 13 }, svg, "↑ w1");
  node("polyline", { class: "way", points: path.map(p => `${x(p[0])},${y(p[1])}`).join(" ") }, svg);
  path.forEach((p, i) => {
    const last = i === path.length - 1;
    node("circle", { class: last ? "here" : "been", cx: x(p[0]), cy: y(p[1]), r: last ? 6 : 4 }, svg);
    const side = x(p[0]) > w * 0.8 ? { x: x(p[0]) - 9, "text-anchor": "end" } : { x: x(p[0]) + 8 };
    node("text", { class: "label", ...side, y: y(p[1]) - 7, "font-size": 13 }, svg, i === 0 ? "start" : i);
  });
}

// What is left of the window's height for a picture, above the controls and below a text of three lines.
function heightLeft() {
  const top = document.getElementById("stage").getBoundingClientRect().top + window.scrollY;
  return window.innerHeight - document.getElementById("controls").offsetHeight - top - 225;
}

// Draws a step into the page's <svg>; `keep` lets the marks glide from where they were.
function drawPicture(step, longest, keep) {
  drawValley(step, document.getElementById("valley"));
  const frame = document.getElementById("picture"), svg = document.getElementById("svg");
  const width = Math.max(280, frame.clientWidth - 4), height = Math.max(260, heightLeft());
  const gap = width > 480 && step.arrows.some(arrow => arrow.label) ? 64 : 0; // room for the numbers on the arrows
  const layout = fit(step.groups, width, height, longest, gap);
  const w = Math.max(layout.w + 6, 10), h = Math.max(layout.h + 8, 10);
  svg.setAttribute("viewBox", `-3 -3 ${w} ${h}`);
  svg.setAttribute("width", w);
  svg.setAttribute("height", h);
  const cells = document.getElementById("cells"), texts = document.getElementById("texts");
  cells.replaceChildren();
  texts.replaceChildren();
  for (const place of layout.places.values()) drawPanel(place, layout.f, cells, texts);
  drawMarks(layout, document.getElementById("marks"), keep);
  drawArrows(step, layout, document.getElementById("arrows"));
  const marks = [...document.querySelectorAll("#marks .write")].map(mark => Number(mark.getAttribute("x")));
  if (marks.length && w > frame.clientWidth) frame.scrollLeft = Math.min(...marks) - frame.clientWidth / 2;
}
