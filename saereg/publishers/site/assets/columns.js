// Which columns the table shows, and its rows as text for a spreadsheet.

import { el, fill } from "./dom.js";

/** The names of the columns that are shown. */
export function shownColumns(grid, state) {
  const wanted = state.shown?.filter((name) => grid.column(name));
  return wanted?.length ? wanted : grid.columns.filter((column) => column.shown).map((column) => column.name);
}

/** A panel in which columns are chosen. */
export function columnChooser(grid, store) {
  const body = el("div", { class: "panel" });
  const node = el("details", { class: "filter", id: "columns" }, el("summary", {}, "Columns"), body);
  const draw = () => {
    const shown = new Set(shownColumns(grid, store.state));
    const boxes = grid.columns.filter((column) => column.name !== "id").map((column) => {
      const box = el("input", { type: "checkbox" });
      box.checked = shown.has(column.name);
      box.addEventListener("change", () => {
        if (box.checked) shown.add(column.name);
        else shown.delete(column.name);
        const ordered = grid.columns.filter((one) => shown.has(one.name)).map((one) => one.name);
        store.update({ shown: ordered });
      });
      return el("label", {}, box, el("span", {}, column.label), column.label === column.name.replaceAll("_", " ") ? null : el("span", { class: "count" }, column.name));
    });
    const reset = el("button", { type: "button", class: "quiet" }, "Those of the beginning");
    reset.addEventListener("click", () => {
      store.update({ shown: null });
      draw();
    });
    fill(body, el("div", { class: "choices" }, boxes), reset);
  };
  node.addEventListener("toggle", () => node.open && draw());
  document.addEventListener("click", (event) => {
    if (!node.contains(event.target)) node.open = false;
  });
  return node;
}

/** A value as CSV has it (RFC 4180); a text that a spreadsheet would run as a formula is quoted as text. */
export function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Rows of the table as CSV, with the names of the fields. */
export function csvOf(grid, names, rows) {
  const columns = names.map((name) => grid.column(name));
  const lines = [names.join(",")];
  for (const row of rows) lines.push(columns.map((column) => csvCell(column.value(row))).join(","));
  return `${lines.join("\r\n")}\r\n`;
}
