// What every page does: the theme, and the second visit without a download.

const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const use = (theme) => (root.dataset.theme = theme ?? (dark.matches ? "dark" : "light"));

use(localStorage.getItem("theme"));
dark.addEventListener("change", () => use(localStorage.getItem("theme")));
document.getElementById("theme")?.addEventListener("click", () => {
  localStorage.setItem("theme", root.dataset.theme === "dark" ? "light" : "dark");
  use(localStorage.getItem("theme"));
});

if ("serviceWorker" in navigator) {
  navigator.serviceWorker.register(new URL("../service-worker.js", import.meta.url)).catch(() => {});
}
