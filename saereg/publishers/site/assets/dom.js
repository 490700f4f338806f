// Elements, links, numbers: every text of a release passes through here as text, never as HTML.

/**
 * Make an element.
 * @param {string} tag its name
 * @param {Object<string, *>} [attributes] attributes; `on` is event → handler, null and false leave one out
 * @param {...*} children texts, numbers, nodes, lists of them; null is nothing
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  return append(made, children);
}

/** Append texts, numbers, nodes and lists of them to a node, and return it. */
export function append(node, children) {
  for (const child of [children].flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** Replace what is in a node. */
export function fill(node, ...children) {
  node.replaceChildren();
  return append(node, children);
}

/**
 * A link where the address is of the web or inside the page, else its text.
 * @param {string} href address, perhaps of a stranger
 * @param {...*} children what it says
 */
export function link(href, ...children) {
  const shown = children.length ? children : [href];
  if (/^#/.test(href)) return el("a", { href }, shown);
  if (!/^https?:\/\/[^\s"'<>]+$/i.test(href)) return el("span", {}, shown);
  return el("a", { href, rel: "noopener noreferrer", target: "_blank" }, shown);
}

/** The address of a repository on the Hub, or null where the name cannot be one. */
export function hubAddress(id, kind = "") {
  return /^[\w.-]+\/[\w.-]+$/.test(id) ? `https://huggingface.co/${kind}${id}` : null;
}

/** A text that reads in its own direction, whatever stands around it. */
export function own(text, tag = "bdi") {
  return el(tag, { dir: "auto" }, text);
}

/** Inline code. */
export function code(text) {
  return el("code", { dir: "auto" }, text);
}

/** A text of which what stands between backticks is code. */
export function marked(text) {
  return String(text).split(/`([^`]+)`/).map((piece, i) => (i % 2 ? code(piece) : own(piece)));
}

/** A number for people: whole ones with separators, others with four digits; absent ones as a dash. */
export function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return Math.abs(value) < 10_000 ? String(value) : value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(digits - 2).replace("e+", "e");
  return value.toLocaleString("en-US", { maximumSignificantDigits: digits, useGrouping: size >= 10_000 });
}

/** A number of bytes, in powers of 1000. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (count >= 999.5 && step < units.length - 1) [count, step] = [count / 1000, step + 1];
  return `${step ? count.toPrecision(3) : count} ${units[step]}`;
}

/** `1 artifact`, `2 artifacts`. */
export function plural(count, noun) {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}

/** Say something to readers who do not see the page change. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}

/** Put a text on the clipboard; where the browser forbids it, by way of a selected field. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = el("textarea", { class: "hidden", "aria-hidden": "true", tabindex: "-1" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

/**
 * A button that copies.
 * @param {string|function(): string} text what it copies
 * @param {string} what what it is, for readers who do not see it: `Copy WHAT`
 * @param {string} [label] what stands on it
 */
export function copyButton(text, what, label = "Copy") {
  const button = el("button", { type: "button", class: "quiet copy", "aria-label": `${label} ${what}` }, label);
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    const done = await copyText(typeof text === "function" ? text() : text);
    button.textContent = done ? "Copied" : "Not allowed";
    announce(done ? `Copied ${what}` : "The browser does not allow copying");
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

/** A block of code with a button that copies it. */
export function codeBlock(text, what) {
  const block = el("pre", { tabindex: "0", "aria-label": what }, el("code", {}, text));
  return el("div", { class: "code" }, block, copyButton(text, what));
}

/** A list of names and values; pairs without a value are left out. */
export function facts(pairs) {
  const kept = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "facts" }, kept.map(([name, value]) => el("div", {}, el("dt", {}, breakable(name)), el("dd", {}, value))));
}

/** A name that may be broken behind its underscores and dots. */
function breakable(name) {
  return String(name).split(/(?<=[_.])/).flatMap((piece, i) => (i ? [document.createElement("wbr"), piece] : [piece]));
}

/**
 * A table that does not change.
 * @param {string} caption what it is, for readers who do not see it
 * @param {Array} heads headers
 * @param {Array<Array>} rows cells
 * @param {Set<number>} [right] columns of numbers
 */
export function plainTable(caption, heads, rows, right = new Set()) {
  const side = (i) => (right.has(i) ? { class: "number" } : {});
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { class: "plain" }, el("caption", { class: "hidden" }, caption),
      el("thead", {}, el("tr", {}, heads.map((head, i) => el("th", { scope: "col", ...side(i) }, head)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) => el("td", side(i), cell)))))));
}

/** A word in a pill: `good`, `bad`, `warn` or `plain`. */
export function badge(kind, ...children) {
  const marks = { good: "✓", bad: "✕", warn: "!" };
  const mark = marks[kind] ? el("span", { class: "mark", "aria-hidden": "true" }, marks[kind]) : null;
  return el("span", { class: `badge ${kind}` }, mark, el("span", {}, children));
}

/** The same function, called once the calls have stopped for a while. */
export function later(wait, work) {
  let timer = 0;
  return (...words) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...words), wait);
  };
}
