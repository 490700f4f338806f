// The head of the page: what the release is, whether its claims hold, what one probably wants.

import { head } from "./data.js";
import { badge, bytes, el, hubAddress, link, number, own, plural } from "./dom.js";

/** Names of kinds, for people. */
const KINDS = { sae: "sparse autoencoder", transcoder: "transcoder", crosscoder: "crosscoder" };

/** Title, facts, badges and picks. */
export function overview(grid, address) {
  const release = head.release;
  return el("section", { class: "hero" },
    el("h1", { tabindex: "-1" }, own(release.title)),
    el("p", { class: "lead" }, leadOf(release)),
    release.description ? el("p", { class: "about" }, own(release.description)) : null,
    (head.withdrawn ?? []).map((text) => el("p", { class: "warning" }, own(text))),
    el("div", { class: "badges" }, badges()),
    (head.left_out ?? []).map((text) => el("p", { class: "note" }, text)),
    picks(grid, address));
}

function leadOf(release) {
  const models = Object.values(head.base_models ?? {});
  const named = models.slice(0, 3).map((model) => [hubAddress(model.id) ? link(hubAddress(model.id), model.id) : own(model.id)]);
  const rest = models.length > 3 ? [` and ${models.length - 3} more`] : [];
  const parts = [own(`${release.name} ${release.version}`), own(release.license), [named.flatMap((one, i) => (i ? [", ", one] : one)), rest], counts()];
  return parts.flatMap((part, i) => (i ? [el("span", { class: "dot", "aria-hidden": "true" }, "·"), part] : [part]));
}

function counts() {
  const kinds = Object.entries(head.kinds ?? {});
  const said = kinds.map(([kind, count]) => plural(count, KINDS[kind] ?? kind)).join(", ");
  return said + (head.files ? `; ${plural(head.files, "file")}, ${bytes(head.bytes)}` : "");
}

/** What the evidence says, in badges. */
export function badges() {
  return [claimsBadge(), goldenBadge(), findingsBadge()].filter(Boolean);
}

function claimsBadge() {
  const { stated = 0, verified = 0, differs = 0, matches_another: other = 0, not_verifiable: open = 0 } = head.proof?.claims ?? {};
  if (!stated) return badge("plain", "no claims stated");
  if (!head.built) return badge("plain", `${plural(stated, "claim")}, not checked`);
  const rest = [differs ? `${differs} differ` : "", other ? `${other} match another definition` : "", open ? `${open} not verifiable` : ""].filter(Boolean);
  const kind = differs || other ? "bad" : verified === stated ? "good" : "plain";
  return badge(kind, `${number(verified)} of ${plural(stated, "claim")} verified`, rest.length ? `; ${rest.join(", ")}` : "");
}

function goldenBadge() {
  const { replays = 0, differs = 0, "not replayed": waiting = 0 } = head.proof?.golden ?? {};
  const all = replays + differs + waiting;
  if (!all) return badge("plain", "no golden vectors");
  const kind = differs ? "bad" : waiting ? "plain" : "good";
  return badge(kind, differs ? `${differs} of ${plural(all, "golden file")} differ` : `golden vectors of ${replays} of ${head.artifacts} replay`);
}

function findingsBadge() {
  const { errors = 0, warnings = 0, notes = 0 } = head.report?.counts ?? {};
  const words = [errors ? plural(errors, "error") : "", warnings ? plural(warnings, "warning") : "", notes ? plural(notes, "note") : ""].filter(Boolean);
  const kind = errors ? "bad" : warnings ? "warn" : "good";
  return el("a", { href: "#/findings", class: "plain-link" }, badge(kind, words.length ? words.join(", ") : "no findings", ` at level ${head.report?.level ?? "header"}`));
}

function picks(grid, address) {
  const { count = 0, rows = [] } = head.picks ?? {};
  if (!count) return null;
  const cards = rows.map((row) => pick(grid, row, address));
  const rule = head.rule ? el("p", { class: "note" }, "The author's picks: ", own(head.rule), ".") : null;
  const more = count > rows.length ? el("a", { href: "#/?f.canonical=yes" }, `all ${count} picks in the table`) : null;
  return el("section", { class: "picks", "aria-labelledby": "picks" }, el("h2", { id: "picks" }, "What you probably want"), rule, el("ul", { class: "cards" }, cards), more);
}

function pick(grid, row, address) {
  const value = (name) => grid.column(name)?.value(row) ?? null;
  const shown = [["EV", value("explained_variance")], ["L0", value("l0")], ["latents", value("d_sae")]].filter(([, one]) => one !== null);
  const where = [value("architecture"), value("layer") !== null ? `layer ${value("layer")}` : value("site")].filter(Boolean).join(", ");
  return el("li", { class: "card" }, el("a", { href: address(row) }, own(grid.id(row))), el("p", { class: "dim" }, own(where)),
    el("dl", { class: "numbers" }, shown.map(([name, one]) => el("div", {}, el("dt", {}, name), el("dd", {}, number(one))))));
}
