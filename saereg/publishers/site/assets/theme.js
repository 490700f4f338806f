// Light and dark: as the system has it, until the reader chooses.

import { el } from "./dom.js";

const dim = matchMedia("(prefers-color-scheme: dark)");
const watchers = [];

/** Whether the page is dark now. */
export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : dim.matches;
}

/** Call a function when the page becomes dark or light. */
export function onTheme(watcher) {
  watchers.push(watcher);
}

function themeChanged() {
  document.documentElement.classList.toggle("dark", isDark());
  for (const watcher of watchers) watcher(isDark());
}

/** The button that changes between them, and remembers it. */
export function themeButton() {
  const button = el("button", { type: "button", class: "quiet", id: "theme" });
  const label = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Change to light colours" : "Change to dark colours");
  };
  button.addEventListener("click", () => {
    const chosen = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try {
      localStorage.setItem("saereg-theme", chosen);
    } catch {
      // It holds for this visit then.
    }
    themeChanged();
  });
  dim.addEventListener("change", themeChanged);
  onTheme(label);
  themeChanged();
  return button;
}
