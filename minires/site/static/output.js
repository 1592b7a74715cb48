// What a program prints and shows, on the page. One Output is one region below an editor.

const element = (tag, attributes = {}, text = "") => Object.assign(document.createElement(tag), attributes, { textContent: text });

export class Output {
  constructor(region) {
    this.region = region;
    this.clear();
  }

  clear() {
    this.region.replaceChildren();
    this.pictures = new Map();
    this.bar = null;
  }

  tell(message) {
    const show = this[`show_${message.event}`];
    if (show) show.call(this, message);
  }

  add(node) {
    if (this.bar) this.bar.before(node);
    else this.region.append(node);
    return node;
  }

  show_text({ to, text }) {
    const last = this.bar ? this.bar.previousElementSibling : this.region.lastElementChild;
    const pre = last?.classList.contains(to) ? last : this.add(element("pre", { className: to, tabIndex: 0 }));
    pre.setAttribute("aria-label", to === "stderr" ? "warnings" : "printed");
    pre.append(text);
  }

  show_figure({ number, png, text }) {
    let image = this.pictures.get(number);
    if (!image) {
      image = this.add(element("img", { className: "figure" }));
      if (number) this.pictures.set(number, image);
    }
    image.src = `data:image/png;base64,${png}`;
    image.alt = text;
  }

  // A page of its own, on white paper like the figures, in a frame that cannot reach this page.
  show_html({ html, title }) {
    const frame = element("iframe", { title, className: "made" });
    frame.setAttribute("sandbox", "allow-scripts");
    frame.srcdoc = `<!doctype html><html lang="en"><meta charset="utf-8"><title>${title}</title>
      <style>body { margin: 0; padding: .7rem; font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff }</style>
      ${html}
      <script>new ResizeObserver(() => parent.postMessage({ height: document.documentElement.scrollHeight }, "*"))
      .observe(document.body)</script>`;
    addEventListener("message", ({ source, data }) => {
      if (source === frame.contentWindow && data.height) frame.style.height = `${Math.min(data.height + 4, 4000)}px`;
    });
    this.add(frame);
  }

  show_progress({ done, of, text }) {
    if (!this.bar) {
      this.bar = element("p", { className: "progress" });
      this.bar.append(element("progress"), element("span"));
      this.bar.firstChild.setAttribute("aria-label", "progress");
      this.region.append(this.bar);
    }
    Object.assign(this.bar.firstChild, { value: done, max: of });
    this.bar.lastChild.textContent = text;
  }

  show_verdict({ verdict, sentence, hint, notes = [] }) {
    const box = element("section", { className: `verdict ${verdict}` });
    box.append(element("h3", {}, verdict));
    if (sentence) box.append(element("p", { className: "sentence" }, sentence));
    if (hint) box.append(element("p", { className: "hint" }, `Hint: ${hint}`));
    for (const note of notes) box.append(element("p", { className: "note" }, `Note: ${note}`));
    this.add(box);
  }

  show_error({ text }) {
    this.add(element("pre", { className: "error", role: "alert", tabIndex: 0 }, text));
  }

  show_done({ stopped, restarted, seconds }) {
    this.bar?.remove();
    this.bar = null;
    const how = restarted ? "Stopped; Python starts anew." : stopped ? "Stopped." : "Done.";
    this.add(element("p", { className: "done" }, seconds === undefined ? how : `${how} ${seconds.toFixed(1)} s`));
  }
}
