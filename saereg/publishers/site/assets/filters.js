// Filters above the table: each a small panel with values to choose from, or bounds of a number.

import { append, el, fill, later, number } from "./dom.js";
import { isRange } from "./state.js";

/** Fields that have a panel of their own, where artifacts differ in them; any other can be added. */
const OFFERED = ["kind", "architecture", "site", "layer", "step", "snapshot", "variant", "d_sae", "seed",
  "explained_variance", "l0", "canonical", "claims", "golden", "withdrawn"];

const MOST_CHOICES = 200;
const FEW_CHOICES = 40;

/**
 * Which rows meet every filter.
 * @param {Grid} grid the table
 * @param {Object} filters name → filter
 * @param {string} [but] a filter that is not looked at
 * @returns {Uint8Array} 1 for each row that does
 */
export function maskOf(grid, filters, but) {
  const mask = new Uint8Array(grid.rows).fill(1);
  for (const [name, filter] of Object.entries(filters)) {
    const column = grid.column(name);
    if (!column || name === but) continue;
    const wanted = filter.in ? new Set(filter.in.map((value) => (value === null ? null : String(value)))) : null;
    const [low, high] = [filter.min ?? -Infinity, filter.max ?? Infinity];
    for (let row = 0; row < grid.rows; row++) {
      const value = column.value(row);
      if (wanted && !wanted.has(value === null ? null : String(value))) mask[row] = 0;
      else if (isRange(filter) && !(value !== null && value >= low && value <= high)) mask[row] = 0;
    }
  }
  return mask;
}

/**
 * Which rows hold every word of a search, in the texts of any columns; capital letters do not matter.
 * @param {Grid} grid the table
 * @param {string} query words
 * @returns {Uint8Array} 1 for each row that does
 */
export function searchMask(grid, query) {
  const mask = new Uint8Array(grid.rows).fill(1);
  const texts = grid.columns.filter((column) => !column.numeric && column.distinct > 1);
  for (const word of query.toLowerCase().split(/\s+/).filter(Boolean)) {
    const found = new Uint8Array(grid.rows);
    for (const column of texts) {
      const hit = column.small().map((text) => text.includes(word));
      if (hit.includes(true)) for (let row = 0; row < grid.rows; row++) if (hit[column.codes[row]]) found[row] = 1;
    }
    for (let row = 0; row < grid.rows; row++) mask[row] &= found[row];
  }
  return mask;
}

/** Which rows meet the search and every filter of a state. */
export function foundMask(grid, state) {
  const mask = maskOf(grid, state.filters);
  if (!state.q) return mask;
  const found = searchMask(grid, state.q);
  for (let row = 0; row < grid.rows; row++) mask[row] &= found[row];
  return mask;
}

/** A filter in words, or null where it filters nothing. */
export function filterWords(column, filter) {
  const words = [];
  if (filter.in) words.push(filter.in.length > 2 ? `${filter.in.length} of ${column.distinct}` : filter.in.map((v) => v ?? "none").join(", "));
  const [low, high] = [filter.min ?? null, filter.max ?? null];
  if (low !== null && high !== null) words.push(`${number(low)} to ${number(high)}`);
  else if (low !== null) words.push(`≥ ${number(low)}`);
  else if (high !== null) words.push(`≤ ${number(high)}`);
  return words.length ? words.join("; ") : null;
}

/** The row of panels. */
export class FilterBar {
  /**
   * @param {Grid} grid the table
   * @param {Store} store the state
   */
  constructor(grid, store) {
    Object.assign(this, { grid, store, panels: new Map() });
    this.node = el("div", { class: "filters", role: "group", "aria-label": "Filters" });
    this.more = el("select", { class: "quiet", "aria-label": "Filter by another field" });
    this.more.addEventListener("change", () => this.add(this.more.value, true));
    this.clear = el("button", { type: "button", class: "quiet" }, "Clear filters");
    this.clear.addEventListener("click", () => store.update({ filters: {}, q: "", page: 0 }));
    this.node.append(this.more, this.clear);
    for (const name of OFFERED) {
      const column = grid.column(name);
      if (column && isUseful(column)) this.add(name);
    }
    document.addEventListener("click", (event) => this.closeOthers(event.target));
    this.show(store.state);
  }

  /** Add the panel of a field, and open it where that is wanted. */
  add(name, open = false) {
    if (!name || this.panels.has(name)) return;
    const panel = new Panel(this.grid, this.store, this.grid.column(name));
    this.panels.set(name, panel);
    this.node.insertBefore(panel.node, this.more);
    const rest = this.grid.columns.filter((column) => !this.panels.has(column.name) && isUseful(column));
    fill(this.more, el("option", { value: "" }, "More…"), rest.map((column) => el("option", { value: column.name }, column.label)));
    this.more.hidden = rest.length === 0;
    if (open) {
      panel.node.open = true;
      panel.node.querySelector("summary").focus();
    }
  }

  /** Show what is filtered. */
  show(state) {
    for (const name of Object.keys(state.filters)) if (this.grid.column(name)) this.add(name);
    for (const panel of this.panels.values()) panel.show(state);
    this.clear.hidden = !state.q && Object.keys(state.filters).length === 0;
  }

  /** Close every panel but that which an event is in; whether one was open. */
  closeOthers(target) {
    let closed = false;
    for (const panel of this.panels.values()) {
      if (panel.node.open && !(target && panel.node.contains(target))) {
        panel.node.open = false;
        closed = panel;
      }
    }
    if (closed && !target) closed.node.querySelector("summary").focus();
    return Boolean(closed);
  }
}

function isUseful(column) {
  return column.name !== "id" && column.distinct > 1 && (column.numeric || column.distinct <= MOST_CHOICES);
}

/** The panel of one field. */
class Panel {
  constructor(grid, store, column) {
    Object.assign(this, { grid, store, column });
    this.summary = el("summary", {});
    this.body = el("div", { class: "panel" });
    this.node = el("details", { class: "filter", "data-field": column.name }, this.summary, this.body);
    this.node.addEventListener("toggle", () => this.node.open && this.draw());
    this.bounds = later(250, () => this.set(this.readBounds()));
  }

  filter() {
    return this.store.state.filters[this.column.name] ?? {};
  }

  show(state) {
    const words = filterWords(this.column, state.filters[this.column.name] ?? {});
    fill(this.summary, el("span", {}, this.column.label), words ? el("strong", {}, words) : null);
    this.node.classList.toggle("active", words !== null);
    if (this.node.open && !this.node.contains(document.activeElement)) this.draw();
  }

  draw() {
    fill(this.body);
    if (this.column.numeric) this.drawBounds();
    if (!this.column.numeric || this.column.distinct <= FEW_CHOICES) this.drawChoices();
  }

  drawBounds() {
    const filter = this.filter();
    const known = this.column.values.filter((value) => value !== null);
    const [low, high] = [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
    const field = (end, label, place) => {
      const input = el("input", { type: "number", step: "any", placeholder: number(place), inputmode: "decimal" });
      input.value = filter[end] ?? "";
      input.addEventListener("input", this.bounds);
      this[end] = input;
      return el("label", {}, el("span", {}, label), input);
    };
    this.body.append(el("div", { class: "bounds" }, field("min", "at least", low), field("max", "at most", high)));
  }

  readBounds() {
    const read = (input) => (input.value === "" || !Number.isFinite(input.valueAsNumber) ? null : input.valueAsNumber);
    return { ...this.filter(), min: read(this.min), max: read(this.max) };
  }

  drawChoices() {
    const chosen = new Set(this.filter().in ?? []);
    const counts = this.counts();
    const boxes = this.column.choices().map((value) => {
      const text = value === null ? null : String(value);
      const box = el("input", { type: "checkbox" });
      box.checked = chosen.has(text);
      box.addEventListener("change", () => this.choose(text, box.checked));
      const label = el("bdi", { class: value === null ? "none" : "" }, value === null ? "none" : number(value));
      return el("label", {}, box, label, el("span", { class: "count" }, counts.get(text) ?? 0));
    });
    append(this.body, el("div", { class: "choices" }, boxes));
  }

  counts() {
    const mask = maskOf(this.grid, this.store.state.filters, this.column.name);
    const counts = new Map();
    for (let row = 0; row < this.grid.rows; row++) {
      if (!mask[row]) continue;
      const value = this.column.value(row);
      const text = value === null ? null : String(value);
      counts.set(text, (counts.get(text) ?? 0) + 1);
    }
    return counts;
  }

  choose(text, wanted) {
    const chosen = new Set(this.filter().in ?? []);
    if (wanted) chosen.add(text);
    else chosen.delete(text);
    this.set({ ...this.filter(), in: chosen.size ? [...chosen] : undefined });
  }

  set(filter) {
    const filters = { ...this.store.state.filters };
    if (filter.in || isRange(filter)) filters[this.column.name] = filter;
    else delete filters[this.column.name];
    this.store.update({ filters, page: 0 });
  }
}
