// Puts the page together.

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
  const links = sections.map((node) =>
    el("a", { href: `#${node.id}` }, node.querySelector("h2").textContent),
  );
  byId("nav").append(...links);
  theme();
  widths();
}

assemble();
