// Charts in the document: a heading, the drawing, and whatever it shows as a table.

const charts = [];

function chart(block) {
  const holder = el("div", {
    class: "plot",
    role: "img",
    "aria-label": `${block.title}. The numbers are in the table below.`,
  });
  const figure = el(
    "figure",
    { class: `chart ${block.kind}` },
    el("figcaption", {}, el("h3", {}, block.title), block.about && el("p", { class: "about" }, block.about)),
    holder,
    labelled(block),
    fold("As a table", [el("div", { class: "scroll", tabindex: "0" }, chartTable(block))]),
  );
  charts.push({ block, holder, plot: null });
  return figure;
}

// What stands beside each labelled point, to read in full.
function labelled(block) {
  const points = block.series.flatMap((series) =>
    series.points.filter((point) => point.note).map((point) => [series, point]),
  );
  if (!points.length) return null;
  const many = block.series.length > 1;
  const items = points.map(([series, point]) =>
    el("li", {}, el("b", {}, many ? `${series.name}: ${point.label}` : point.label), ` ${point.note}`),
  );
  return el("ul", { class: "named" }, items);
}

function chartTable(block) {
  const names = ["", block.x, block.y || "value", "95% interval", "n"];
  const rows = block.series.flatMap((series) => series.points.map((point) => chartRow(block, series, point)));
  const cell = (tag, scope) => (text, at) =>
    el(at ? tag : "th", { scope: at ? scope : scope || "row", class: at > 1 ? "figure" : null }, text);
  return el(
    "table",
    { class: "figures" },
    el("thead", {}, el("tr", {}, names.map(cell("th", "col")))),
    el(
      "tbody",
      {},
      rows.map((texts) => el("tr", {}, texts.map(cell("td", null)))),
    ),
  );
}

function chartRow(block, series, point) {
  const up = (value) => chartValue(value, block.y_share);
  return [
    point.label ? `${series.name}: ${point.label}` : series.name,
    block.ticks.length ? block.ticks[point.x] : chartValue(point.x, block.x_share),
    up(point.y),
    point.low === null ? "" : `${up(point.low)} to ${up(point.high)}`,
    point.n === null ? "" : number(point.n),
  ];
}

const chartValue = (value, share) => (share ? percent(value) : number(value));

// Draw every chart anew: when the page opens, when its width or its colours change.
function drawCharts() {
  for (const one of charts) {
    const width = Math.floor(one.holder.clientWidth);
    if (!width) continue;
    if (one.plot) one.plot.destroy();
    one.plot = plot(one.block, width, one.holder);
  }
}
