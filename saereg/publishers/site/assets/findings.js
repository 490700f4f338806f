// Findings of `saereg validate`, the grave ones first.

import { head } from "./data.js";
import { badge, el, link, marked, number, own, plural } from "./dom.js";

const HEADS = { error: "Errors", warning: "Warnings", note: "Notes" };
const BADGES = { error: "bad", warning: "warn", note: "plain" };

/** The view of findings. */
export function findingsView(addressOf) {
  const { findings = [], counts = {}, level = "header", more = 0, ignored = 0, checks = 0 } = head.report ?? {};
  const node = el("div", { class: "column" }, el("h1", { tabindex: "-1" }, "Findings"),
    el("p", { class: "lead" }, `saereg validate --level ${level}: ${plural(counts.errors ?? 0, "error")}, ${plural(counts.warnings ?? 0, "warning")}, ${plural(counts.notes ?? 0, "note")}; ${number(checks)} checks, when this page was made.`));
  if (!findings.length) node.append(el("p", {}, badge("good", "nothing was found")));
  for (const severity of ["error", "warning", "note"]) {
    const of = findings.filter((finding) => finding.severity === severity && !finding.ignored);
    if (of.length) node.append(el("section", {}, el("h2", {}, HEADS[severity]), el("ul", { class: "findings" }, of.map((finding) => findingItem(finding, addressOf)))));
  }
  const set = findings.filter((finding) => finding.ignored);
  if (set.length) node.append(el("section", {}, el("h2", {}, "Ignored by the configuration"), el("ul", { class: "findings" }, set.map((finding) => findingItem(finding, addressOf)))));
  if (more) node.append(el("p", { class: "note" }, `${number(more)} more: saereg validate lists all of them.`));
  if (ignored > set.length) node.append(el("p", { class: "note" }, `${ignored} are ignored by the configuration.`));
  return node;
}

/** One finding. */
export function findingItem(finding, addressOf) {
  const place = [finding.path, finding.line].filter(Boolean).join(":");
  const about = finding.artifact && addressOf ? addressOf(finding.artifact) : null;
  return el("li", { class: "card" },
    el("p", {}, badge(BADGES[finding.severity], finding.url ? link(finding.url, finding.code) : finding.code), " ", marked(finding.message)),
    place ? el("p", { class: "dim" }, own(place), about ? [" · ", el("a", { href: about }, own(finding.artifact))] : null) : about ? el("p", {}, el("a", { href: about }, own(finding.artifact))) : null,
    finding.expected || finding.found ? el("dl", { class: "facts" }, pair("expected", finding.expected), pair("found", finding.found)) : null,
    finding.ignored ? el("p", { class: "note" }, "Ignored: ", own(finding.ignored)) : finding.hint ? el("p", { class: "note" }, marked(finding.hint)) : null);
}

function pair(name, value) {
  return value ? el("div", {}, el("dt", {}, name), el("dd", {}, own(value))) : null;
}
