// The page's only way to make elements. Texts become text nodes, never markup.

const byId = (id) => document.getElementById(id);

// A new element; keys "onclick" and the like are listeners, false and undefined are no attributes.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(
    ...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== ""),
  );
  return node;
}

// Text that may be of any direction and keeps its own line breaks.
const prose = (text) => el("div", { class: "prose", dir: "auto" }, text);

// Halves go to the even figure, as Python rounds: the page and the terminal print the same.
function percent(share, digits = 1) {
  const scaled = 100 * share * 10 ** digits;
  const down = Math.floor(scaled);
  const whole = scaled - down === 0.5 ? down + (down % 2) : Math.round(scaled);
  return `${(whole / 10 ** digits).toFixed(digits)}%`;
}

function number(value) {
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1e-3 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}
