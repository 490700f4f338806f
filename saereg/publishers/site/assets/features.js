// Latents of an artifact: what makes them active, how strongly, and what they write.

import { el, fill, marked, number, plural } from "./dom.js";

const SPECIAL = { "\n": "⏎", "\t": "⇥" };

/**
 * The feature view of an artifact.
 * @param {Object} view features.json, shortened
 */
export function featureView(view) {
  const latents = view.latents ?? [];
  const body = el("div", { class: "latent", "aria-live": "off" });
  const chooser = el("select", { "aria-label": "Latent" }, latents.map((latent, at) => el("option", { value: at }, labelOf(latent))));
  const show = (at) => {
    chooser.value = String(at);
    fill(body, latentNode(latents[at], view));
  };
  chooser.addEventListener("change", () => show(Number(chooser.value)));
  const step = (by) => show((Number(chooser.value) + by + latents.length) % latents.length);
  const button = (label, name, work) => el("button", { type: "button", class: "quiet", "aria-label": name, on: { click: work } }, label);
  const bar = el("div", { class: "toolbar" }, el("label", {}, "Latent ", chooser), button("‹", "Latent before", () => step(-1)), button("›", "Next latent", () => step(1)),
    button("Random", "Random latent", () => show(Math.floor(Math.random() * latents.length))));
  if (!latents.length) return el("p", { class: "dim" }, "The view holds no latents.");
  show(0);
  const how = { given: "named by the author", random: "drawn at random", strata: "drawn at random within strata of their frequency" }[view.chosen] ?? view.chosen;
  const told = `${plural(latents.length, "latent")}, ${how}${view.seed === undefined ? "" : ` (seed ${view.seed})`}; ${number(view.rows)} rows of ${view.evaluation}.`;
  const notes = [told, view.readout_note, view.text_note].filter(Boolean);
  return el("div", {}, bar, body, notes.map((note) => el("p", { class: "note" }, marked(sentence(note)))));
}

/** A note as a sentence. */
function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

function labelOf(latent) {
  const first = latent.promoted?.[0]?.token;
  return `${latent.index}${first === undefined ? "" : ` ${visible(first)}`}`;
}

function latentNode(latent, view) {
  const pairs = [["active in", `${number(100 * latent.frequency, 3)}% of rows`], ["mean when active", number(latent.mean_active)], ["maximum", number(latent.maximum)]];
  const norms = latent.decoder_norms ?? [];
  if (norms.length === 1) pairs.push(["decoder norm", number(norms[0])]);
  return [
    el("dl", { class: "numbers" }, pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    el("div", { class: "two" }, latent.histogram ? histogram(latent.histogram) : null, norms.length > 1 ? bars("Decoder norm at each source", norms) : null,
      latent.per_source?.length > 1 ? bars("Active at each source", latent.per_source) : null, readout(latent, view)),
    contexts(latent),
  ];
}

const SVG = "http://www.w3.org/2000/svg";

/** Bars of some numbers, drawn to the largest. */
function bars(title, values, label = (i) => `${i}`) {
  const [wide, high] = [320, 72];
  const most = Math.max(...values, 0) || 1;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${title}: ${values.length} bars, the highest ${number(Math.max(...values))} at ${label(values.indexOf(Math.max(...values)))}`);
  const width = wide / values.length;
  values.forEach((value, i) => {
    const bar = document.createElementNS(SVG, "rect");
    const height = value > 0 ? Math.max(1, (value / most) * (high - 2)) : 0;
    for (const [name, one] of Object.entries({ x: i * width + 0.5, y: high - height, width: Math.max(1, width - 1), height })) bar.setAttribute(name, one);
    const told = document.createElementNS(SVG, "title");
    told.textContent = `${label(i)}: ${number(value)}`;
    bar.append(told);
    svg.append(bar);
  });
  return el("figure", { class: "bars" }, el("figcaption", {}, title), svg);
}

function histogram({ edges, counts }) {
  const shown = bars("Activations, where it is active", counts, (i) => `${number(edges[i])} to ${number(edges[i + 1])}`);
  shown.append(el("div", { class: "ends" }, el("span", {}, number(edges[0])), el("span", {}, number(edges.at(-1)))));
  return shown;
}

function readout(latent, view) {
  const head = view.readout === "vocabulary" ? ["Rows with the largest activations", "Rows with the smallest"] : ["Tokens it promotes", "Tokens it suppresses"];
  return [latent.promoted, latent.suppressed].map((entries, i) => (entries?.length ? el("div", { class: "readout" }, el("h4", {}, head[i]),
    el("ol", {}, entries.map((entry) => el("li", {}, el("span", { class: "token", dir: "auto" }, visible(entry.token)), el("span", { class: "count" }, number(entry.value, 3)))))) : null));
}

function contexts(latent) {
  const found = (latent.contexts ?? []).filter((context) => context.tokens?.length);
  if (!found.length) return latent.contexts?.length ? el("p", { class: "dim" }, `Most active in rows ${latent.contexts.map((context) => context.row).join(", ")}.`) : null;
  const most = Math.max(...found.flatMap((context) => context.activations)) || 1;
  return el("div", {}, el("h4", {}, "Where it is most active"), el("ol", { class: "contexts" }, found.map((context) => el("li", {}, contextNode(context, most), el("span", { class: "count" }, number(context.activation, 3))))));
}

function contextNode({ tokens, activations, peak }, most) {
  return el("p", { dir: "auto" }, tokens.map((token, i) => {
    const share = Math.max(0, activations[i] / most);
    if (share < 0.01) return el("span", {}, token);
    const mark = el("mark", { class: i === peak ? "peak" : null, title: number(activations[i]) }, visible(token));
    mark.style.setProperty("--share", `${Math.round(8 + 62 * share)}%`);
    return mark;
  }));
}

/** A token with white space that one can see. */
function visible(token) {
  return token.replace(/[\n\t]/g, (letter) => SPECIAL[letter]);
}
