"use strict";
// Draws the picture of a step: tables of numbers in groups, marks on their cells, arrows between the marks.

const SVG = "http://www.w3.org/2000/svg";

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
    const stacked = width > 480 || group.length === 1;
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
  let best = null;
  for (let f = 26; width > 480 && f >= 11; f -= 0.5) { // all groups in one line, if they need not be small for it
    const layout = layOut(groups, f, width, longest, gap, false);
    layout.f = f;
    if (layout.w <= width && layout.h <= height) return layout;
  }
  for (let f = 26; f >= 10; f -= 0.5) {
    const layout = layOut(groups, f, width, longest, gap);
    layout.f = f;
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

// Where an arrow touches a table: at its edge, level with the marked cells; a marked column is met from above or below.
function anchor(place, kinds, other) {
  const { panel } = place;
  const { rows } = DATA.planes[panel.plane];
  const all = [0, 0, rows.length, rows[0].length];
  const table = boxOf(place, all);
  const boxes = (kinds.map(kind => panel[kind]).find(list => list.length) || [all]).map(cells => boxOf(place, cells));
  const x = Math.min(...boxes.map(b => b.x)), right = Math.max(...boxes.map(b => b.x + b.w));
  const y = Math.min(...boxes.map(b => b.y)), bottom = Math.max(...boxes.map(b => b.y + b.h));
  const beside = other.x > table.x + table.w || other.x + other.w < table.x;
  const column = rows.length > 1 && bottom - y >= table.h - 1 && right - x < table.w - 1;
  if (beside && !column)
    return other.x > table.x ? { x: table.x + table.w, y: (y + bottom) / 2, dx: 1, dy: 0 }
      : { x: table.x, y: (y + bottom) / 2, dx: -1, dy: 0 };
  if (other.y + other.h / 2 > table.y + table.h / 2) return { x: (x + right) / 2, y: table.y + table.h, dx: 0, dy: 1 };
  return { x: (x + right) / 2, y: table.y - place.top, dx: 0, dy: -1 };
}

function drawArrows(step, layout, layer) {
  layer.replaceChildren();
  for (const arrow of step.arrows) {
    const from = layout.places.get(arrow.start), to = layout.places.get(arrow.end);
    if (!from || !to) continue;
    const table = p => boxOf(p, [0, 0, DATA.planes[p.panel.plane].rows.length, DATA.planes[p.panel.plane].rows[0].length]);
    const a = anchor(from, ["read", "write"], table(to)), b = anchor(to, ["write", "read"], table(from));
    const reach = Math.max(16, Math.min(90, Math.hypot(a.x - b.x, a.y - b.y) / 2.5));
    const end = { x: b.x + b.dx * 9, y: b.y + b.dy * 9 };
    node("path", { class: `arrow ${arrow.style}`, d: `M${a.x},${a.y} C${a.x + a.dx * reach},${a.y + a.dy * reach} `
      + `${end.x + b.dx * reach},${end.y + b.dy * reach} ${end.x},${end.y}` }, layer);
    const side = { x: -b.dy * 5, y: b.dx * 5 };
    node("path", { class: `head ${arrow.style}`, d: `M${b.x},${b.y} L${end.x + side.x},${end.y + side.y} `
      + `L${end.x - side.x},${end.y - side.y} Z` }, layer);
    if (arrow.label) {
      const parts = document.createElement("template");
      parts.innerHTML = arrow.label;
      const along = (p, q, dp, dq) => 0.343 * p + 0.441 * (p + dp * reach) + 0.189 * (q + dq * reach) + 0.027 * q; // a third of the way
      const text = node("text", { class: "arrow-label", x: along(a.x, end.x, a.dx, b.dx), y: along(a.y, end.y, a.dy, b.dy) - 5 },
        layer);
      for (const part of parts.content.childNodes)
        node("tspan", part.dataset ? { "data-ref": part.dataset.ref } : {}, text, part.textContent);
    }
  }
}

// Draws a step into the page's <svg>; `keep` lets the marks glide from where they were.
function drawPicture(step, longest, keep) {
  const frame = document.getElementById("picture"), svg = document.getElementById("svg");
  const width = Math.max(280, frame.clientWidth - 4), height = Math.max(300, window.innerHeight * 0.55);
  const gap = step.arrows.some(arrow => arrow.label) ? 64 : 0; // room for the numbers on the arrows
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
}
