// The page of one artifact.

import { detailOf, head, part } from "./data.js";
import { badge, code, codeBlock, copyButton, el, facts, fill, hubAddress, link, number, own, plural } from "./dom.js";
import { claimsSection, filesSection, goldenSection, metricsSection, roundTripSection, semanticsSection, siteSection } from "./evidence.js";
import { featureView } from "./features.js";
import { findingItem } from "./findings.js";
import { wordKind } from "./table.js";
import { onTheme } from "./theme.js";
import { SMALL, draw, hasPlots } from "./vega.js";

const HEADLINE = [["explained_variance", "EV"], ["l0", "L0"], ["l0_per_source_mean", "L0 per source"], ["dead_fraction", "dead"], ["ce_recovered", "CE recovered"], ["d_sae", "latents"], ["d_in", "inputs"]];

/**
 * Fill a node with the page of an artifact.
 * @param {HTMLElement} node where
 * @param {Grid} grid the table
 * @param {number} row its row
 * @param {{before: string|null, next: string|null, back: string, place: string}} around addresses of its neighbours and of the table
 */
export async function showArtifact(node, grid, row, around) {
  const found = await detailOf(row);
  const sections = sectionsOf(found);
  fill(node, headOf(found, grid, row, around),
    el("nav", { class: "contents", "aria-label": "Parts of this page" }, sections.map(([id, title]) => el("a", { href: `#${id}`, on: { click: (event) => jump(event, id) } }, title))),
    el("div", { class: "sections" }, sections.map(([id, title, body, wide]) => el("section", { class: `card${wide ? " wide" : ""}`, id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title`, tabindex: "-1" }, title), body))));
}

/** Go to a part without a new address: the address says which artifact it is. */
function jump(event, id) {
  event.preventDefault();
  const title = document.getElementById(`${id}-title`);
  title.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", block: "start" });
  title.focus({ preventScroll: true });
}

function headOf(found, grid, row, { before, next, back, place }) {
  const value = (name) => grid.column(name)?.value(row) ?? null;
  const numbers = HEADLINE.map(([name, label]) => [label, value(name)]).filter(([, one]) => one !== null);
  const words = found.words ?? {};
  return el("header", { class: "artifact-head" },
    el("div", { class: "walk" }, el("a", { href: back }, "← All artifacts"), el("span", { class: "dim" }, place), before ? el("a", { href: before, rel: "prev" }, "‹ Before") : null, next ? el("a", { href: next, rel: "next" }, "Next ›") : null),
    el("h1", { tabindex: "-1" }, own(found.id), copyButton(found.id, "the id")),
    el("div", { class: "badges" }, value("canonical") === "yes" ? badge("good", "the author's pick") : null, badge(wordKind(words.claims) === "dim" ? "plain" : wordKind(words.claims), `claims: ${words.claims}`),
      badge(wordKind(words.golden) === "dim" ? "plain" : wordKind(words.golden), `golden vectors: ${words.golden}`)),
    found.withdrawn ? el("p", { class: "warning" }, own(found.withdrawn)) : null,
    found.expected_failure ? el("p", { class: "warning" }, "It is shipped although it failed: ", own(found.expected_failure)) : null,
    el("dl", { class: "numbers big" }, numbers.map(([name, one]) => el("div", {}, el("dt", {}, name), el("dd", {}, number(one))))));
}

/** Id, title, content and whether it takes the whole width, of every part that the artifact has. */
function sectionsOf(found) {
  const trip = roundTripSection(found);
  const findings = found.findings ?? [];
  return [
    found.recipes?.length ? ["load", "Load it", recipesNode(found.recipes), true] : null,
    found.features ? ["features", "Features", later_(found.features), true] : null,
    ["claims", "Claims against evidence", claimsSection(found), true],
    ["golden", "Golden vectors", goldenSection(found), false],
    trip ? ["round-trip", "Round trip", trip, false] : null,
    ["metrics", "Metrics", metricsSection(found), true],
    ["identity", "Identity", identity(found), false],
    ["site", "Site", siteSection(found), false],
    ["semantics", "Semantics", semanticsSection(found), false],
    ["training", "Training", trainingSection(found), false],
    ["files", "Files", filesSection(found), true],
    findings.length ? ["findings", "Findings", [el("ul", { class: "findings" }, findings.map((finding) => findingItem(finding, null))), found.more_findings ? el("p", { class: "note" }, `${found.more_findings} more: saereg validate lists them.`) : null], true] : null,
  ].filter(Boolean);
}

function identity(found) {
  const pairs = (found.fields ?? []).filter(([name]) => name !== "id").map(([name, value]) => [name, valueNode(name, value)]);
  if (found.derived_from?.length) pairs.push(["made from", own(found.derived_from.join(", "))]);
  if (found.neuronpedia) pairs.push(["neuronpedia", link(`https://www.neuronpedia.org/${found.neuronpedia}`, found.neuronpedia)]);
  return facts(pairs);
}

function valueNode(name, value) {
  if (name === "model" && hubAddress(String(value))) return link(hubAddress(value), value);
  if (name === "weights_sha256") return el("span", { class: "digest" }, code(`${String(value).slice(0, 16)}…`), copyButton(String(value), "the sha256 of the weights"));
  if (value === true) return "yes";
  return typeof value === "number" ? number(value, 7) : own(String(value));
}

/** Ways of loading, one shown at a time. */
function recipesNode(recipes) {
  const body = el("div", { id: "recipe" });
  const buttons = recipes.map((recipe, at) => el("button", { type: "button", class: "quiet", "aria-pressed": "false", "aria-controls": "recipe", on: { click: () => show(at) } }, recipe.library));
  const show = (at) => {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === at)));
    const { note, code: text, library } = recipes[at];
    fill(body, note ? el("p", {}, own(note)) : null, codeBlock(text, `the code for ${library}`));
  };
  show(0);
  return el("div", {}, el("div", { class: "toolbar", role: "group", "aria-label": "Library" }, buttons), body);
}

/** The feature view, inflated when the page is shown. */
function later_(name) {
  const node = el("div", { class: "waiting" }, el("p", { class: "dim" }, "Reading the feature view…"));
  part(name).then((view) => fill(node, featureView(view)), (error) => fill(node, el("p", { class: "dim" }, `It cannot be read: ${error.message}`))).finally(() => node.classList.remove("waiting"));
  return node;
}

function trainingSection(found) {
  const training = found.training ?? {};
  const tool = Object.entries(training.tool ?? {}).map((pair) => pair.join(" ")).join(", ");
  const pairs = ["tokens", "steps", "batch_size", "lr", "order_seed"].map((name) => [name.replaceAll("_", " "), training[name] === undefined ? null : number(training[name])]);
  const told = facts([...pairs, ["data set", training.dataset ? own(training.dataset) : null], ["made with", tool ? own(tool) : null], ["log", training.log ? code(training.log) : null]]);
  const empty = !told.childElementCount && !found.curve;
  return [empty ? el("p", { class: "dim" }, "The manifest says nothing of it.") : told, found.curve && hasPlots ? curve(found.curve) : null];
}

function curve({ x, series, values }) {
  const host = el("div", { class: "curve" });
  const shown = series.slice(0, 4);
  const points = values[x].map((at, i) => Object.fromEntries([["at", at], ...shown.map((name, n) => [`y${n}`, values[name][i] ?? null])]));
  const spec = {
    config: SMALL, data: { values: points }, spacing: 14,
    description: `Training log: ${shown.join(", ")} over ${x}`,
    vconcat: shown.map((name, n) => ({
      width: 330, height: 74, mark: { type: "line", interpolate: "linear", strokeWidth: 1.6, color: "#0072B2" },
      encoding: { x: { field: "at", type: "quantitative", title: n === shown.length - 1 ? x : null, axis: { tickCount: 4, format: "~s", labels: n === shown.length - 1 } },
        y: { field: `y${n}`, type: "quantitative", title: name.replaceAll("_", " "), scale: { zero: false }, axis: { tickCount: 3, format: "~s" } } },
    })),
  };
  const show = () => draw(host, spec).catch((error) => fill(host, el("p", { class: "dim" }, `The curve cannot be drawn: ${error.message}`)));
  requestAnimationFrame(show);
  onTheme(() => host.isConnected && show());
  return el("figure", {}, host, el("figcaption", { class: "note" }, `Of the training log, ${plural(points.length, "point")}.`));
}

/** The title of the page of an artifact. */
export function artifactTitle(id) {
  return `${id} · ${head.release.title}`;
}
