// The page as a whole: which view is shown, keys, and what is read when.

import { aboutView } from "./about.js";
import { artifactTitle, showArtifact } from "./artifact.js";
import { Grid, head, part } from "./data.js";
import { el, fill, own, plural } from "./dom.js";
import { Explorer } from "./explorer.js";
import { figuresView } from "./figures.js";
import { findingsView } from "./findings.js";
import { Store, VIEWS, artifactHash, formatHash, parseHash } from "./state.js";
import { themeButton } from "./theme.js";

const TITLES = { artifacts: "Artifacts", figures: "Figures", findings: "Findings", about: "About" };

/** The page. */
class Page {
  constructor(grid) {
    this.grid = grid;
    this.store = new Store(location.hash);
    this.main = document.getElementById("view");
    this.views = new Map();
    this.shown = null;
    this.scrolled = 0;
    this.explorer = new Explorer(grid, this.store, (row) => this.open(grid.id(row)));
    this.views.set("artifacts", this.explorer.node);
    this.header();
    addEventListener("popstate", () => this.store.follow());
    addEventListener("hashchange", () => this.store.follow());
    addEventListener("keydown", (event) => this.key(event));
    addEventListener("click", (event) => this.clicked(event));
    this.store.subscribe((state) => this.follow(state));
  }

  /** Show the first view. */
  start() {
    fill(this.main, [...this.views.values()]);
    this.explorer.start();
    performance.mark("first-table");
    this.follow(this.store.state);
    document.documentElement.dataset.ready = "true";
  }

  header() {
    const count = (name) => ({ figures: head.figures?.length, findings: head.report?.findings?.length })[name];
    this.links = VIEWS.map((view) => el("a", { href: formatHash({ ...this.store.state, view, id: null }), "data-view": view }, TITLES[view], count(view) ? el("span", { class: "count" }, count(view)) : null));
    const name = el("a", { class: "home", href: "#/" }, own(head.release.name));
    fill(document.getElementById("top"), el("div", { class: "bar" }, name, el("nav", { "aria-label": "Views" }, this.links), themeButton()));
    fill(document.getElementById("foot"), el("p", {}, `Made by saereg ${head.made_by?.saereg ?? ""} from the documents of ${head.release.name} ${head.release.version}. One file; it asks no network. `, el("a", { href: "#/about" }, "Keys and sources")));
  }

  /** Show what the state says. */
  follow(state) {
    const key = state.view === "artifact" ? `artifact ${state.id}` : state.view;
    for (const anchor of this.links) {
      const view = anchor.dataset.view;
      anchor.setAttribute("href", formatHash({ ...state, view, id: null }));
      if (view === state.view || (view === "artifacts" && state.view === "artifact")) anchor.setAttribute("aria-current", "page");
      else anchor.removeAttribute("aria-current");
    }
    if (state.view === "artifacts" || state.view === "artifact") this.explorer.show(state.view === "artifact" ? { ...state, page: this.tablePage ?? 0 } : state);
    if (state.view === "artifacts") this.tablePage = state.page;
    if (key !== this.shown) this.change(state, key);
  }

  change(state, key) {
    const first = this.shown === null;
    if (this.shown === "artifacts") this.scrolled = scrollY;
    const from = this.shown;
    this.shown = key;
    const node = state.view === "artifact" ? this.artifact(state) : this.view(state.view);
    for (const one of this.main.children) one.hidden = one !== node;
    document.title = state.view === "artifact" ? artifactTitle(state.id) : state.view === "artifacts" ? head.release.title : `${TITLES[state.view]} · ${head.release.title}`;
    if (first) return;
    scrollTo({ top: state.view === "artifacts" ? this.scrolled : 0, behavior: "instant" });
    const before = from?.startsWith("artifact ") ? this.main.querySelector(`a[data-row="${this.grid.rowOf.get(from.slice(9))}"]`) : null;
    if (state.view === "artifacts" && before) before.focus({ preventScroll: true });
    else node.querySelector("h1")?.focus({ preventScroll: true });
    if (state.view === "artifacts") this.explorer.plots.refresh?.();
  }

  view(name) {
    if (!this.views.has(name)) {
      const of = (id) => (this.grid.rowOf.has(id) ? artifactHash(id) : null);
      const made = { figures: figuresView, findings: () => findingsView(of), about: aboutView }[name]();
      this.views.set(name, made);
      this.main.append(made);
    }
    return this.views.get(name);
  }

  artifact(state) {
    let node = this.views.get("artifact");
    if (!node) {
      node = el("article", { class: "artifact" });
      this.views.set("artifact", node);
      this.main.append(node);
    }
    const row = this.grid.rowOf.get(state.id);
    const back = formatHash({ ...state, view: "artifacts", id: null, page: this.tablePage ?? 0 });
    if (row === undefined) {
      fill(node, el("h1", { tabindex: "-1" }, "No such artifact"), el("p", {}, "The release has no artifact ", own(state.id), ". ", el("a", { href: back }, "All artifacts")));
      return node;
    }
    const rows = this.explorer.found();
    const at = rows.indexOf(row);
    const address = (one) => (one === undefined ? null : formatHash({ ...state, view: "artifact", id: this.grid.id(one), page: 0 }));
    const around = { before: at > 0 ? address(rows[at - 1]) : null, next: at >= 0 ? address(rows[at + 1]) : null, back, place: at >= 0 ? `${at + 1} of ${plural(rows.length, "artifact")} in the table` : "not among those that the filters find" };
    node.setAttribute("aria-busy", "true");
    fill(node, el("h1", { tabindex: "-1" }, own(state.id)), el("p", { class: "dim" }, "Reading its details…"));
    showArtifact(node, this.grid, row, around).then(() => {
      node.removeAttribute("aria-busy");
      node.dataset.artifact = state.id;
      if (document.activeElement === document.body) node.querySelector("h1")?.focus({ preventScroll: true });
    }, (error) => fill(node, el("h1", { tabindex: "-1" }, own(state.id)), el("p", { class: "warning" }, `Its details cannot be read: ${error.message}`)));
    return node;
  }

  /** Open the artifact of a link with search and filters as they are, so that the way back leads to them. */
  clicked(event) {
    const anchor = event.target.closest?.("a[href^='#/artifact/']");
    if (!anchor || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    this.open(parseHash(anchor.getAttribute("href")).id);
  }

  open(id) {
    this.store.update({ view: "artifact", id, page: 0 }, { push: true });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typing = event.target.closest?.("input, select, textarea, [contenteditable]");
    if (event.key === "Escape") this.escape(event, typing);
    else if (typing) return;
    else if (event.key === "/") this.toSearch(event);
    else if (this.store.state.view === "artifact" && ["ArrowLeft", "ArrowRight"].includes(event.key) && !event.target.closest?.("pre, .scroll")) {
      this.views.get("artifact").querySelector(event.key === "ArrowLeft" ? "a[rel=prev]" : "a[rel=next]")?.click();
    }
  }

  escape(event, typing) {
    const columns = document.getElementById("columns");
    if (columns?.open) {
      columns.open = false;
      columns.querySelector("summary").focus();
    } else if (this.explorer.filters.closeOthers(null)) event.preventDefault();
    else if (typing?.id === "search") typing.blur();
    else if (this.store.state.view !== "artifacts") this.store.update({ view: "artifacts", id: null, page: this.tablePage ?? 0 }, { push: true });
  }

  toSearch(event) {
    event.preventDefault();
    if (this.store.state.view !== "artifacts") this.store.update({ view: "artifacts", id: null }, { push: true });
    this.explorer.search.focus();
    this.explorer.search.select();
  }
}

part("table").then((raw) => new Page(new Grid(raw)).start()).catch((error) => {
  fill(document.getElementById("view"), el("h1", {}, own(head.release.title)), el("p", { class: "warning" }, `This browser cannot show the page: ${error.message}`));
  throw error;
});
