// What changed between two texts, word by word.

// Beyond so many comparisons of words a browser would be seen to wait.
const MOST_COMPARED = 4e6;

const wordsOf = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];

// [kind, text] pieces, kind " ", "-" or "+"; null when the texts are too long to be compared.
function difference(before, after) {
  const old = wordsOf(before);
  const fresh = wordsOf(after);
  let start = 0;
  while (start < old.length && start < fresh.length && old[start] === fresh[start]) start += 1;
  let end = 0;
  while (
    end < old.length - start &&
    end < fresh.length - start &&
    old[old.length - 1 - end] === fresh[fresh.length - 1 - end]
  )
    end += 1;
  const middle = changes(old.slice(start, old.length - end), fresh.slice(start, fresh.length - end));
  if (middle === null) return null;
  return joined([
    ...old.slice(0, start).map((word) => [" ", word]),
    ...middle,
    ...old.slice(old.length - end).map((word) => [" ", word]),
  ]);
}

// The longest common subsequence of words, by the table of its lengths.
function changes(old, fresh) {
  const width = fresh.length + 1;
  if ((old.length + 1) * width > MOST_COMPARED) return null;
  const longest = new Uint16Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = fresh.length - 1; j >= 0; j -= 1) {
      const at = i * width + j;
      longest[at] =
        old[i] === fresh[j] ? longest[at + width + 1] + 1 : Math.max(longest[at + width], longest[at + 1]);
    }
  }
  const found = [];
  let i = 0;
  let j = 0;
  while (i < old.length || j < fresh.length) {
    if (i < old.length && j < fresh.length && old[i] === fresh[j]) {
      found.push([" ", old[i]]);
      i += 1;
      j += 1;
    } else if (
      j === fresh.length ||
      (i < old.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1])
    ) {
      found.push(["-", old[i]]);
      i += 1;
    } else {
      found.push(["+", fresh[j]]);
      j += 1;
    }
  }
  return found;
}

// Neighbours of one kind as one piece, what went before what came. Spaces and marks alone between two changes
// are changed with them: a reader follows whole phrases, not commas that happen to stay.
function joined(pieces) {
  const out = [];
  let gone = "";
  let come = "";
  let same = "";
  const settle = () => {
    if (gone) out.push(["-", gone]);
    if (come) out.push(["+", come]);
    if (same) out.push([" ", same]);
    gone = come = same = "";
  };
  for (const [kind, text] of pieces) {
    if (kind === " ") {
      same += text;
      continue;
    }
    if (same && (!(gone || come) || /[\p{L}\p{N}]/u.test(same))) settle();
    gone += same + (kind === "-" ? text : "");
    come += same + (kind === "+" ? text : "");
    same = "";
  }
  settle();
  return out;
}

// The later text with what went and what came marked; plain where there is too much of it.
function marked(before, after) {
  const pieces = difference(before, after);
  if (pieces === null)
    return [el("p", { class: "about" }, "Too long to be compared word by word."), prose(after)];
  const node = prose("");
  for (const [kind, text] of pieces)
    node.append(kind === " " ? text : el(kind === "-" ? "del" : "ins", {}, text));
  return [node];
}
