// The browser of rows: search, filters, the list, the row that is open, and the keys for all of them.

const HELP =
  ' Words and "phrases in quotes" are searched in all texts; key:value finds what an eval says, or a request\'s ' +
  "own keys. Keys: / search, j and k next and previous row, Escape clear.";

function rowsSection() {
  const search = searchField();
  const selects = FACETS.map((name) => facetSelect(name));
  const found = el("p", { id: "found", role: "status", "aria-live": "polite" });
  const shown = el("div", { class: "detail", id: "detail", "aria-live": "off" });
  const list = makeList((row) =>
    shown.replaceChildren(...(row ? detail(row) : [el("p", { class: "about" }, "No row is like that.")])),
  );

  const refresh = () => {
    const chosen = Object.fromEntries(selects.map((select) => [select.dataset.facet, select.value]));
    const rows = matching(search.value, chosen);
    list.show(rows);
    const waiting =
      store.rows.length < facts.rows.count ? ` (${number(store.rows.length)} unpacked so far)` : "";
    found.textContent = `${number(rows.length)} of ${number(facts.rows.count)} rows${waiting}`;
  };
  const fill = () => selects.forEach((select) => fillSelect(select));
  search.addEventListener("input", refresh);
  selects.forEach((select) => select.addEventListener("change", refresh));
  keyboard(search, list);
  const section = el(
    "section",
    { id: "rows", class: "part" },
    el("h2", {}, "Rows"),
    el("p", { class: "about" }, facts.rows.about, HELP),
    el("div", { class: "filters" }, search, selects),
    found,
    el("div", { class: "browser" }, list.box, shown),
  );
  loadAll(fill, refresh);
  return section;
}

function fillSelect(select) {
  const counts = [...store.counts[select.dataset.facet]].sort(([one], [other]) => one.localeCompare(other));
  const chosen = select.value;
  const any = select.options[0];
  select.replaceChildren(
    any,
    ...counts.map(([value, count]) => el("option", { value }, `${value} (${number(count)})`)),
  );
  select.value = chosen;
  select.hidden = counts.length === 0;
}

// The first rows are shown at once, all others when they are unpacked.
async function loadAll(fill, refresh) {
  let first = true;
  await loadRows(() => {
    if (first) refresh();
    first = false;
  });
  fill();
  refresh();
  document.documentElement.dataset.rows = "ready";
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
    if (hasOwnUse(event.target, event.key)) return;
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

// A select reads every key, a button or a link those that are no letters.
function hasOwnUse(element, key) {
  return (
    element.tagName === "SELECT" || (["BUTTON", "SUMMARY", "A"].includes(element.tagName) && key.length > 1)
  );
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

function searchField() {
  return el("input", {
    type: "search",
    id: "search",
    placeholder: "Search all rows   ( / )",
    "aria-label": "Search all rows",
    "aria-describedby": "found",
    autocomplete: "off",
    spellcheck: "false",
  });
}

function facetSelect(name) {
  const any = el("option", { value: "" }, `any ${name}`);
  return el("select", { "aria-label": `Filter by ${name}`, "data-facet": name }, any);
}
