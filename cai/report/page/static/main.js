// Puts the page together and answers the keyboard.

const facts = JSON.parse(byId("facts").textContent);

function block(one) {
  if (one.grid) return grid(one.grid);
  if (one.chart) return chart(one.chart);
  return wholeText(one.text);
}

// Charts and open tables stand beside each other where there is room.
function sectionOf(section) {
  const node = el("section", { id: section.id, class: "part" }, el("h2", {}, section.title));
  const beside = section.blocks.some((one) => one.chart);
  let row = null;
  for (const one of section.blocks) {
    const folded = one.text || (one.grid && one.grid.folded);
    if (folded || !beside) row = null;
    else if (!row) node.append((row = el("div", { class: "charts" })));
    (row || node).append(block(one));
  }
  return node;
}

function rowsSection() {
  const search = el("input", { type: "search", id: "search", placeholder: "Search all rows   ( / )", "aria-label": "Search all rows", "aria-describedby": "found", autocomplete: "off", spellcheck: "false" });
  const selects = FACETS.map((name) => el("select", { "aria-label": `Filter by ${name}`, "data-facet": name }, el("option", { value: "" }, `any ${name}`)));
  const found = el("p", { id: "found", role: "status", "aria-live": "polite" });
  const shown = el("div", { class: "detail", id: "detail", "aria-live": "off" });
  const list = makeList((row) => shown.replaceChildren(...(row ? detail(row) : [el("p", { class: "about" }, "No row is like that.")])));

  const refresh = () => {
    const chosen = Object.fromEntries(selects.map((select) => [select.dataset.facet, select.value]));
    const rows = matching(search.value, chosen);
    list.show(rows);
    const waiting = store.rows.length < facts.rows.count ? ` (${number(store.rows.length)} unpacked so far)` : "";
    found.textContent = `${number(rows.length)} of ${number(facts.rows.count)} rows${waiting}`;
  };
  const fill = () => selects.forEach((select) => fillSelect(select));
  search.addEventListener("input", refresh);
  selects.forEach((select) => select.addEventListener("change", refresh));
  loadAll(fill, refresh);
  keyboard(search, list);
  return el(
    "section",
    { id: "rows", class: "part" },
    el("h2", {}, "Rows"),
    el("p", { class: "about" }, `${facts.rows.about} Words (and "phrases in quotes") are searched in all texts; key:value finds what an eval or a request's own keys say. Keys: / search, j and k next and previous row, Escape clear.`),
    el("div", { class: "filters" }, search, selects),
    found,
    el("div", { class: "browser" }, list.box, shown),
  );
}

function fillSelect(select) {
  const counts = [...store.counts[select.dataset.facet]].sort(([one], [other]) => one.localeCompare(other));
  const chosen = select.value;
  const any = select.options[0];
  select.replaceChildren(any, ...counts.map(([value, count]) => el("option", { value }, `${value} (${number(count)})`)));
  select.value = chosen;
  select.hidden = counts.length === 0;
}

// The first rows are shown at once, all others when they are unpacked.
function loadAll(fill, refresh) {
  const start = async () => {
    refresh();
    await loadRows(() => {
      if (store.rows.length >= facts.rows.count || store.rows.length <= 500) refresh();
    });
    fill();
    refresh();
    document.documentElement.dataset.rows = "ready";
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
}

function keyboard(search, list) {
  const moves = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target === search;
    if (event.key === "Escape" && typing) return leave(search, list);
    if (typing) {
      if (event.key === "Enter" || event.key === "ArrowDown") goTo(event, list);
      return;
    }
    if (["SELECT", "BUTTON", "SUMMARY", "A"].includes(event.target.tagName) && event.key.length > 1) return;
    if (event.key === "/") {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === "j" || event.key === "k" || (event.target === list.box && event.key in moves)) {
      event.preventDefault();
      list.select(list.at + moves[event.key]);
    } else if (event.target === list.box && (event.key === "Home" || event.key === "End")) {
      event.preventDefault();
      list.select(event.key === "Home" ? 0 : list.found.length - 1);
    }
  });
}

function leave(search, list) {
  if (search.value) {
    search.value = "";
    search.dispatchEvent(new Event("input"));
  } else {
    list.box.focus();
  }
}

function goTo(event, list) {
  event.preventDefault();
  list.box.focus();
}

// Light or dark as the system has it, until the button says otherwise. On paper it is always light.
function theme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    if (!root.dataset.chosen) root.dataset.theme = dark.matches ? "dark" : "light";
    drawCharts();
  };
  dark.addEventListener("change", follow);
  byId("theme").addEventListener("click", () => {
    root.dataset.chosen = root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    drawCharts();
  });
  let before = null;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    drawCharts();
  });
  addEventListener("afterprint", () => {
    root.dataset.theme = before;
    drawCharts();
  });
  follow();
}

function widths() {
  let last = window.innerWidth;
  addEventListener("resize", () => {
    if (window.innerWidth === last) return;
    last = window.innerWidth;
    drawCharts();
  });
}

function assemble() {
  byId("title").textContent = facts.title;
  byId("made").textContent = facts.made;
  const sections = facts.sections.map((section) => sectionOf(section));
  const at = facts.sections.findIndex((section) => section.id === "provenance");
  const rows = facts.rows.count ? [rowsSection()] : [];
  sections.splice(at < 0 ? sections.length : at, 0, ...rows);
  byId("main").append(...sections);
  const links = sections.map((node) => el("a", { href: `#${node.id}` }, node.querySelector("h2").textContent));
  byId("nav").append(...links);
  theme();
  widths();
}

assemble();
