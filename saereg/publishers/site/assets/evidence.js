// The evidence on one artifact: claims, golden vectors, round trip, metrics, switches, files.

import { head } from "./data.js";
import { badge, bytes, code, codeBlock, copyButton, el, facts, link, number, own, plainTable, plural } from "./dom.js";

const METRICS_PAGE = "https://github.com/saereg/saereg/blob/main/docs/metrics.md";
const SEMANTICS_PAGE = "https://github.com/saereg/saereg/blob/main/docs/semantics.md";
const VERDICTS = { verified: ["good", "verified"], differs: ["bad", "differs"], matches_another: ["bad", "another definition"], not_verifiable: ["plain", "not verifiable"] };

/** The claims of the author, and what was measured. */
export function claimsSection(detail) {
  const claims = detail.claims ?? [];
  if (!claims.length) return el("p", { class: "dim" }, "The author states no numbers of it.");
  const rows = claims.map((claim) => [metricName(claim.metric), number(claim.value, 7), number(claim.measured, 7), verdict(claim), [whyOf(claim), conditions(claim)]]);
  return plainTable("Claims against evidence", ["claim", "stated", "measured", "verdict", "on"], rows, new Set([1, 2]));
}

function verdict(claim) {
  const [kind, text] = VERDICTS[claim.verdict] ?? ["plain", "not built"];
  return badge(kind, text);
}

function whyOf(claim) {
  const other = claim.matches ? [" It is what ", metricName(claim.matches), claim.matches_value === undefined ? "" : ` gives, ${number(claim.matches_value)}`, "."] : null;
  return claim.why || other ? el("p", {}, claim.why ? own(claim.why) : null, other) : null;
}

function conditions(one) {
  const parts = [one.evaluation, one.kind && one.kind !== "recomputed" ? one.kind.replaceAll("_", " ") : null, one.units && one.units !== "raw" ? `${one.units} units` : null,
    one.batch_rows ? `batches of ${one.batch_rows}` : null, one.tolerance ? `tolerance ${number(one.tolerance)}` : null].filter(Boolean);
  return parts.length ? el("span", { class: "dim" }, own(parts.join(", "))) : null;
}

function metricName(name) {
  return link(METRICS_PAGE, code(name));
}

/** The golden vectors, and the command that replays them. */
export function goldenSection(detail) {
  const golden = detail.golden;
  const repeat = codeBlock(`saereg validate ${head.place} --level weights`, "the command that replays them");
  if (!golden) return el("p", { class: "dim" }, "It ships no golden vectors.");
  const rows = (golden.replayed ?? []).map((one) => [own(one.reader), one.active_sets_equal ? badge("good", "the same latents active") : badge("bad", "other latents active"), one.max_rel_error.toExponential(1)]);
  return [el("p", {}, `${plural(golden.rows, "input")} with latents, activations and reconstructions, made by `, own(golden.made_by), "."),
    rows.length ? plainTable("Replays of the golden vectors", ["replayed by", "active latents", "largest relative error"], rows, new Set([2])) : el("p", { class: "dim" }, "They were not replayed yet."),
    el("p", { class: "note" }, "Replay them:"), repeat];
}

/** The comparison with the training checkpoint. */
export function roundTripSection(detail) {
  const trip = detail.round_trip;
  if (!trip) return null;
  const rows = Object.entries(trip.tensors ?? {}).map(([name, one]) => [code(name), code(one.key), own(one.operation), one.bitwise ? "byte for byte" : number(one.max_abs_diff)]);
  return [plainTable("Round trip", ["tensor", "in the checkpoint", "operation", "largest difference"], rows, new Set([3])), el("p", { class: "note" }, "Against the checkpoint with sha256 ", code(trip.against.slice(0, 16)), "…")];
}

/** Every measured number. */
export function metricsSection(detail) {
  const found = detail.metrics ?? [];
  if (!found.length) return el("p", { class: "dim" }, head.built ? "Nothing was measured of it." : "The release was never built: nothing is measured.");
  const rows = found.map((one) => [metricName(one.metric), number(one.value, 6), number(one.rows), own(one.evaluation), conditions({ ...one, evaluation: null, tolerance: null }) ?? (one.value === undefined ? el("span", { class: "dim" }, own(one.reason ?? "not defined")) : null)]);
  return [plainTable("Metrics", ["definition", "value", "rows", "evaluation", "remarks"], rows, new Set([1, 2])), sources(found)];
}

function sources(found) {
  const many = found.filter((one) => one.per_source?.length > 1);
  if (!many.length) return null;
  return el("details", {}, el("summary", {}, "At each source"), many.map((one) => [el("h4", {}, code(one.metric)), el("p", { class: "dim mono" }, one.per_source.map((value) => number(value)).join("  "))]));
}

/** The switches that decide what the files mean. */
export function semanticsSection(detail) {
  const taken = detail.assumptions ?? [];
  return [detail.semantics ? facts(detail.semantics.map(([name, value]) => [name, typeof value === "number" ? number(value) : own(String(value))])) : el("p", { class: "dim" }, "Not resolved: the release was never built."),
    detail.decoder_norm ? el("p", { class: "dim" }, `Decoder norms ${number(detail.decoder_norm.minimum)} to ${number(detail.decoder_norm.maximum)}.`) : null,
    taken.length ? [el("h4", {}, "Taken for granted, because the files do not say"), plainTable("Assumptions", ["switch", "taken as", "because"], taken.map((one) => [code(one.field), own(one.value), own(one.because)]))] : null,
    el("p", { class: "note" }, link(SEMANTICS_PAGE, "What the switches mean"))];
}

/** Where it reads, and the code that captures it. */
export function siteSection(detail) {
  const sites = detail.sites ?? [];
  const steps = detail.steps ?? [];
  const shown = sites.slice(0, 4).map((site) => [
    facts([["site", own(site.key)], ["model", own([site.model_id ?? site.base_model, site.revision?.slice(0, 12), site.model_step === undefined ? null : `step ${site.model_step}`].filter(Boolean).join(" @ "))],
      ["layer", number(site.layer) === "–" ? null : number(site.layer)], ["stream", site.stream], ["module", site.module ? code(site.module) : null], ["taken", site.stream === "parameter" ? null : site.io],
      ["hook_name", site.hook_name ? code(site.hook_name) : null], ["hidden_states", site.hidden_states_index === undefined ? null : number(site.hidden_states_index)], ["parameter", site.parameter ? code(site.parameter) : null],
      ["after the final norm", site.post_final_norm ? "yes" : null], ["note", site.reason ? own(site.reason) : null]]),
    site.capture ? codeBlock(site.capture, `the code that captures ${site.key}`) : null]);
  return [shown, sites.length > 4 ? el("p", { class: "dim" }, `and ${sites.length - 4} more: `, own(sites.slice(4).map((site) => site.key).join(", "))) : null,
    steps.length ? el("p", { class: "dim" }, `${plural(steps.length, "training step")} of the model as sources: ${steps.join(", ")}`) : null];
}

/** The files, with digests to copy. */
export function filesSection(detail) {
  const files = detail.files ?? [];
  if (!files.length) return el("p", { class: "dim" }, "Not listed: the release was never built.");
  const rows = files.map(([path, size, role, sha]) => [code(path), bytes(size), role, el("span", { class: "digest" }, code(`${sha.slice(0, 16)}…`), copyButton(sha, `the sha256 of ${path}`))]);
  const tensors = (detail.tensors ?? []).map(([name, shape, type, finite]) => [code(name), shape.join(" × ") || "scalar", type, finite ? "" : badge("bad", "NaN or infinity")]);
  return [plainTable("Files", ["path", "size", "role", "sha256"], rows, new Set([1])), tensors.length ? el("details", {}, el("summary", {}, plural(tensors.length, "tensor")), plainTable("Tensors", ["tensor", "shape", "type", ""], tensors)) : null];
}
