// The first view: search, filters, table and plots, all of the same rows.

import { announce, copyText, el, later, number, plural } from "./dom.js";
import { columnChooser, csvOf, shownColumns } from "./columns.js";
import { FilterBar, foundMask } from "./filters.js";
import { overview } from "./overview.js";
import { PlainTable } from "./plain_table.js";
import { Plots } from "./plots.js";
import { artifactHash } from "./state.js";
import { RichTable } from "./table.js";

/** What the table depends on. */
function keyOf(state) {
  return JSON.stringify([state.q, state.filters, state.sort, state.shown, state.page]);
}

/** Head, filters, table and plots. */
export class Explorer {
  /**
   * @param {Grid} grid the table
   * @param {Store} store the state
   * @param {function(number)} open opens the artifact of a row
   */
  constructor(grid, store, open) {
    Object.assign(this, { grid, store, open });
    const hooks = { address: (row) => artifactHash(grid.id(row)), onSort: (sort) => this.noted({ sort, page: 0 }), onPage: (page) => this.noted({ page }) };
    this.filters = new FilterBar(grid, store);
    this.plots = new Plots(grid, store, open);
    this.table = new (globalThis.DataTable ? RichTable : PlainTable)(grid, store.state, hooks);
    this.count = el("p", { class: "count-line", id: "count" });
    this.node = el("div", {}, overview(grid, hooks.address), this.work());
    this.table.host.addEventListener("click", (event) => this.clicked(event));
    this.table.host.addEventListener("keydown", (event) => this.moved(event));
    this.tell = later(700, () => announce(this.count.textContent));
  }

  work() {
    const search = el("input", { type: "search", id: "search", placeholder: "Search ids, sites, architectures…", "aria-label": "Search artifacts", autocomplete: "off", spellcheck: "false" });
    search.addEventListener("input", () => this.store.update({ q: search.value, page: 0 }));
    this.search = search;
    const copy = el("button", { type: "button", class: "quiet", id: "copy-csv" }, "Copy CSV");
    copy.addEventListener("click", () => this.copied(copy, this.csv(), "the rows"));
    const share = el("button", { type: "button", class: "quiet", id: "copy-view" }, "Copy link");
    share.addEventListener("click", () => this.copied(share, location.href, "the address of this view"));
    const save = el("button", { type: "button", class: "quiet", id: "save-csv" }, "Save CSV");
    save.addEventListener("click", () => this.saved());
    const bar = el("div", { class: "toolbar" }, el("div", { class: "search" }, search, el("kbd", { "aria-hidden": "true" }, "/")), columnChooser(this.grid, this.store), copy, save, share);
    const left = el("div", { class: "left" }, this.count, this.table.host);
    const beside = this.plots.usable && this.plots.node.childElementCount > 0;
    return el("section", { class: "work", "aria-labelledby": "artifacts-title" }, el("h2", { id: "artifacts-title" }, "Artifacts"), bar, this.filters.node, el("div", { class: beside ? "split" : "" }, left, beside ? this.plots.node : null));
  }

  /** Draw the table for the first time; the view stands in the page now. */
  start() {
    this.search.value = this.store.state.q;
    this.table.start(foundMask(this.grid, this.store.state));
    this.last = keyOf(this.store.state);
    this.counted();
  }

  /** Follow the state. */
  show(state) {
    const table = keyOf(state);
    if (document.activeElement !== this.search) this.search.value = state.q;
    if (table === this.last) return;
    this.last = table;
    this.filters.show(state);
    this.table.apply(state, foundMask(this.grid, state));
    this.counted();
  }

  /** Take down what the table did by itself: it is not told of it again. */
  noted(patch) {
    if (this.table instanceof RichTable) this.last = keyOf({ ...this.store.state, ...patch });
    this.store.update(patch);
  }

  counted() {
    this.rows = this.table.found();
    this.count.textContent = this.rows.length === this.grid.rows ? plural(this.grid.rows, "artifact") : `${number(this.rows.length)} of ${plural(this.grid.rows, "artifact")}`;
    this.tell?.();
    this.plots.show(this.rows);
  }

  /** The rows that are found, in the order of the table. */
  found() {
    return this.table.found();
  }

  csv() {
    return csvOf(this.grid, shownColumns(this.grid, this.store.state), this.found());
  }

  async copied(button, text, what) {
    const label = button.dataset.label ?? (button.dataset.label = button.textContent);
    const done = await copyText(text);
    button.textContent = done ? "Copied" : "Not allowed";
    announce(done ? `Copied ${what}` : "The browser does not allow copying");
    setTimeout(() => (button.textContent = label), 1500);
  }

  saved() {
    const address = URL.createObjectURL(new Blob([this.csv()], { type: "text/csv" }));
    el("a", { href: address, download: "artifacts.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  clicked(event) {
    const row = event.target.closest("tbody tr")?.querySelector("a[data-row]");
    if (row && !event.target.closest("a, button") && !String(getSelection())) this.open(Number(row.dataset.row));
  }

  moved(event) {
    const way = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
    if (!way || event.ctrlKey || event.metaKey || event.altKey || !event.target.closest("tbody")) return;
    const links = [...this.table.host.querySelectorAll("tbody a[data-row]")];
    const at = links.indexOf(document.activeElement.closest("tr")?.querySelector("a[data-row]"));
    links[Math.max(0, Math.min(links.length - 1, at + way))]?.focus();
    event.preventDefault();
  }
}
