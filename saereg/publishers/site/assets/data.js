// What stands in the page: the head at once, everything else when it is looked at.

/** The head: release, counts, figures, findings. */
export const head = JSON.parse(document.getElementById("head").textContent);

const decoded = new Map();

/**
 * Inflate a part of the page.
 * @param {string} name its name
 * @returns {Promise<string>} its text
 */
export async function partText(name) {
  const tag = document.getElementById(`part-${name}`);
  if (!tag) throw new Error(`the page has no part ${name}`);
  const letters = atob(tag.textContent);
  const raw = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) raw[i] = letters.charCodeAt(i);
  return new Response(new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

/** Whether the page has a part. */
export function hasPart(name) {
  return document.getElementById(`part-${name}`) !== null;
}

/** Inflate a part of the page and read it as JSON, once. */
export function part(name) {
  if (!decoded.has(name)) decoded.set(name, partText(name).then(JSON.parse));
  return decoded.get(name);
}

/** Everything about the artifact in a row of the table. */
export async function detailOf(row) {
  const chunk = await part(`details-${Math.floor(row / head.chunk)}`);
  return chunk[row % head.chunk];
}

/** One column of the table: numbers by themselves, texts as numbers into the list of those that differ. */
export class Column {
  /** @param {Object} raw as the page has it */
  constructor(raw) {
    Object.assign(this, raw);
    this.numeric = this.values !== undefined;
    const count = this.numeric ? new Set(this.values).size : this.texts.length;
    this.distinct = count;
  }

  /** The number of a row, NaN where there is none; of texts the place in their order. */
  rank(row) {
    const value = this.numeric ? this.values[row] : this.codes[row];
    return value === null || (!this.numeric && value < 0) ? NaN : value;
  }

  /** The value of a row, null where there is none. */
  value(row) {
    if (this.numeric) return this.values[row];
    return this.codes[row] < 0 ? null : this.texts[this.codes[row]];
  }

  /** Its texts in small letters, for searches. */
  small() {
    this.lower ??= this.texts.map((text) => text.toLowerCase());
    return this.lower;
  }

  /** Every value that occurs, in order, null last. */
  choices() {
    const found = new Set();
    for (let row = 0; row < this.length; row++) found.add(this.value(row));
    const order = this.numeric ? (a, b) => a - b : (a, b) => this.texts.indexOf(a) - this.texts.indexOf(b);
    return [...found].sort((a, b) => (a === null) - (b === null) || order(a, b));
  }

  /** How many rows there are. */
  get length() {
    return (this.values ?? this.codes).length;
  }
}

/** The table of all artifacts. */
export class Grid {
  /** @param {Object} raw as the page has it */
  constructor(raw) {
    this.rows = raw.rows;
    this.columns = raw.columns.map((column) => new Column(column));
    this.byName = new Map(this.columns.map((column) => [column.name, column]));
    this.rowOf = new Map();
    for (let row = 0; row < this.rows; row++) this.rowOf.set(this.id(row), row);
  }

  /** A column by its name, or undefined. */
  column(name) {
    return this.byName.get(name);
  }

  /** The id of the artifact in a row. */
  id(row) {
    return this.byName.get("id").value(row);
  }
}
