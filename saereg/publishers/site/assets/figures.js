// Figures of the release and its loss floors.

import { head, part } from "./data.js";
import { el, fill, marked, number, own, plainTable } from "./dom.js";
import { onTheme } from "./theme.js";
import { draw } from "./vega.js";

/** The view of figures: each is drawn when it comes near the window. */
export function figuresView() {
  const figures = head.figures ?? [];
  const node = el("div", { class: "column" }, el("h1", { tabindex: "-1" }, "Figures"));
  const empty = !figures.length && !head.floors;
  if (empty) node.append(el("p", { class: "dim" }, "The release has no figures. saereg build draws them from its evidence, with saereg[plots] installed."));
  const near = new IntersectionObserver((seen) => {
    for (const one of seen) {
      if (!one.isIntersecting) continue;
      near.unobserve(one.target);
      one.target.drawFigure();
    }
  }, { rootMargin: "400px" });
  for (const figure of figures) {
    const shown = figureNode(figure);
    node.append(shown.node);
    if (figure.part) {
      shown.host.drawFigure = shown.show;
      near.observe(shown.host);
    }
  }
  if (head.floors) node.append(floors(head.floors));
  return node;
}

function figureNode(figure) {
  const host = el("div", { class: "figure-host", tabindex: "0", role: "group", "aria-label": figure.alt });
  const node = el("figure", { class: "card", id: `figure-${figure.name}` }, el("h2", {}, own(figure.title)), host, el("figcaption", {}, marked(figure.caption)));
  let drawn = false;
  const show = async () => {
    drawn = true;
    try {
      await draw(host, untitled(await part(figure.part), figure.alt));
      host.classList.add("ready");
    } catch (error) {
      fill(host, el("p", { class: "dim" }, `This figure cannot be drawn here: ${error.message}. ${figure.alt}`));
    }
  };
  if (!figure.part) fill(host, el("p", { class: "dim" }, `It is ${figure.why}: figures/${figure.name}.svg. ${figure.alt}`));
  onTheme(() => drawn && show());
  return { node, host, show };
}

/** A specification without its title, which stands above it on the page; what stands below the title stays. */
function untitled({ title, ...rest }, alt) {
  const below = title && typeof title === "object" ? title.subtitle : null;
  const spec = { ...rest, description: alt };
  return below ? { ...spec, title: { text: below, fontSize: 13, fontWeight: "normal", anchor: "start", limit: 740 } } : spec;
}

/** A fitted number with its interval. */
function estimate(found) {
  if (!found) return "–";
  const { value, interval } = found;
  return interval ? `${number(value)} (${number(interval.low)} to ${number(interval.high)})` : number(value);
}

function floors(found) {
  const rows = (found.fits ?? []).map((fit) => [own(fit.series), `${fit.fitted} of ${fit.tokens?.length ?? 0}`, estimate(fit.floor), estimate(fit.exponent),
    fit.relative_error === undefined ? "–" : `${number(100 * fit.relative_error, 3)}%`, fit.identified ? "yes" : own(`no: ${fit.reason ?? "the points do not determine it"}`)]);
  const how = `L(n) = L∞ + a·n^−b, fitted to early snapshots; ${found.metric}, ${found.basis}${found.evaluation ? ` on ${found.evaluation}` : ""}. ` +
    `Intervals: ${number(100 * found.level)}% of ${found.resamples} bootstrap resamples, seed ${found.seed}.`;
  const table = plainTable("Loss floors", ["series", "snapshots fitted", "floor L∞", "exponent b", "error on later ones", "identified"], rows, new Set([2, 3, 4]));
  return el("section", { class: "card", id: "floors" }, el("h2", {}, "Loss floors"), table, el("p", { class: "note" }, how), (found.joint ?? []).map(joint));
}

function joint(found) {
  const rows = Object.entries(found.parameters ?? {}).map(([name, one]) => [name, estimate(one)]);
  const said = found.identified ? `fitted to ${found.points} artifacts` : `not identified: ${found.reason ?? "the points do not determine it"}`;
  return [el("h3", {}, `${found.series}: jointly over ${(found.terms ?? []).join(", ")}`), rows.length ? plainTable("Joint law", ["parameter", "estimate"], rows, new Set([1])) : null, el("p", { class: "note" }, said)];
}
