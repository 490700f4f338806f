// What is looked at: it stands in the address after #, so that a view can be kept, sent and gone back to.

/** Views of the page beside that of one artifact. */
export const VIEWS = ["artifacts", "figures", "findings", "about"];

const NONE = "~";

/** The state of a page that was just opened. */
export function emptyState() {
  return { view: "artifacts", id: null, q: "", filters: {}, sort: [], shown: null, page: 0, plot: {} };
}

/** A value of a filter as it stands in the address; null is `~`. */
export function written(value) {
  const text = value === null ? NONE : String(value).startsWith(NONE) ? NONE + value : String(value);
  return encodeURIComponent(text);
}

/** The value that stands in the address. */
export function readValue(text) {
  const value = decoded_(text);
  return value === NONE ? null : value.startsWith(NONE + NONE) ? value.slice(1) : value;
}

function decoded_(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * Read an address.
 * @param {string} hash what stands after and with #
 * @returns {Object} the state; what is not understood is left out
 */
export function parseHash(hash) {
  const state = emptyState();
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  if (path.startsWith("artifact/")) Object.assign(state, { view: "artifact", id: decoded_(path.slice(9)) });
  else if (VIEWS.includes(path)) state.view = path;
  for (const pair of query.split("&").filter(Boolean)) {
    const at = pair.indexOf("=");
    if (at > 0) readPair(state, decoded_(pair.slice(0, at)), pair.slice(at + 1));
  }
  return state;
}

function readPair(state, name, text) {
  const [kind, field] = [name.slice(0, 2), name.slice(2)];
  if (name === "q") state.q = decoded_(text);
  else if (name === "page") state.page = Math.max(0, (Number.parseInt(text, 10) || 1) - 1);
  else if (name === "columns") state.shown = text.split(",").map(decoded_).filter(Boolean);
  else if (name === "sort") state.sort = text.split(",").map(readSort);
  else if (kind === "f.") filterOf(state, field).in = text.split(",").map(readValue);
  else if (kind === "r.") Object.assign(filterOf(state, field), readRange(decoded_(text)));
  else if (kind === "p.") state.plot[field] = decoded_(text);
}

function filterOf(state, field) {
  return (state.filters[field] ??= {});
}

function readSort(text) {
  const name = decoded_(text);
  return name.startsWith("-") ? [name.slice(1), "desc"] : [name, "asc"];
}

function readRange(text) {
  const [low, high] = text.split("..").map((end) => (end === "" ? null : Number(end)));
  return { min: Number.isFinite(low) ? low : null, max: Number.isFinite(high) ? high : null };
}

/** The address of an artifact by itself. */
export function artifactHash(id) {
  return `#/artifact/${encodeURIComponent(id).replaceAll("%2F", "/")}`;
}

/** The address of a state, with #; the shortest that says it. */
export function formatHash(state) {
  const words = [];
  if (state.q) words.push(`q=${encodeURIComponent(state.q)}`);
  for (const [name, filter] of Object.entries(state.filters)) {
    const field = encodeURIComponent(name);
    if (filter.in) words.push(`f.${field}=${filter.in.map(written).join(",")}`);
    if (isRange(filter)) words.push(`r.${field}=${filter.min ?? ""}..${filter.max ?? ""}`);
  }
  if (state.sort.length) words.push(`sort=${state.sort.map(([n, d]) => (d === "desc" ? "-" : "") + encodeURIComponent(n)).join(",")}`);
  if (state.shown) words.push(`columns=${state.shown.map(encodeURIComponent).join(",")}`);
  for (const [name, value] of Object.entries(state.plot)) words.push(`p.${name}=${encodeURIComponent(value)}`);
  if (state.page) words.push(`page=${state.page + 1}`);
  const path = state.view === "artifact" ? `artifact/${encodeURIComponent(state.id).replaceAll("%2F", "/")}` : state.view;
  return `#/${path === "artifacts" ? "" : path}${words.length ? `?${words.join("&")}` : ""}`;
}

/** Whether a filter has a bound. */
export function isRange(filter) {
  return (filter.min ?? null) !== null || (filter.max ?? null) !== null;
}

/** The state and those who want to know when it changes. */
export class Store {
  /** @param {string} hash the address at first */
  constructor(hash) {
    this.state = parseHash(hash);
    this.listeners = [];
  }

  /** Call a function whenever the state changes. */
  subscribe(listener) {
    this.listeners.push(listener);
  }

  /** Change a part of the state; the address follows without a step in the history, or with one where `push` is set. */
  update(patch, { push = false } = {}) {
    this.state = { ...this.state, ...patch };
    const hash = formatHash(this.state);
    if (push) history.pushState(null, "", hash);
    else history.replaceState(null, "", hash);
    this.tell();
  }

  /** Take over the address, after a step in the history or a click on a link. */
  follow() {
    this.state = parseHash(location.hash);
    this.tell();
  }

  /** Tell everyone. */
  tell() {
    for (const listener of this.listeners) listener(this.state);
  }

  /** The address of a view with the filters of now. */
  address(patch) {
    return formatHash({ ...this.state, ...patch });
  }
}
