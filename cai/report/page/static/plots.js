// A chart's description as uPlot's options. What uPlot has no marks for is drawn over it (marks.js).

const HEIGHT = { points: 270, bars: 250, line: 190 };
// Steps of an axis of whole numbers.
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];
const FONT = "12px system-ui, sans-serif";

const plot = (block, width, holder) => {
  const places = placed(block);
  return new uPlot(options(block, places, width), aligned(places), holder);
};

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (at) => style(`--series-${(at % 6) + 1}`);

// Points with the x at which they are drawn: bars of one tick stand side by side.
function placed(block) {
  const count = block.series.length;
  const shift = (at) => (block.kind === "bars" ? ((at - (count - 1) / 2) * 0.8) / count : 0);
  return block.series.map((series, at) =>
    series.points.map((point) => ({ ...point, at: point.x + shift(at) })),
  );
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
  const across = acrossAxis(block, width);
  return {
    width,
    height: HEIGHT[block.kind] + (across.rotate ? 50 : 0),
    cursor: { drag: { x: false, y: false }, points: { show: block.kind === "line" } },
    legend: { show: block.series.length > 1 || block.kind === "line", live: block.kind === "line" },
    scales: {
      x: { time: false, range: (_, low, high) => acrossRange(block, low, high) },
      y: { range: (_, low, high) => upRange(block, places.flat(), low, high) },
    },
    axes: [across, axis(block.y, block.y_share, 52)],
    series: [{ label: block.x }, ...block.series.map((series, at) => seriesOptions(block, series, at))],
    hooks: { draw: [(drawn) => overlay(drawn, block, places)] },
  };
}

function axis(label, share, size) {
  const halves = [0.5, 0.6, 0.7, 0.8, 0.9, 1];
  const whole = [0, 0.25, 0.5, 0.75, 1];
  return {
    label: label || null,
    labelSize: label ? 22 : 0,
    size,
    stroke: style("--ink-soft"),
    font: FONT,
    labelFont: FONT,
    grid: { stroke: style("--rule"), width: 1 },
    ticks: { stroke: style("--rule"), width: 1 },
    splits: share ? (_, at, low) => (low > 0 ? halves : whole) : undefined,
    values: (_, splits) => splits.map((value) => (share ? percent(value, 0) : number(value))),
  };
}

// Names where the axis has no numbers, turned where they would not fit.
function acrossAxis(block, width) {
  const across = axis(block.x, block.x_share, 34);
  if (!block.ticks.length) return block.x_share ? across : { ...across, incrs: WHOLE };
  const room = width / block.ticks.length;
  const turned = room < 64;
  return {
    ...across,
    splits: () => block.ticks.map((_, at) => at),
    values: () => block.ticks.map((tick) => shortened(tick, room)),
    grid: { show: false },
    rotate: turned ? -50 : 0,
    size: turned ? 84 : 34,
  };
}

function shortened(tick, room) {
  const most = room < 64 ? 12 : Math.max(6, Math.floor((room - 8) / 7.5));
  return tick.length > most ? `${tick.slice(0, most - 1)}…` : tick;
}

function seriesOptions(block, series, at) {
  const base = {
    label: series.name,
    stroke: colour(at),
    width: 1.5,
    value: (_, value) => (value === null ? "" : chartValue(value, block.y_share)),
  };
  if (block.kind === "line") return { ...base, points: { show: series.points.length < 3 } };
  const bare = { ...base, fill: colour(at), points: { show: false } };
  if (block.kind === "bars") return { ...bare, width: 0, paths: uPlot.paths.bars({ size: [0.9, 60] }) };
  return { ...bare, paths: () => null };
}

function acrossRange(block, low, high) {
  if (block.ticks.length) return [-0.6, block.ticks.length - 0.4];
  // How sure somebody is of one of two begins at a half.
  if (block.diagonal && low >= 0.5) return [0.485, 1.015];
  if (block.x_share) return [-0.03, 1.03];
  const pad = block.kind === "line" ? 0 : Math.max(0.25, (high - low) * 0.08);
  return low === high ? [low - 1, high + 1] : [low - pad, high + pad];
}

function upRange(block, points, low, high) {
  const bars = block.kind === "bars";
  if (block.y_share) return bars ? [0, 1.02] : [-0.04, 1.04];
  const bottom = Math.min(low, ...points.map((point) => point.low ?? low), bars ? 0 : low);
  const top = Math.max(high, ...points.map((point) => point.high ?? high));
  const pad = (top - bottom) * 0.06 || Math.abs(top) * 0.1 || 1;
  return [bottom === 0 ? 0 : bottom - pad, top + pad];
}
