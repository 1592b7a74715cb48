// The page's side of the worker: start it, have it do one thing at a time, stop it.

export class Engine {
  // told(message): what the worker says of itself (loading, stage, ready, broken).
  constructor(told) {
    this.told = told;
    this.job = null;
    this.start();
  }

  start() {
    this.ready = new Promise((resolve) => (this.isReady = resolve));
    // A byte of its own for each worker: an interrupt that the last one did not hear must not reach this one.
    this.shared = self.crossOriginIsolated ? new Uint8Array(new SharedArrayBuffer(1)) : null;
    this.worker = new Worker(new URL("worker.js", import.meta.url));
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = (error) => this.hear({ event: "broken", text: error.message || "the worker ended" });
    this.worker.postMessage({ do: "start", interrupts: this.shared });
  }

  hear(message) {
    if (message.event === "ready") this.isReady();
    if (["loading", "stage", "ready"].includes(message.event)) return this.told(message);
    if (message.event === "broken") return this.broke(message.text);
    this.job?.told(message);
    if (message.event === "done") this.finish(message);
  }

  // Runs {do: "run" | "check", ...}; told(message) hears what it prints and shows. Resolves with the last message.
  async run(work, told) {
    if (this.job) throw new Error("one program at a time");
    const job = { told };
    this.job = job;
    job.over = new Promise((resolve) => (job.resolve = resolve));
    await Promise.race([this.ready, job.over]);
    if (this.job === job) {
      if (this.shared) this.shared[0] = 0;
      this.worker.postMessage(work);
    }
    return job.over;
  }

  finish(message) {
    const job = this.job;
    this.job = null;
    clearTimeout(this.patience);
    job?.resolve(message);
  }

  // Interrupts the program as Ctrl-C does. One that does not hear it, or cannot, loses its Python.
  stop() {
    if (!this.job) return;
    if (this.shared) {
      this.shared[0] = 2;
      this.patience = setTimeout(() => this.restart(), 2000);
    } else {
      this.restart();
    }
  }

  restart() {
    this.worker.terminate();
    const job = this.job;
    const message = { event: "done", stopped: true, restarted: true };
    job?.told(message);
    this.finish(message);
    this.start();
  }

  broke(text) {
    this.told({ event: "broken", text });
    if (!this.job) return; // it could not even start
    this.job.told({ event: "error", text: `Python itself gave up: ${text}` });
    this.restart();
  }
}
