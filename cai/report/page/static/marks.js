// What is drawn over uPlot's canvas: points, their intervals, the lines that join them, labels, the diagonal.

function overlay(drawn, block, places) {
  const pen = {
    context: drawn.ctx,
    scale: window.devicePixelRatio,
    box: drawn.bbox,
    x: (value) => drawn.valToPos(value, "x", true),
    y: (value) => drawn.valToPos(value, "y", true),
  };
  pen.context.save();
  pen.context.lineWidth = pen.scale;
  if (block.diagonal) {
    const from = Math.max(0, drawn.scales.x.min);
    stroke(pen, style("--ink-soft"), [place(pen, from, from), place(pen, 1, 1)], 4);
  }
  places.forEach((points, at) => {
    // A click on the legend takes a series away.
    if (drawn.series[at + 1].show)
      marks(pen, block, points, block.kind === "bars" ? style("--ink") : colour(at));
  });
  labels(pen, places.flat());
  pen.context.restore();
}

const place = (pen, x, y) => [pen.x(x), pen.y(y)];

function marks(pen, block, points, ink) {
  for (const point of points) whiskers(pen, ink, point);
  if (block.kind !== "points") return;
  stroke(
    pen,
    ink,
    points.map((point) => place(pen, point.at, point.y)),
    3,
  );
  pen.context.fillStyle = ink;
  for (const point of points) {
    pen.context.beginPath();
    pen.context.arc(...place(pen, point.at, point.y), 4.5 * pen.scale, 0, 2 * Math.PI);
    pen.context.fill();
  }
}

// A line through places of the canvas, with dashes of so many pixels.
function stroke(pen, ink, path, dash = 0) {
  const { context, scale } = pen;
  context.strokeStyle = ink;
  context.setLineDash(dash ? [dash * scale, dash * scale] : []);
  context.beginPath();
  path.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
}

// The interval of a point up and, where it has one, across, with a cap at each end.
function whiskers(pen, ink, point) {
  const cap = 3 * pen.scale;
  const [x, y] = place(pen, point.at, point.y);
  if (point.low !== null) {
    const [low, high] = [pen.y(point.low), pen.y(point.high)];
    stroke(pen, ink, [
      [x, low],
      [x, high],
    ]);
    for (const end of [low, high])
      stroke(pen, ink, [
        [x - cap, end],
        [x + cap, end],
      ]);
  }
  if (point.x_low !== null) {
    const [low, high] = [pen.x(point.x_low), pen.x(point.x_high)];
    stroke(pen, ink, [
      [low, y],
      [high, y],
    ]);
    for (const end of [low, high])
      stroke(pen, ink, [
        [end, y - cap],
        [end, y + cap],
      ]);
  }
}

// Short labels beside their points, moved up, or else down, where they would cover each other.
function labels(pen, points) {
  const { context, scale, box } = pen;
  const taken = [];
  const line = 15 * scale;
  context.font = `${12 * scale}px system-ui, sans-serif`;
  context.fillStyle = style("--ink");
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  for (const point of points.filter((one) => one.label)) {
    const [x, y] = place(pen, point.at, point.y);
    const width = context.measureText(point.label).width;
    const start = x > box.left + box.width / 2 ? x - width - 9 * scale : x + 9 * scale;
    const apart = (one) => start >= one.end || one.start >= start + width;
    const free = (base) => taken.every((one) => apart(one) || Math.abs(one.base - base) >= line);
    const above = Array.from({ length: 30 }, (_, at) => y - 7 * scale - at * line);
    const below = above.map((_, at) => y + 16 * scale + at * line);
    const base = [...above.filter((one) => one > box.top + 8 * scale), ...below].find(free) ?? above[0];
    taken.push({ start, end: start + width, base });
    context.fillText(point.label, start, base);
  }
}
