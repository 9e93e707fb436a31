// One row, whole: the conversation with what each revision changed, rivals with their verdicts, what was rejected.

function detail(row) {
  const parts = [heading(row)];
  if (row.reject) parts.push(rejected(row.reject));
  for (const [role, text] of row.prompt || []) parts.push(said(role, [], prose(text)));
  parts.push(...written(row.turns || []));
  if (row.candidates) parts.push(rivals(row), ...(row.annotations || []).map((note) => annotation(note)));
  if (row.verdicts) parts.push(verdicts(row.verdicts));
  return parts;
}

function heading(row) {
  const facts = { step: row.step, category: row.category, principle: row.principles.join(", "), id: row.id };
  const tags = row.status.map((text) => el("span", { class: "status" }, text));
  return el("div", { class: "facts" }, tags, factList(facts), row.meta && factList(row.meta));
}

function factList(facts) {
  const known = Object.entries(facts).filter(
    ([, value]) => value !== "" && value !== undefined && value !== null,
  );
  return el(
    "dl",
    {},
    known.map(([key, value]) =>
      el(
        "div",
        {},
        el("dt", {}, key),
        el("dd", { dir: "auto" }, typeof value === "number" ? number(value) : String(value)),
      ),
    ),
  );
}

function said(who, facts, ...content) {
  return el(
    "article",
    { class: `turn ${who}` },
    el("h4", {}, who, el("small", {}, facts.filter(Boolean).join(" · "))),
    content,
  );
}

// The turns in order; a revision shows what it changed in the answer before it.
function written(turns) {
  let answer = null;
  return turns.map((turn) => {
    const facts = [turn.model, turn.principle, turn.finish !== "stop" && turn.finish];
    const text = turn.text || "";
    const content = turn.kind === "revision" && answer !== null ? revision(answer, text) : prose(text);
    if (turn.kind !== "critique") answer = text;
    return said(turn.kind, facts, content);
  });
}

function revision(before, after) {
  if (before === after) return [el("p", { class: "about" }, "Unchanged."), prose(after)];
  const plain = prose(after);
  const changed = el("div", {}, marked(before, after));
  plain.hidden = true;
  const button = el("button", { type: "button", class: "small", "aria-pressed": "true" }, "changes");
  button.addEventListener("click", () => {
    plain.hidden = !plain.hidden;
    changed.hidden = !changed.hidden;
    button.setAttribute("aria-pressed", String(plain.hidden));
  });
  return [button, changed, plain];
}

function rivals(row) {
  const best = Math.max(...row.candidates.map((one) => one.p));
  const answers = row.candidates.map((one, at) => {
    const bar = el("div", { class: "weight", role: "img", "aria-label": `probability ${percent(one.p)}` });
    bar.style.setProperty("--share", percent(one.p, 2));
    const facts = [one.model, one.p === best && row.annotations && row.annotations.length > 0 && "preferred"];
    return el(
      "article",
      { class: `turn answer${one.p === best ? " best" : ""}` },
      el("h4", {}, `answer ${at + 1}, ${percent(one.p)}`, el("small", {}, facts.filter(Boolean).join(" · "))),
      bar,
      prose(one.text),
    );
  });
  return el("div", { class: "rivals" }, answers);
}

function annotation(note) {
  const orders = (note.orders || []).map((order, at) => {
    const first = note.shown && note.shown[at] ? `, answer ${note.shown[at][0] + 1} shown first` : "";
    return `${order.map((p) => percent(p)).join(" : ")}${first}`;
  });
  const facts = {
    principle: note.principle,
    "all orders": note.probabilities.map((p) => percent(p)).join(" : "),
    ...Object.fromEntries(orders.map((text, at) => [`order ${at + 1}`, text])),
    agree: orders.length > 1 ? (note.agree ? "yes" : "no") : undefined,
    scores: note.scores && note.scores.length ? note.scores.map(number).join(" : ") : undefined,
    weight: note.weight === 1 ? undefined : note.weight,
    protocol: note.protocol,
    model: note.model,
  };
  return said(`judged by ${note.annotator}`, [], factList(facts), note.note ? prose(note.note) : "");
}

function rejected(reject) {
  const facts = { stage: reject.stage, reason: reject.reason, detail: reject.detail, line: reject.line };
  return said("rejected", [], factList(facts), reject.raw ? prose(reject.raw) : "");
}

function verdicts(all) {
  return said(
    "verdicts",
    [],
    all.map(({ eval: name, ...facts }) => el("div", {}, el("h5", {}, name), factList(facts))),
  );
}
