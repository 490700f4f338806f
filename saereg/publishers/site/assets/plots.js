// Two plots beside the table, of the rows that it shows: one number against another, and a map of two fields.

import { el, fill, later, number, plural } from "./dom.js";
import { onTheme } from "./theme.js";
import { SMALL, draw, hasPlots } from "./vega.js";

const MOST_POINTS = 3000;
const MOST_CELLS = 60;
const ROW_FIELDS = ["layer", "site", "parameter", "kind", "d_sae", "architecture"];
const SIDE_FIELDS = ["snapshot", "step", "model_step", "architecture", "k", "variant", "d_sae", "l1_coefficient", "seed", "kind"];
const COLOUR_FIELDS = ["architecture", "layer", "kind", "d_sae", "site", "snapshot", "variant", "seed"];

/** At most so many rows, evenly spread in the order of a column. */
export function evenSample(rows, column, most = MOST_POINTS) {
  if (rows.length <= most) return rows;
  const ordered = [...rows].sort((a, b) => column.rank(a) - column.rank(b));
  return Array.from({ length: most }, (_, i) => ordered[Math.round((i * (ordered.length - 1)) / (most - 1))]);
}

function select(label, choices, chosen, onChange) {
  const made = el("select", { class: "quiet", "aria-label": label }, choices.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
  made.addEventListener("change", () => onChange(made.value));
  return made;
}

/** The two plots; where the page has none, a line that says so. */
export class Plots {
  /**
   * @param {Grid} grid the table
   * @param {Store} store the state
   * @param {function(number)} open opens the artifact of a row
   */
  constructor(grid, store, open) {
    Object.assign(this, { grid, store, open, rows: null, drawn: {} });
    this.scatter = figure("Numbers", "plot-scatter");
    this.map = figure("Map", "plot-map");
    this.node = el("div", { class: "plots" });
    this.numbers = grid.columns.filter((column) => column.numeric && column.metric && column.distinct > 0);
    this.usable = hasPlots && this.numbers.length >= 1 && grid.rows > 1;
    if (!this.usable) return;
    if (this.numbers.length >= 2) this.node.append(this.scatter.node);
    if (this.fields()) this.node.append(this.map.node);
    this.refresh = later(120, () => this.redraw());
    onTheme(() => this.rows && this.redraw(true));
  }

  /** Follow the rows that the table shows. */
  show(rows) {
    if (!this.usable) return;
    this.rows = rows;
    this.refresh();
  }

  async redraw(anew = false) {
    if (!this.node.isConnected) return;
    if (anew) this.drawn = {};
    try {
      if (this.scatter.node.isConnected) await this.drawScatter();
      if (this.map.node.isConnected) await this.drawMap();
    } catch (error) {
      fill(this.node, el("p", { class: "dim" }, `The plots cannot be drawn: ${error.message}`));
      this.usable = false;
    }
  }

  choice(name, among, fallback) {
    const wanted = this.store.state.plot[name];
    return among.some((column) => column.name === wanted) ? wanted : fallback;
  }

  set(name, value) {
    this.store.update({ plot: { ...this.store.state.plot, [name]: value } });
    this.refresh();
  }

  first(names, among) {
    return names.find((name) => among.some((column) => column.name === name)) ?? among[0].name;
  }

  axes() {
    const x = this.choice("x", this.numbers, this.first(["l0", "l0_per_source_mean"], this.numbers));
    const others = this.numbers.filter((column) => column.name !== x);
    const y = this.choice("y", this.numbers, this.first(["explained_variance", "fvu"], others));
    const colours = this.grid.columns.filter((column) => COLOUR_FIELDS.includes(column.name) && column.distinct > 1 && column.distinct <= 400);
    const colour = this.choice("colour", colours, COLOUR_FIELDS.find((name) => colours.some((column) => column.name === name)) ?? "");
    return { x, y, colour, colours };
  }

  async drawScatter() {
    const { grid } = this;
    const { x, y, colour, colours } = this.axes();
    const [xs, ys] = [grid.column(x), grid.column(y)];
    const fitting = this.rows.filter((row) => !Number.isNaN(xs.rank(row)) && !Number.isNaN(ys.rank(row)));
    const sample = evenSample(fitting, xs);
    const values = sample.map((row) => ({ row, id: grid.id(row), x: xs.rank(row), y: ys.rank(row), c: colour ? cellText(grid.column(colour).value(row)) : "" }));
    const told = [`${plural(fitting.length, "artifact")}, as in the table`];
    if (sample.length < fitting.length) told.push(`${sample.length.toLocaleString("en-US")} of them drawn, evenly spread over ${xs.label}`);
    if (fitting.length < this.rows.length) told.push(`${this.rows.length - fitting.length} without both numbers`);
    this.scatter.note.textContent = `${told.join("; ")}. A click opens one, a dragged box filters.`;
    const log = isLog(values.map((value) => value.x));
    const key = JSON.stringify([x, y, colour, log]);
    if (this.drawn.scatter?.key === key) {
      await this.drawn.scatter.view.data("rows", values).runAsync();
      return;
    }
    const names = this.numbers.map((column) => [column.name, column.label]);
    fill(this.scatter.head, el("h3", {}, select("Vertical number", names, y, (value) => this.set("y", value)), " over ", select("Horizontal number", names, x, (value) => this.set("x", value))),
      colours.length ? el("label", {}, "colour ", select("Colour of points", [["", "none"], ...colours.map((c) => [c.name, c.label])], colour, (value) => this.set("colour", value))) : null);
    const view = await draw(this.scatter.host, scatterSpec(values, xs.label, ys.label, colour && grid.column(colour).label, log), { renderer: "canvas" });
    view.addEventListener("click", (_, item) => item?.datum?.id !== undefined && this.open(item.datum.row));
    const zoom = later(300, (box) => this.zoom(x, y, box));
    view.addSignalListener("box", (_, box) => box.x && box.y && zoom(box));
    this.drawn.scatter = { key, view };
  }

  zoom(x, y, box) {
    if (!box.x || box.x[0] === box.x[1]) return;
    const range = ([a, b]) => ({ min: short(Math.min(a, b)), max: short(Math.max(a, b)) });
    const filters = { ...this.store.state.filters, [x]: range(box.x), [y]: range(box.y) };
    this.drawn.scatter = null;
    this.store.update({ filters, page: 0 });
  }

  /** The fields of the map: two in which artifacts differ, not too many of either. */
  fields() {
    const fit = (name) => {
      const column = this.grid.column(name);
      return column && column.distinct > 1 && column.distinct <= MOST_CELLS ? column : null;
    };
    const down = ROW_FIELDS.map(fit).filter(Boolean);
    const side = SIDE_FIELDS.map(fit).filter(Boolean);
    const row = this.choice("down", down, down[0]?.name);
    const column = this.choice("across", side, side.find((one) => one.name !== row)?.name);
    return row && column && row !== column ? { row, column, down, side } : null;
  }

  async drawMap() {
    const found = this.fields();
    if (!found) return;
    const { row, column, down, side } = found;
    const { y } = this.axes();
    const metric = this.grid.column(y);
    const cells = new Map();
    for (const at of this.rows) {
      const value = metric.rank(at);
      if (Number.isNaN(value)) continue;
      const [r, c] = [this.grid.column(row).value(at), this.grid.column(column).value(at)];
      if (r === null || c === null) continue;
      const key = JSON.stringify([r, c]);
      const cell = cells.get(key) ?? cells.set(key, { r: cellText(r), c: cellText(c), rv: r, cv: c, sum: 0, n: 0 }).get(key);
      cell.sum += value;
      cell.n += 1;
    }
    const values = [...cells.values()].map((cell) => ({ ...cell, mean: cell.sum / cell.n }));
    const drawn = values.reduce((sum, cell) => sum + cell.n, 0);
    const left = this.rows.length - drawn;
    this.map.note.textContent = `Mean ${metric.label} of the artifacts in each cell${left ? `; ${left} have not all of the three` : ""}. A click filters for it.`;
    const key = JSON.stringify([row, column, y]);
    const order = { r: texts(this.grid.column(row)), c: texts(this.grid.column(column)) };
    if (this.drawn.map?.key === key) {
      await this.drawn.map.view.data("cells", values).runAsync();
      return;
    }
    fill(this.map.head, el("h3", {}, `${metric.label} by `, select("Rows of the map", down.map((c) => [c.name, c.label]), row, (value) => this.set("down", value)), " and ", select("Columns of the map", side.map((c) => [c.name, c.label]), column, (value) => this.set("across", value))));
    const labels = [this.grid.column(row).label, this.grid.column(column).label, metric.label];
    const view = await draw(this.map.host, mapSpec(values, labels, order), { renderer: "canvas" });
    view.addEventListener("click", (_, item) => item?.datum?.n && this.choose(row, column, item.datum));
    this.drawn.map = { key, view };
  }

  choose(row, column, cell) {
    const filters = { ...this.store.state.filters };
    filters[row] = { in: [String(cell.rv)] };
    filters[column] = { in: [String(cell.cv)] };
    this.store.update({ filters, page: 0 });
  }
}

function figure(label, id) {
  const [head, host, note] = [el("div", { class: "plot-head" }), el("div", { class: "plot", id }), el("p", { class: "note" })];
  return { head, host, note, node: el("section", { class: "card plot-card", "aria-label": label }, head, host, note) };
}

function cellText(value) {
  return value === null ? "none" : String(value);
}

function texts(column) {
  return column.choices().filter((value) => value !== null).map(cellText);
}

function short(value) {
  return Number(value.toPrecision(4));
}

/** Whether numbers are better read on a scale of powers. */
function isLog(values) {
  if (!values.length) return false;
  const [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  return low > 0 && high / low > 20;
}

function scatterSpec(values, xLabel, yLabel, colourLabel, log) {
  const axis = (field, title, more = {}) => ({ field, type: "quantitative", title, scale: { zero: false, nice: true, ...more }, axis: { tickCount: 5 } });
  const colour = { field: "c", type: "nominal", title: colourLabel, sort: null, legend: { orient: "bottom", columns: 3, labelLimit: 140, symbolLimit: 12 } };
  const many = values.length > 400;
  return {
    config: SMALL, width: "container", height: 230, autosize: { type: "fit", contains: "padding" },
    description: `${yLabel} against ${xLabel}, one point for each artifact in the table`,
    data: { name: "rows", values },
    params: [{ name: "box", select: { type: "interval" } }],
    mark: { type: "point", filled: true, size: many ? 24 : 70, opacity: many ? 0.6 : 0.9, cursor: "pointer" },
    encoding: {
      x: axis("x", xLabel, log ? { type: "log" } : {}),
      y: axis("y", yLabel),
      ...(colourLabel ? { color: colour, shape: { field: "c", type: "nominal", sort: null, legend: colour.legend, title: colourLabel } } : {}),
      tooltip: [{ field: "id", title: "artifact" }, { field: "x", title: xLabel }, { field: "y", title: yLabel }, ...(colourLabel ? [{ field: "c", title: colourLabel }] : [])],
    },
  };
}

function mapSpec(values, [rowLabel, columnLabel, metricLabel], order) {
  const axis = (field, title, sort, more) => ({ field, type: "ordinal", title, sort, axis: { labelLimit: 120, labelOverlap: true, ...more }, scale: { domain: sort } });
  return {
    config: SMALL, width: "container", height: Math.min(420, 96 + (order.c.length > 6 ? 34 : 0) + 22 * order.r.length), autosize: { type: "fit", contains: "padding" },
    description: `Mean ${metricLabel} by ${rowLabel} and ${columnLabel}`,
    data: { name: "cells", values },
    mark: { type: "rect", cursor: "pointer" },
    encoding: {
      x: axis("c", columnLabel, order.c, order.c.length > 6 ? { labelAngle: -45 } : { labelAngle: 0 }),
      y: axis("r", rowLabel, order.r, {}),
      color: { field: "mean", type: "quantitative", title: null, scale: { scheme: "viridis", zero: false }, legend: { orient: "bottom", direction: "horizontal", gradientThickness: 8, gradientLength: 140, tickCount: 3 } },
      tooltip: [{ field: "r", title: rowLabel }, { field: "c", title: columnLabel }, { field: "mean", title: metricLabel }, { field: "n", title: "artifacts" }],
    },
  };
}
