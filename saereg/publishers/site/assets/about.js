// What the release was made from, how to cite it, and how this page is used without a mouse.

import { head } from "./data.js";
import { code, codeBlock, el, facts, hubAddress, link, number, own, plainTable } from "./dom.js";

const KEYS = [["/", "go to the search"], ["↑ ↓, or k j", "from artifact to artifact in the table"], ["Enter", "open it"], ["← →", "on the page of an artifact: the one before, the next"],
  ["Esc", "close a panel, or go back to the table"], ["Shift and a click on a header", "sort by one more column"]];

/** The view of everything else. */
export function aboutView() {
  const release = head.release;
  const place = head.place ?? ".";
  return el("div", { class: "column" }, el("h1", { tabindex: "-1" }, "About"),
    el("section", { class: "card" }, el("h2", {}, "The release"), facts([
      ["name", own(`${release.name} ${release.version}`)], ["licence", own(release.license)], ["authors", release.authors?.length ? own(release.authors.join(", ")) : null],
      ["code", release.code ? link(release.code.repository) : null], ["sister releases", listed(release.sister_releases)], ["made from", listed(release.derived_from)],
      ["built by", own(Object.entries(head.made_by ?? {}).map((pair) => pair.join(" ")).join(", "))]])),
    el("section", { class: "card" }, el("h2", {}, "Models, data and evaluations"), models(), datasets(), evaluations()),
    release.citation ? el("section", { class: "card" }, el("h2", {}, "Citation"), codeBlock(release.citation, "the citation")) : null,
    el("section", { class: "card" }, el("h2", {}, "Check it yourself"), el("p", {}, "The numbers of this page are those of index.json. These commands find them again from the released files:"),
      codeBlock(`saereg validate ${place} --level data\nsaereg ls ${place} --sort -explained_variance`, "the commands")),
    el("section", { class: "card", id: "keys" }, el("h2", {}, "Keys"), plainTable("Keys", ["key", "what it does"], KEYS.map(([key, does]) => [el("kbd", {}, key), does])),
      el("p", { class: "note" }, "What is searched, filtered, sorted and shown stands in the address of the page: copy it to share a view. The page is one file and asks no network.")));
}

function listed(names) {
  return names?.length ? own(names.join(", ")) : null;
}

function named(id, kind = "") {
  const address = hubAddress(id, kind);
  return address ? link(address, id) : own(id);
}

function models() {
  const rows = Object.entries(head.base_models ?? {}).slice(0, 200).map(([key, model]) => [own(key), named(model.id), model.revision ? code(model.revision.slice(0, 12)) : "–", number(model.step), own(model.license ?? "–")]);
  return rows.length ? [el("h3", {}, "Base models"), plainTable("Base models", ["key", "model", "revision", "step", "licence"], rows)] : null;
}

function datasets() {
  const rows = Object.entries(head.datasets ?? {}).map(([key, data]) => [own(key), named(data.id, "datasets/"), own([data.config, data.split].filter(Boolean).join(", ") || "–"), number(data.documents), own(data.license ?? "–")]);
  return rows.length ? [el("h3", {}, "Data sets"), plainTable("Data sets", ["key", "data set", "part", "documents", "licence"], rows)] : null;
}

function evaluations() {
  const rows = Object.entries(head.evaluations ?? {}).slice(0, 200).map(([key, one]) => [own(key), own(one.source ?? "–"), own(one.site ?? "–"), number(one.rows)]);
  return rows.length ? [el("h3", {}, "Evaluations"), plainTable("Evaluations", ["name", "rows of", "site", "rows"], rows, new Set([3]))] : null;
}
