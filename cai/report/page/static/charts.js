// Charts, drawn by uPlot from the page's own descriptions; intervals and labels are added to its canvas.
// Whatever a chart shows stands in a table below it too.

const drawn = [];
const HEIGHT = { points: 270, bars: 250, line: 190 };
// Steps of an axis of whole numbers.
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];

function chart(block) {
  const holder = el("div", { class: "plot", role: "img", "aria-label": `${block.title}. The numbers are in the table below.` });
  const figure = el(
    "figure",
    { class: `chart ${block.kind}` },
    el("figcaption", {}, el("h3", {}, block.title), block.about && el("p", { class: "about" }, block.about)),
    holder,
    labelled(block),
    fold("As a table", [el("div", { class: "scroll", tabindex: "0" }, chartTable(block))]),
  );
  drawn.push({ block, holder, plot: null });
  return figure;
}

// What stands beside each labelled point, to read in full.
function labelled(block) {
  const points = block.series.flatMap((series) => series.points.filter((point) => point.note).map((point) => [series, point]));
  if (!points.length) return null;
  const many = block.series.length > 1;
  const items = points.map(([series, point]) =>
    el("li", {}, el("b", {}, many ? `${series.name}: ${point.label}` : point.label), ` ${point.note}`),
  );
  return el("ul", { class: "named" }, items);
}

function chartTable(block) {
  const rows = block.series.flatMap((series) =>
    series.points.map((point) => {
      const x = block.ticks.length ? block.ticks[point.x] : chartValue(point.x, block.x_share);
      const between = point.low === null ? "" : `${chartValue(point.low, block.y_share)} to ${chartValue(point.high, block.y_share)}`;
      const cells = [point.label ? `${series.name}: ${point.label}` : series.name, x, chartValue(point.y, block.y_share), between, point.n === null ? "" : number(point.n)];
      return el("tr", {}, cells.map((cell, at) => el(at ? "td" : "th", { scope: at ? null : "row", class: at > 1 ? "figure" : null }, cell)));
    }),
  );
  const names = ["", block.x || "", block.y || "value", "95% interval", "n"];
  return el("table", { class: "figures" }, el("thead", {}, el("tr", {}, names.map((name, at) => el("th", { scope: "col", class: at > 1 ? "figure" : null }, name)))), el("tbody", {}, rows));
}

const chartValue = (value, share) => (share ? percent(value) : number(value));

function colour(at) {
  return style(`--series-${(at % 6) + 1}`);
}

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Draw every chart anew: when the page opens, when its width or its colours change.
function drawCharts() {
  for (const one of drawn) {
    const width = Math.floor(one.holder.clientWidth);
    if (!width) continue;
    if (one.plot) one.plot.destroy();
    const places = placed(one.block);
    one.plot = new uPlot(options(one.block, places, width), aligned(places), one.holder);
  }
}

// Points with the x at which they are drawn: bars of one tick stand side by side.
function placed(block) {
  const count = block.series.length;
  const shift = (at) => (block.kind === "bars" ? ((at - (count - 1) / 2) * 0.8) / count : 0);
  return block.series.map((series, at) => series.points.map((point) => ({ ...point, at: point.x + shift(at) })));
}

// uPlot's form: one sorted list of x for all series, null where a series has nothing.
function aligned(places) {
  const xs = [...new Set(places.flat().map((point) => point.at))].sort((a, b) => a - b);
  const where = new Map(xs.map((x, at) => [x, at]));
  const columns = places.map((points) => {
    const ys = new Array(xs.length).fill(null);
    for (const point of points) ys[where.get(point.at)] = point.y;
    return ys;
  });
  return [xs, ...columns];
}

function options(block, places, width) {
  const ink = style("--ink-soft");
  const axis = (label, share, size) => ({
    label: label || null,
    labelSize: label ? 22 : 0,
    size,
    stroke: ink,
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
    grid: { stroke: style("--rule"), width: 1 },
    ticks: { stroke: style("--rule"), width: 1 },
    splits: share ? (plot, at, low) => (low > 0 ? [0.5, 0.6, 0.7, 0.8, 0.9, 1] : [0, 0.25, 0.5, 0.75, 1]) : undefined,
    values: (_, splits) => splits.map((value) => (share ? percent(value, 0) : number(value))),
  });
  const across = axis(block.x, block.x_share, 34);
  if (!block.x_share) across.incrs = WHOLE;
  if (block.ticks.length) {
    across.splits = () => block.ticks.map((_, at) => at);
    across.values = () => block.ticks.map((tick) => shortened(tick, width / block.ticks.length));
    across.grid = { show: false };
    across.rotate = width / block.ticks.length < 64 ? -50 : 0;
    across.size = across.rotate ? 76 : 34;
  }
  return {
    width,
    height: HEIGHT[block.kind] + (across.rotate ? 42 : 0),
    cursor: { drag: { x: false, y: false }, points: { show: block.kind === "line" } },
    legend: { show: block.series.length > 1 || block.kind === "line", live: block.kind === "line" },
    scales: { x: { time: false, range: (_, low, high) => acrossRange(block, places, low, high) }, y: { range: (_, low, high) => upRange(block, places, low, high) } },
    axes: [across, axis(block.y, block.y_share, 52)],
    series: [{ label: block.x || "" }, ...block.series.map((series, at) => seriesOptions(block, series, at))],
    hooks: { draw: [(plot) => overlay(plot, block, places)] },
  };
}

function shortened(tick, room) {
  const most = room < 64 ? 12 : Math.max(6, Math.floor(room / 7.5));
  return tick.length > most ? `${tick.slice(0, most - 1)}…` : tick;
}

function seriesOptions(block, series, at) {
  const base = { label: series.name, stroke: colour(at), width: 1.5, value: (_, value) => (value === null ? "" : chartValue(value, block.y_share)) };
  if (block.kind === "line") return { ...base, points: { show: series.points.length < 3 } };
  if (block.kind === "bars") {
    return { ...base, width: 0, fill: colour(at), paths: uPlot.paths.bars({ size: [0.9, 60], align: 0 }), points: { show: false } };
  }
  return { ...base, paths: () => null, points: { show: true, size: 9, fill: colour(at), width: 0 } };
}

function acrossRange(block, places, low, high) {
  if (block.ticks.length) return [-0.6, block.ticks.length - 0.4];
  // How sure somebody is of one of two begins at a half.
  if (block.diagonal && low >= 0.5) return [0.485, 1.015];
  if (block.x_share) return [-0.03, 1.03];
  const pad = block.kind === "line" ? 0 : Math.max(0.25, (high - low) * 0.08);
  return low === high ? [low - 1, high + 1] : [low - pad, high + pad];
}

function upRange(block, places, low, high) {
  if (block.y_share) return block.kind === "bars" ? [0, 1.02] : [-0.04, 1.04];
  const points = places.flat();
  const bottom = Math.min(low, ...points.map((point) => point.low ?? low), block.kind === "bars" ? 0 : low);
  const top = Math.max(high, ...points.map((point) => point.high ?? high));
  const pad = (top - bottom) * 0.06 || Math.abs(top) * 0.1 || 1;
  return [bottom === 0 ? 0 : bottom - pad, top + pad];
}

// Intervals, joining lines, labels and the diagonal, on uPlot's canvas.
function overlay(plot, block, places) {
  const context = plot.ctx;
  const scale = window.devicePixelRatio;
  const x = (value) => plot.valToPos(value, "x", true);
  const y = (value) => plot.valToPos(value, "y", true);
  context.save();
  context.lineWidth = scale;
  if (block.diagonal) {
    const from = Math.max(0, plot.scales.x.min);
    stroke(context, style("--ink-soft"), [[x(from), y(from)], [x(1), y(1)]], [4 * scale, 4 * scale]);
  }
  places.forEach((points, at) => {
    const ink = block.kind === "bars" ? style("--ink") : colour(at);
    if (block.kind === "points") stroke(context, ink, points.map((point) => [x(point.at), y(point.y)]), [2 * scale, 3 * scale]);
    for (const point of points) whiskers(context, ink, point, x, y, scale);
  });
  labels(context, plot, places, x, y, scale);
  context.restore();
}

function stroke(context, ink, points, dash) {
  context.strokeStyle = ink;
  context.setLineDash(dash);
  context.beginPath();
  points.forEach(([across, up], at) => (at ? context.lineTo(across, up) : context.moveTo(across, up)));
  context.stroke();
  context.setLineDash([]);
}

function whiskers(context, ink, point, x, y, scale) {
  const cap = 3 * scale;
  const across = x(point.at);
  const up = y(point.y);
  if (point.low !== null) {
    stroke(context, ink, [[across, y(point.low)], [across, y(point.high)]], []);
    for (const end of [point.low, point.high]) stroke(context, ink, [[across - cap, y(end)], [across + cap, y(end)]], []);
  }
  if (point.x_low !== null) {
    stroke(context, ink, [[x(point.x_low), up], [x(point.x_high), up]], []);
    for (const end of [point.x_low, point.x_high]) stroke(context, ink, [[x(end), up - cap], [x(end), up + cap]], []);
  }
}

// Short labels beside their points, moved up, or else down, where they would cover each other.
function labels(context, plot, places, x, y, scale) {
  const taken = [];
  const line = 15 * scale;
  context.font = `${12 * scale}px system-ui, sans-serif`;
  context.fillStyle = style("--ink");
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  for (const point of places.flat().filter((one) => one.label)) {
    const width = context.measureText(point.label).width;
    const left = x(point.at) > plot.bbox.left + plot.bbox.width / 2;
    const start = left ? x(point.at) - width - 9 * scale : x(point.at) + 9 * scale;
    const free = (base) => taken.every(([from, to, height]) => start >= to || from >= start + width || Math.abs(height - base) >= line);
    const above = Array.from({ length: 30 }, (_, at) => y(point.y) - 7 * scale - at * line);
    const below = above.map((_, at) => y(point.y) + 16 * scale + at * line);
    const base = [...above.filter((one) => one > plot.bbox.top + 8 * scale), ...below].find(free) || above[0];
    taken.push([start, start + width, base]);
    context.fillText(point.label, start, base);
  }
}
