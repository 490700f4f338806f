// Plots: Vega-Lite, read from the page itself when the first plot is wanted. Nothing is evaluated and nothing loaded.

import { hasPart, head, partText } from "./data.js";
import { el, fill, number } from "./dom.js";
import { isDark } from "./theme.js";

/** Colours and shapes of categories, and colours that dark ground swallows → those in their place: of all figures. */
const { categories: CATEGORIES, shapes: SHAPES, dark: ON_DARK } = head.look;

let arriving = null;

/** Whether the page has plots at all. */
export const hasPlots = hasPart("plots");

/** Read the library, once. */
function library() {
  arriving ??= partText("plots").then((text) => {
    document.head.append(el("script", {}, text));
    if (!globalThis.vegaEmbed) throw new Error("the plots of this page cannot be run by this browser");
  });
  return arriving;
}

/** A loader that fetches nothing: a specification of a stranger names no file, picture or address. */
const NOWHERE = {
  load: () => Promise.reject(new Error("plots of this page load nothing")),
  sanitize: () => Promise.reject(new Error("plots of this page load nothing")),
  http: () => Promise.reject(new Error("plots of this page load nothing")),
  file: () => Promise.reject(new Error("plots of this page load nothing")),
};

/** Letters of the plots of the page itself; figures of a release bring their own. */
export const SMALL = {
  axis: { labelFontSize: 11, titleFontSize: 11, titleFontWeight: 500 },
  legend: { labelFontSize: 11, titleFontSize: 11, titleFontWeight: 500 },
};

/** The colours of every plot, from those of the page. */
function look() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue(isDark() ? "--ink-dark" : "--ink-light").trim();
  const dim = isDark() ? "#a3abb8" : "#5b6472";
  const line = isDark() ? "#3a4250" : "#d9dee6";
  const font = getComputedStyle(document.body).fontFamily;
  const words = { labelColor: dim, titleColor: dim, labelFont: font, titleFont: font };
  return {
    font,
    axis: { ...words, gridColor: line, domainColor: line, tickColor: line, gridOpacity: 0.7 },
    legend: { ...words, symbolStrokeWidth: 1 },
    header: words,
    title: { color: ink, font, subtitleColor: dim, subtitleFont: font },
    text: { color: ink },
    view: { stroke: null },
    range: { category: CATEGORIES.map(onGround), symbol: SHAPES },
  };
}

/** A colour as it is drawn on the ground of now. */
function onGround(colour) {
  return isDark() ? (ON_DARK[String(colour).toUpperCase()] ?? colour) : colour;
}

/** A specification in the colours of now: its own configuration goes below that of the page, its data is not touched. */
export function themed(spec) {
  const { config = {}, usermeta, background, ...rest } = spec;
  const painted = isDark() ? repainted(rest) : rest;
  return { ...painted, config: merged(config, look()), background: "transparent" };
}

const NO_COLOURS = new Set(["data", "datasets", "values"]);

function repainted(value) {
  if (typeof value === "string") return ON_DARK[value.toUpperCase()] ?? value;
  if (Array.isArray(value)) return value.map(repainted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, NO_COLOURS.has(name) ? one : repainted(one)]));
}

function merged(below, above) {
  const found = { ...below };
  for (const [name, value] of Object.entries(above)) {
    const both = value && typeof value === "object" && !Array.isArray(value) && found[name] && typeof found[name] === "object";
    found[name] = both ? merged(found[name], value) : value;
  }
  return found;
}

const bubble = el("div", { class: "bubble", hidden: true, role: "presentation" });

/** Show what is under the pointer, as text. */
function tooltip(_, event, __, value) {
  if (!value || typeof value !== "object") {
    bubble.hidden = true;
    return;
  }
  const pairs = Object.entries(value).filter(([, one]) => one !== null && one !== undefined);
  fill(bubble, pairs.map(([name, one]) => el("div", {}, el("span", { class: "dim" }, name), " ", el("bdi", {}, number(one)))));
  if (!bubble.isConnected) document.body.append(bubble);
  bubble.hidden = false;
  const [wide, high] = [bubble.offsetWidth, bubble.offsetHeight];
  bubble.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - wide - 8))}px`;
  bubble.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - high - 8))}px`;
}

/**
 * Draw a specification into an element.
 * @param {HTMLElement} host where
 * @param {Object} spec Vega-Lite, with its data in it
 * @param {{renderer: string}} [how] `svg` or `canvas`
 * @returns {Promise<Object>} the view of Vega
 */
export async function draw(host, spec, { renderer = "svg" } = {}) {
  await library();
  const found = await globalThis.vegaEmbed(host, themed(spec), {
    ast: true, actions: false, renderer, loader: NOWHERE, tooltip, mode: "vega-lite", defaultStyle: false, logLevel: 1, downloadFileName: "figure",
  });
  return found.view;
}
