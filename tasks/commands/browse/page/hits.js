// Hits as elements. Whatever came from the corpus is set as text, never as HTML.

/** An element: attributes (functions are listeners, true is an empty value, null and false are left out) and children. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

const LONG = 420; // characters of a text that is shown in part
const AROUND = 400, NEAR = 80; // characters on either side of a passage, and those before it while the text is folded

/** The words of a question that are looked for in texts. */
export function wordsOf(text) {
  return [...new Set((text || "").toLowerCase().match(/[\p{L}\p{N}]{3,}/gu) || [])];
}

function withWords(text, words) {
  if (!words.length) return [text];
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(?:${words.join("|")})(?![\\p{L}\\p{N}])`, "giu");
  const parts = [];
  let from = 0;
  for (const found of text.matchAll(pattern)) {
    parts.push(text.slice(from, found.index), el("span", { class: "word" }, found[0]));
    from = found.index + found[0].length;
  }
  return [...parts, text.slice(from)];
}

/** What is before a passage; of that only the end while the text is folded, or the passage itself would be below the fold. */
function leadIn(before) {
  const shown = before.length > AROUND ? `…${before.slice(-AROUND)}` : before;
  const cut = shown.length > NEAR ? shown.indexOf(" ", shown.length - NEAR) + 1 : 0;
  const far = cut && el("span", { class: "around far" }, shown.slice(0, cut));
  return shown && [far, el("span", { class: far ? "around near" : "around" }, `${shown.slice(cut)} `)].filter(Boolean);
}

function passage(hit, words) {
  const { before, after } = hit.passage;
  const behind = after && el("span", { class: "around" }, ` ${after.slice(0, AROUND)}${after.length > AROUND ? "…" : ""}`);
  return [...(leadIn(before) || []), el("mark", {}, withWords(hit.text || "", words)), behind].filter(Boolean);
}

function textOf(hit, words) {
  if (!hit.text) return null;
  const long = hit.text.length > LONG || hit.text.split("\n").length > 8;
  const shown = el("p", { class: long ? "text long" : "text" }, hit.passage ? passage(hit, words) : withWords(hit.text, words));
  if (!long) return shown;
  const more = el("button", { type: "button", class: "more", click: () => more.replaceWith() || shown.classList.remove("long") }, "Show all");
  return [shown, more];
}

const shownValue = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

function fieldsOf(hit, filterBy, filterable) {
  const own = hit.passage ? ["document", "chunk", "start", "end"] : [];
  const values = Object.entries(hit.fields).filter(([name, value]) => value !== null && !own.includes(name));
  if (!values.length) return null;
  return el("ul", { class: "fields", "aria-label": "Fields" }, values.map(([name, value]) => {
    const text = [el("i", {}, `${name} `), shownValue(value).slice(0, 300)];
    const label = `Filter by ${name}: ${shownValue(value).slice(0, 80)}`;
    return el("li", {}, filterable(name) && typeof value !== "object" ? el("button", { type: "button", title: label, "aria-label": label, click: () => filterBy(name, value) }, text) : el("span", {}, text));
  }));
}

function placeIn(hit) {
  if (!hit.passage) return null;
  const { document: name, start, end } = hit.passage;
  return el("span", {}, `${name}, characters ${start.toLocaleString("en")} to ${end.toLocaleString("en")}`);
}

function ranksOf(hit) {
  if (!hit.ranks) return null;
  const { meaning, words } = hit.ranks;
  const told = [meaning && `by meaning #${meaning}`, words && `by words #${words}`].filter(Boolean);
  return told.length ? el("span", {}, told.join(", ")) : null;
}

/**
 * One hit.
 * @param how {place, words, drawn, marked, markable, other (its place in the other column, 0: none, null: there is none), onMark, filterBy, filterable}
 */
export function hitCard(hit, how) {
  const mark = how.markable
    ? el("button", { type: "button", class: "quiet mark", "aria-pressed": String(how.marked), click: how.onMark }, how.marked ? "✓ Right" : "Mark as right")
    : null;
  const other = how.other === null ? null : how.other ? el("span", {}, `other column: #${how.other}`) : el("span", { class: "only" }, "only here");
  return el(
    "li",
    { class: how.marked ? "hit right" : "hit", tabindex: how.place === 1 ? 0 : -1, "data-key": hit.id },
    how.drawn ? el("img", { alt: hit.id, "data-picture": hit.id, hidden: true }) : null,
    el("header", {}, el("span", { class: "place" }, String(how.place)), el("h3", {}, hit.id), el("span", { class: "score", title: "Score" }, hit.score.toFixed(4))),
    textOf(hit, how.words),
    el("footer", {}, mark, fieldsOf(hit, how.filterBy, how.filterable), other, ranksOf(hit), placeIn(hit)),
  );
}
