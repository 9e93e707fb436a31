// The rows: unpacked little by little, searched and filtered.

const FACETS = ["step", "category", "principle", "status"];

const store = {
  rows: [],
  // What each row is found by, in lower case; beside `rows`.
  texts: [],
  // Facet -> value -> how many rows have it.
  counts: Object.fromEntries(FACETS.map((name) => [name, new Map()])),
};

// Bytes of base64, by the browser's own reader where it has one: it is many times faster.
function bytesOf(packed) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(packed);
  const letters = atob(packed);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at += 1) bytes[at] = letters.charCodeAt(at);
  return bytes;
}

async function unpack(packed) {
  const bytes = bytesOf(packed);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// The packed chunks in order, while the browser still reads the page: the first is there long before the last.
async function* packedChunks() {
  for (;;) {
    const read = document.readyState !== "loading";
    const element = document.querySelector("script.rows");
    // What something follows is whole.
    if (element && (read || element.nextElementSibling)) {
      element.remove();
      yield element.textContent;
    } else if (read) {
      return;
    } else {
      await pause(10);
    }
  }
}

// Unpack every chunk, letting the page answer now and then; `onRows` is called after each.
async function loadRows(onRows) {
  let answered = performance.now();
  for await (const packed of packedChunks()) {
    for (const row of await unpack(packed)) addRow(row);
    onRows();
    if (performance.now() - answered > 50) {
      await pause(0);
      answered = performance.now();
    }
  }
}

function addRow(row) {
  store.rows.push(row);
  store.texts.push(searched(row));
  for (const name of FACETS) {
    for (const value of valuesOf(row, name))
      store.counts[name].set(value, (store.counts[name].get(value) || 0) + 1);
  }
}

function valuesOf(row, facet) {
  if (facet === "principle") return row.principles;
  if (facet === "status") return row.status;
  return row[facet] ? [row[facet]] : [];
}

// Everything that is written in a row, and "key:value" of whatever else is known of it.
function searched(row) {
  const parts = [row.id, ...row.status, ...(row.prompt || []).map(([, text]) => text)];
  for (const turn of row.turns || []) parts.push(turn.text || "", `model:${turn.model || ""}`);
  for (const one of row.candidates || []) parts.push(one.text, `model:${one.model}`);
  for (const note of row.annotations || []) parts.push(note.note || "", `annotator:${note.annotator}`);
  if (row.reject) parts.push(...Object.values(row.reject).map(String));
  for (const facts of [row.meta || {}, ...(row.verdicts || [])]) {
    for (const [key, value] of Object.entries(facts)) parts.push(`${key}:${value}`);
  }
  return parts.join("\n").toLowerCase();
}

// The words of a query; what stands in quotes is one, also before the second quote is typed.
function terms(query) {
  return [...query.toLowerCase().matchAll(/"([^"]+)"?|([^\s"]+)/g)].map((match) => match[1] || match[2]);
}

// Positions of the rows that hold every word and have every chosen value.
function matching(query, chosen) {
  const wanted = terms(query);
  const facets = FACETS.filter((name) => chosen[name]);
  const found = [];
  store.texts.forEach((text, at) => {
    if (!wanted.every((word) => text.includes(word))) return;
    if (facets.every((name) => valuesOf(store.rows[at], name).includes(chosen[name]))) found.push(at);
  });
  return found;
}
