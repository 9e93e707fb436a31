// Tables and whole texts.

function grid(block) {
  const head = block.columns.map((name, at) =>
    el("th", { scope: "col", class: at < block.words ? null : "figure" }, name),
  );
  const body = block.rows.map((cells) =>
    el(
      "tr",
      {},
      cells.map((cell, at) => gridCell(cell, at, block)),
    ),
  );
  const table = el(
    "table",
    { class: block.words < block.columns.length && block.columns.length < 6 ? "figures stacks" : "wordy" },
    el("thead", {}, el("tr", {}, head)),
    el("tbody", {}, body),
  );
  const whole = [
    block.about && el("p", { class: "about" }, block.about),
    block.rows.length > 0 &&
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": block.title }, table),
  ].filter(Boolean);
  return block.folded
    ? fold(block.title, whole)
    : el(
        "section",
        { class: block.columns.length > 4 ? "grid wide" : "grid" },
        el("h3", {}, block.title),
        whole,
      );
}

function gridCell(cell, at, block) {
  const text = el("span", {}, cell.text);
  const node = el(
    at === 0 ? "th" : "td",
    {
      scope: at === 0 ? "row" : null,
      class: at < block.words ? null : "figure",
      "data-label": block.columns[at] || null,
    },
    text,
  );
  if (cell.small) node.append(el("small", {}, cell.small));
  if (cell.share !== null && cell.share !== undefined) {
    node.classList.add("share");
    node.style.setProperty("--share", percent(cell.share, 2));
  }
  return node;
}

function fold(title, children) {
  return el("details", {}, el("summary", {}, title), children);
}

function wholeText(block) {
  return fold(block.title, [
    block.about && el("p", { class: "about" }, block.about),
    el("pre", { tabindex: "0" }, block.text),
  ]);
}
