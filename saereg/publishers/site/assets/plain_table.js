// The table where DataTables is not in the page: the same rows, words and order, drawn by a few lines.

import { el, fill, plural } from "./dom.js";
import { shownColumns } from "./columns.js";
import { cellOf } from "./table.js";

const MOST_ROWS = 200;

/** Rows in a plain table; it shows the first MOST_ROWS that are found. */
export class PlainTable {
  /** As RichTable. */
  constructor(grid, state, hooks) {
    Object.assign(this, { grid, hooks, state });
    this.element = el("table", { class: "rows", id: "artifacts" });
    this.host = el("div", { class: "table" }, el("div", { class: "scroll" }, this.element));
    this.note = el("p", { class: "dim" });
    this.host.append(this.note);
  }

  /** Draw it for the first time. */
  start(mask) {
    this.apply(this.state, mask);
  }

  /** Follow the state. */
  apply(state, mask) {
    Object.assign(this, { state, mask });
    const columns = shownColumns(this.grid, state).map((name) => this.grid.column(name));
    const rows = this.found();
    const heads = columns.map((column) => {
      const way = state.sort[0]?.[0] === column.name ? state.sort[0][1] : null;
      const button = el("button", { type: "button", class: "quiet" }, column.label, way ? (way === "asc" ? " ↑" : " ↓") : "");
      button.addEventListener("click", () => this.hooks.onSort([[column.name, way === "asc" ? "desc" : "asc"]]));
      return el("th", { scope: "col", "aria-sort": way ? `${way}ending` : "none" }, button);
    });
    const side = (column) => (column.numeric ? { class: "number" } : {});
    const body = rows.slice(0, MOST_ROWS).map((row) => el("tr", {}, columns.map((column) => el("td", side(column), cellOf(column, row, this.hooks.address)))));
    fill(this.element, el("caption", { class: "hidden" }, "Artifacts of the release"), el("thead", {}, el("tr", {}, heads)), el("tbody", {}, body));
    this.note.textContent = rows.length > MOST_ROWS ? `The first ${MOST_ROWS} of ${plural(rows.length, "artifact")}; filters find the others.` : plural(rows.length, "artifact");
  }

  /** The rows that are found, in their order. */
  found() {
    const rows = [];
    for (let row = 0; row < this.grid.rows; row++) if (this.mask[row]) rows.push(row);
    for (const [name, way] of [...this.state.sort].reverse()) {
      const column = this.grid.column(name);
      const sign = way === "desc" ? -1 : 1;
      if (column) rows.sort((a, b) => Number.isNaN(column.rank(a)) - Number.isNaN(column.rank(b)) || sign * (column.rank(a) - column.rank(b)) || 0);
    }
    return rows;
  }
}
