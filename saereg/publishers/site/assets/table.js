// The table of all artifacts, by DataTables.

import { el, number } from "./dom.js";
import { shownColumns } from "./columns.js";

const PAGE_ROWS = 25;

/** The cell of a value: a text node, so that nothing in it is ever read as HTML. */
export function cellOf(column, row, address) {
  const value = column.value(row);
  if (column.name === "id") return el("a", { href: address(row), "data-row": row }, el("bdi", { dir: "auto" }, value));
  if (column.name === "canonical") return document.createTextNode(value === "yes" ? "✓" : "");
  if (column.name === "golden" || column.name === "claims") return el("span", { class: `word ${wordKind(value)}` }, value);
  return document.createTextNode(value === null ? "–" : number(value));
}

/** How good a word of the evidence is. */
export function wordKind(word) {
  if (word === "verified" || word === "replays") return "good";
  return word === "differs" ? "bad" : "dim";
}

/** Order of numbers in which absent ones come last, whichever way it goes. */
function inOrder(sign) {
  return (a, b) => Number.isNaN(a) - Number.isNaN(b) || sign * (a - b) || 0;
}

/** DataTables around the rows. */
export class RichTable {
  /**
   * @param {Grid} grid the table
   * @param {Object} state the state at first
   * @param {{address: function(number): string, onSort: function, onPage: function}} hooks who wants to know
   */
  constructor(grid, state, hooks) {
    Object.assign(this, { grid, hooks, mask: null, quiet: true });
    const kind = globalThis.DataTable;
    kind.ext.errMode = "throw";
    kind.ext.type.order["ranked-asc"] = inOrder(1);
    kind.ext.type.order["ranked-desc"] = inOrder(-1);
    const caption = el("caption", { class: "hidden" }, "Artifacts of the release");
    kind.ext.search.push((settings, _, __, [row]) => settings.nTable !== this.element || this.mask[row] === 1);
    this.element = el("table", { class: "rows", id: "artifacts" }, caption);
    this.node = el("div", { class: "scroll", id: "table-scroll" }, this.element);
    this.host = el("div", { class: "table" }, this.node);
    this.shown = new Set(shownColumns(grid, state));
    this.options = this.settings(state);
  }

  settings(state) {
    const { grid } = this;
    return {
      data: Array.from({ length: grid.rows }, (_, row) => [row]),
      columns: grid.columns.map((column) => this.definition(column)),
      order: state.sort.filter(([name]) => grid.column(name)).map(([name, way]) => [this.position(name), way]),
      layout: { topStart: null, topEnd: null, bottomStart: grid.rows > PAGE_ROWS ? "info" : null, bottomEnd: grid.rows > PAGE_ROWS ? { paging: { buttons: 5 } } : null },
      displayStart: state.page * PAGE_ROWS,
      pageLength: PAGE_ROWS,
      autoWidth: false,
      deferRender: true,
      orderMulti: true,
      language: { info: "_START_ to _END_ of _TOTAL_", infoFiltered: "", infoEmpty: "none", emptyTable: "The release has no artifacts.", zeroRecords: "No artifact meets the search and every filter." },
    };
  }

  definition(column) {
    const { hooks } = this;
    return {
      title: column.label,
      name: column.name,
      type: "ranked",
      visible: this.shown.has(column.name),
      searchable: false,
      orderSequence: column.metric && !column.smaller ? ["desc", "asc", ""] : ["asc", "desc", ""],
      className: column.numeric ? "number" : column.name === "id" ? "id" : "",
      data: ([row], type) => {
        if (type === "display") return cellOf(column, row, hooks.address);
        return column.rank(row);
      },
    };
  }

  position(name) {
    return this.grid.columns.findIndex((column) => column.name === name);
  }

  /** Draw it for the first time; it stands in the page now. */
  start(mask) {
    this.mask = mask;
    this.api = new globalThis.DataTable(this.element, this.options);
    this.quiet = false;
    this.api.on("order.dt", () => this.quiet || this.hooks.onSort(this.sorted()));
    this.api.on("page.dt", () => this.quiet || this.hooks.onPage(this.api.page()));
    const foot = this.host.querySelector(".dt-container > :last-child");
    if (foot && !foot.contains(this.element)) foot.classList.add("foot");
  }

  sorted() {
    return this.api.order().filter(([, way]) => way).map(([at, way]) => [this.grid.columns[at].name, way]);
  }

  /** Follow the state. */
  apply(state, mask) {
    this.quiet = true;
    this.mask = mask;
    const shown = new Set(shownColumns(this.grid, state));
    for (const [at, column] of this.grid.columns.entries()) {
      if (shown.has(column.name) !== this.shown.has(column.name)) this.api.column(at).visible(shown.has(column.name), false);
    }
    this.shown = shown;
    const order = state.sort.filter(([name]) => this.grid.column(name)).map(([name, way]) => [this.position(name), way]);
    if (JSON.stringify(order) !== JSON.stringify(this.api.order().filter(([, way]) => way).map(([at, way]) => [at, way]))) this.api.order(order);
    this.api.draw();
    if (state.page) this.api.page(Math.min(state.page, Math.max(0, this.api.page.info().pages - 1))).draw("page");
    this.quiet = false;
  }

  /** The rows that are found, in their order. */
  found() {
    return this.api.rows({ search: "applied", order: "applied" }).indexes().toArray();
  }
}
