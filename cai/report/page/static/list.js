// The list of rows that were found. Only what is in sight is in the document, so its length costs nothing.

const ROW_HEIGHT = 54;
const MARGIN = 8;

function makeList(onSelect) {
  const inner = el("div", { class: "tall" });
  const box = el("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": "Rows" }, inner);
  const list = { box, found: [], at: -1 };

  const render = () => {
    const first = Math.max(0, Math.floor(box.scrollTop / ROW_HEIGHT) - MARGIN);
    const last = Math.min(
      list.found.length,
      Math.ceil((box.scrollTop + box.clientHeight) / ROW_HEIGHT) + MARGIN,
    );
    inner.replaceChildren();
    for (let at = first; at < last; at += 1) inner.append(option(list, at));
    if (list.at >= first && list.at < last) box.setAttribute("aria-activedescendant", `option-${list.at}`);
    else box.removeAttribute("aria-activedescendant");
  };

  // Bring the open row into sight.
  const reveal = () => {
    const top = list.at * ROW_HEIGHT;
    if (top < box.scrollTop) box.scrollTop = top;
    const below = top + ROW_HEIGHT - box.clientHeight;
    if (below > box.scrollTop) box.scrollTop = below;
  };

  // Show another set of rows; the row that was open stays open if it is among them.
  list.show = (found) => {
    const open = list.found[list.at];
    list.found = found;
    list.at = found.indexOf(open);
    inner.style.height = `${found.length * ROW_HEIGHT}px`;
    if (list.at < 0) {
      box.scrollTop = 0;
      if (found.length) return list.select(0);
      onSelect(null, 0);
    } else {
      reveal();
    }
    render();
  };

  list.select = (at) => {
    if (!list.found.length) return;
    list.at = Math.min(Math.max(at, 0), list.found.length - 1);
    reveal();
    onSelect(store.rows[list.found[list.at]], list.at);
    render();
  };

  box.addEventListener("scroll", render);
  new ResizeObserver(render).observe(box);
  return list;
}

// One row of the list: what was asked, and below it what became of that.
function option(list, at) {
  const row = store.rows[list.found[at]];
  const told = [row.step, row.category, ...row.status].filter(Boolean).join(" · ");
  const attributes = {
    class: `option ${row.kind}`,
    role: "option",
    id: `option-${at}`,
    "aria-selected": String(at === list.at),
    "aria-posinset": at + 1,
    "aria-setsize": list.found.length,
    onclick: () => list.select(at),
  };
  const line = el("span", { class: "line", dir: "auto" }, firstLine(row));
  const node = el("div", attributes, line, el("span", { class: "line faint" }, told));
  node.style.top = `${at * ROW_HEIGHT}px`;
  return node;
}

// What the user asked last, or what there is of the row instead; enough of it for one line.
function firstLine(row) {
  const asked = row.prompt && row.prompt[row.prompt.length - 1][1];
  const rejected = row.reject && (row.reject.detail || row.reject.raw);
  const counted = row.verdicts && row.verdicts[0].request;
  const text = String(asked || rejected || counted || row.id || row.kind);
  return text.slice(0, 300);
}
