import { el, hitCard, wordsOf } from "./hits.js";

const $ = (id) => document.getElementById(id);
const state = {
  info: null, // what /info says
  sides: [], // {collection, mode} of each column; two while comparing
  results: [], // what each column has found
  asked: null, // {text} or {picture, name, url}
  where: [], // conditions
  marks: new Set(), // keys of right hits
  saved: new Set(), // the same as they are in the file
  run: 0,
  abort: null,
  reached: true, // whether the search box has just got the focus, by "/" or as the page opened
};

// Integers beyond 2^53 stay as they are written.
const exact = (_key, value, context) => (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && context ? context.source : value);

async function call(path, body, signal) {
  let answer;
  try {
    const how = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal } : { signal };
    answer = await fetch(path, how);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("`kitestring browse` does not answer: start it again");
  }
  const told = JSON.parse(await answer.text(), exact);
  if (!answer.ok) throw new Error(told.error);
  return told;
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

// ---- what there is -------------------------------------------------------------------------------------------------

const collectionOf = (name) => state.info.collections.find((each) => each.name === name) || state.info.collections[0];
const fieldOf = (name) => state.sides.length && collectionOf(state.sides[0].collection).fields.find((field) => field.name === name);
const isOther = () => state.info.collections.length > 1;

async function start() {
  state.info = await call("info");
  const { corpus, alias, collections, search_by_picture: pictures } = state.info;
  document.title = `${corpus} – Kitestring`;
  $("corpus").textContent = corpus;
  $("facts").textContent = `${collections[0].rows.toLocaleString("en")} rows in ${alias}, ${collections[0].model.split("/").pop()}`;
  $("attach").hidden = !pictures;
  $("words").placeholder = placeholder();
  state.sides = [side(collections[0])];
  $("compare").hidden = !isOther() && collections[0].modes.length < 2;
  const example = collections[0].fields.find((field) => !["id", "text"].includes(field.name)) || collections[0].fields[0];
  $("expression").placeholder = example.type === "varchar" ? `${example.name} in ["a", "b"]` : `${example.name} > 1`;
  $("fields-note").textContent = `Fields: ${collections[0].fields.map((field) => `${field.name} (${field.type})`).join(", ")}`;
  help();
  welcome();
  watchModel();
  const words = new URLSearchParams(location.hash.slice(1)).get("q");
  if (words) ask(words);
}

// Nothing is dropped on a phone, which has no room for more words either.
const narrow = matchMedia("(max-width: 44rem)");
const placeholder = () => (!state.info.search_by_picture ? "Search by words" : narrow.matches ? "Words, or a picture" : "Search by words, or drop a picture");

const side = (collection, mode) => ({ collection: collection.name, mode: mode || collection.modes.at(-1) });

function welcome() {
  const { corpus, collections, pictures } = state.info;
  $("columns").replaceChildren(
    el("div", { class: "welcome" }, el("h1", {}, `Search ${corpus}`),
      el("p", {}, `${collections[0].rows.toLocaleString("en")} ${pictures ? "pictures" : "rows"}, by meaning${collections[0].modes.length > 1 ? " and by words" : ""}.`,
        isOther() ? ` ${collections.find((each) => !each.live).name} is not promoted yet: compare it with the live one.` : ""),
      el("ul", { class: "fields tries", "aria-label": "Saved questions" }, state.info.saved_questions.map((query) => el("li", {}, el("button", { type: "button", click: () => ask(query) }, query))))));
}

function ask(query) {
  $("words").value = query;
  search();
}

async function watchModel() {
  const pill = $("model");
  for (;;) {
    const told = state.info.model;
    pill.hidden = told === "ready";
    pill.classList.toggle("bad", told.startsWith("failed"));
    pill.textContent = told === "loading" ? "Loading the model…" : "The model failed";
    pill.title = told;
    if (told !== "loading") break;
    await new Promise((done) => setTimeout(done, 1000));
    state.info.model = (await call("info").catch(() => state.info)).model;
  }
}

function help() {
  const { questions, collections } = state.info;
  $("help-save").textContent = questions
    ? `Mark the right hits of a question and save it: it goes to ${questions}, with which target.gate measures a new encoder before it is promoted.`
    : "Name a file to save to: target.gate.queries in the job, or --questions FILE.";
  const field = collections[0].fields.find((each) => each.type === "varchar" && !["id", "text"].includes(each.name));
  const filter = field ? `, "where": [{"field": "${field.name}", "is": "==", "value": "a"}]` : "";
  $("help-code").textContent = `curl ${location.origin}/search -H 'Content-Type: application/json' \\\n  -d '{"text": "a question", "k": 5${filter}}'`;
}

// ---- search --------------------------------------------------------------------------------------------------------

function request(each) {
  const { text, picture } = state.asked;
  const asked = text === undefined ? { picture } : { text, mode: each.mode, explain: each.mode === "hybrid" };
  return { ...asked, k: Number($("k").value), collection: each.collection, filter: $("expression").value.trim(), where: conditions() };
}

async function search() {
  const words = $("words").value.trim();
  if (!state.asked?.picture && !words) {
    say("Type some words to search for.");
    return;
  }
  if (!state.asked?.picture) {
    const again = state.asked?.text === words;
    state.asked = { text: words };
    if (!again) forget();
    history.replaceState(null, "", `#${new URLSearchParams({ q: words })}`);
  }
  state.abort?.abort();
  state.abort = new AbortController();
  const run = ++state.run;
  const { signal } = state.abort;
  say(state.info.model === "loading" ? "Searching: the model is still being loaded…" : "Searching…");
  $("columns").classList.add("busy");
  const found = await Promise.all(state.sides.map((each) => call("search", request(each), signal).catch((error) => ({ error }))));
  if (run !== state.run) return;
  state.info.model = "ready";
  state.results = found;
  const known = found.find((each) => each.relevant)?.relevant || [];
  if (!sameSets(state.saved, new Set(known))) {
    state.saved = new Set(known);
    state.marks = new Set([...known, ...state.marks]);
  }
  $("columns").classList.remove("busy");
  draw();
  showPictures(found, run);
}

function forget() {
  state.marks = new Set();
  state.saved = new Set();
}

const sameSets = (one, other) => one.size === other.size && [...one].every((each) => other.has(each));

async function showPictures(found, run) {
  const ids = [...new Set(found.flatMap((each) => (each.hits || []).map((hit) => hit.id)))];
  if (!state.info.pictures || !ids.length) return;
  const { pictures } = await call("pictures", { ids }).catch(() => ({ pictures: {} }));
  if (run !== state.run) return;
  state.pictures = pictures;
  placePictures();
}

function placePictures() {
  for (const image of document.querySelectorAll("img[data-picture]")) {
    const picture = (state.pictures || {})[image.dataset.picture];
    if (picture) [image.src, image.hidden] = [picture, false];
  }
}

// ---- columns -------------------------------------------------------------------------------------------------------

const judged = (hit, collection) => (collection.chunks ? String(hit.fields.document) : hit.id);

function draw() {
  const focused = place(document.activeElement);
  $("columns").classList.toggle("two", state.sides.length > 1);
  $("columns").replaceChildren(...state.sides.map(column));
  placePictures();
  drawStatus();
  drawSave();
  if (focused) (columns()[focused.column]?.[focused.row] || $("words")).focus({ preventScroll: true });
}

function drawStatus() {
  const good = state.results.filter((each) => each.hits);
  if (!good.length) return say(state.results[0]?.error?.message || "", true);
  const count = good[0].hits.length;
  const shared = good.length > 1 ? good[0].hits.filter((hit) => good[1].hits.some((other) => other.id === hit.id)).length : null;
  const seconds = Math.max(...good.map((each) => each.seconds)).toFixed(2);
  const loading = Math.max(...good.map((each) => each.model_seconds || 0));
  const waited = loading < 0.1 ? "" : `, after ${loading.toFixed(1)} s for the model to load`;
  say(`${count} ${count === 1 ? "hit" : "hits"} in ${seconds} s${waited}${shared === null ? "" : `; ${shared} in both columns`}`);
}

function column(each, number) {
  const result = state.results[number];
  const collection = collectionOf(each.collection);
  return el("section", { class: state.info.pictures ? "column drawn" : "column", "aria-label": `Hits in ${collection.name}` }, columnHead(each, number, collection), body(result, number, collection));
}

function columnHead(each, number, collection) {
  const change = (changes) => {
    Object.assign(each, changes);
    if (!collectionOf(each.collection).modes.includes(each.mode)) each.mode = collectionOf(each.collection).modes.at(-1);
    if (state.asked) search();
    else draw();
  };
  const names = state.info.collections;
  const pick = names.length > 1
    ? el("select", { "aria-label": "Collection", change: (event) => change({ collection: event.target.value }) },
      names.map((there) => el("option", { value: there.name, selected: there.name === each.collection }, there.name)))
    : el("h2", {}, collection.name);
  const modes = collection.modes.length > 1 && state.asked?.picture === undefined
    ? el("span", { class: "modes", role: "group", "aria-label": "Mode" }, collection.modes.map((mode) =>
      el("button", { type: "button", "aria-pressed": String(mode === each.mode), title: { dense: "by meaning", text: "by words", hybrid: "by meaning and by words" }[mode], click: () => change({ mode }) }, mode)))
    : null;
  return el("div", { class: "column-head" }, pick, names.length > 1 ? el("span", { class: collection.live ? "live" : "live new" }, collection.live ? "live" : "not promoted") : null, modes);
}

function body(result, number, collection) {
  if (!result) return el("p", { class: "empty" }, "…");
  if (result.error) return el("p", { class: "error", role: "alert" }, result.error.message);
  if (!result.hits.length) return el("p", { class: "empty" }, conditions().length || $("expression").value ? "No hit. Is the filter too narrow?" : "No hit.");
  const others = state.results.length > 1 ? (state.results[1 - number].hits || []).map((hit) => hit.id) : null;
  const words = wordsOf(state.asked.text);
  return el("ol", { class: "hits" }, result.hits.map((hit, index) => hitCard(hit, {
    place: index + 1,
    words,
    drawn: state.info.pictures,
    marked: state.marks.has(judged(hit, collection)),
    markable: state.asked.text !== undefined,
    other: others ? others.indexOf(hit.id) + 1 : null,
    onMark: () => toggle(judged(hit, collection)),
    filterBy: (name, value) => filterBy(name, value),
    filterable: (name) => Boolean(fieldOf(name)?.is.length),
  })));
}

function compare() {
  if ($("compare").hidden) return;
  const [one, two] = state.info.collections;
  if (state.sides.length > 1) state.sides = [state.sides[0]];
  else if (two) state.sides = [side(two), side(one)]; // the live one on the left
  else state.sides = [side(one, "dense"), side(one, "hybrid")];
  state.results = [];
  $("compare").setAttribute("aria-pressed", String(state.sides.length > 1));
  if (state.asked) search();
  else draw();
}

// ---- marks ---------------------------------------------------------------------------------------------------------

function toggle(key) {
  if (state.asked?.text === undefined) return;
  if (!state.info.questions) {
    say("Name a file to save questions to: target.gate.queries in the job, or --questions FILE.", true);
    return;
  }
  if (!state.marks.delete(key)) state.marks.add(key);
  draw();
}

function drawSave() {
  const changed = !sameSets(state.marks, state.saved);
  $("save").hidden = !changed || state.asked?.text === undefined;
  $("save-text").textContent = `${state.marks.size} right ${state.marks.size === 1 ? "hit" : "hits"} for “${(state.asked?.text || "").slice(0, 80)}”`;
}

async function save() {
  if ($("save").hidden) return;
  try {
    const told = await call("questions", { query: state.asked.text, relevant: [...state.marks] });
    state.saved = new Set(state.marks);
    drawSave();
    say(`${told.new ? "Saved" : "Changed"} in ${told.file}`);
  } catch (error) {
    say(error.message, true);
  }
}

// ---- filter --------------------------------------------------------------------------------------------------------

function conditions() {
  return [...$("conditions").children].map((row) => ({ field: row.children[0].value, is: row.children[1].value, value: row.children[2].value })).filter((each) => each.value.trim() !== "");
}

function condition(name, comparison, value) {
  const fields = collectionOf(state.sides[0].collection).fields.filter((field) => field.is.length);
  const row = el("li", {});
  const fill = (chosen, how, given) => {
    const field = fields.find((each) => each.name === chosen) || fields.find((each) => !["id", "text"].includes(each.name)) || fields[0];
    row.replaceChildren(
      el("select", { "aria-label": "Field", change: (event) => fill(event.target.value, null, "") }, fields.map((each) => el("option", { selected: each === field }, each.name))),
      el("select", { "aria-label": "Comparison" }, field.is.map((each) => el("option", { value: each, selected: each === how }, { "==": "is", "!=": "is not" }[each] || each))),
      valueInput(field, given),
      el("button", { type: "button", class: "quiet", "aria-label": "Remove the condition", click: () => row.remove() || countFilters() }, "×"),
    );
  };
  fill(name, comparison, value);
  return row;
}

function valueInput(field, value) {
  if (field.type === "bool") return el("select", { "aria-label": "Value" }, ["true", "false"].map((each) => el("option", { selected: each === String(value) }, each)));
  const seen = new Set(state.results.flatMap((each) => (each.hits || []).map((hit) => hit.fields[field.name])).filter((each) => each !== undefined && each !== null && typeof each !== "object"));
  const list = `seen-${field.name}`;
  document.getElementById(list)?.remove();
  document.body.append(el("datalist", { id: list }, [...seen].slice(0, 50).map((each) => el("option", { value: String(each).slice(0, 100) }))));
  const mode = { int64: "numeric", double: "decimal" }[field.type] || "text";
  return el("input", { type: "text", "aria-label": "Value", inputmode: mode, value: value ?? "", list });
}

function openFilters(open) {
  $("filters").hidden = !open;
  $("filter-open").setAttribute("aria-expanded", String(open));
  if (!open) return $("filter-open").focus();
  if (!$("conditions").children.length) $("conditions").append(condition());
  $("conditions").querySelector("select")?.focus();
}

function countFilters() {
  const count = conditions().length + ($("expression").value.trim() ? 1 : 0);
  $("filter-count").textContent = count ? ` (${count})` : "";
}

function filterBy(name, value) {
  const field = fieldOf(name);
  $("filters").hidden = false;
  $("filter-open").setAttribute("aria-expanded", "true");
  for (const row of [...$("conditions").children]) if (!row.children[2].value.trim()) row.remove();
  $("conditions").append(condition(name, field.is.includes("==") ? "==" : field.is[0], String(value)));
  countFilters();
  search();
}

// ---- pictures ------------------------------------------------------------------------------------------------------

async function searchPicture(file) {
  if (!file) return;
  if (!state.info.search_by_picture) {
    say("This job's encoder embeds text only: search by words.", true);
    return;
  }
  const url = await new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(file);
  });
  forget();
  state.asked = { picture: url.split("base64,")[1], name: file.name };
  $("words").value = "";
  $("words").placeholder = file.name || "a picture";
  const shown = $("asked-picture");
  shown.hidden = false;
  shown.querySelector("img").src = url;
  search();
}

function dropPicture() {
  if (!state.asked?.picture) return;
  state.asked = null;
  $("asked-picture").hidden = true;
  $("words").placeholder = placeholder();
  $("words").focus();
}

// ---- keyboard ------------------------------------------------------------------------------------------------------

const columns = () => [...document.querySelectorAll(".column")].map((each) => [...each.querySelectorAll(".hit")]);

function place(element) {
  const hit = element?.closest?.(".hit");
  if (!hit) return null;
  const all = columns();
  const number = all.findIndex((each) => each.includes(hit));
  return number < 0 ? null : { column: number, row: all[number].indexOf(hit) };
}

function move(down, across) {
  const all = columns();
  const now = place(document.activeElement);
  if (!now) return down > 0 && all.some((each) => each.length) ? go(all.find((each) => each.length)[0]) : undefined;
  const to = all[now.column + across]?.length ? now.column + across : now.column;
  if (now.row + down < 0) return $("words").focus();
  return go(all[to][Math.min(now.row + down, all[to].length - 1)]);
}

function go(hit) {
  hit.focus({ preventScroll: true });
  hit.scrollIntoView({ block: "nearest" });
}

function escape() {
  if (!$("filters").hidden) return openFilters(false);
  if (document.activeElement === $("words")) return state.asked?.picture ? dropPicture() : $("words").select();
  $("words").focus();
  return $("words").select();
}

const KEYS = {
  "/": () => $("words").focus() || $("words").select() || reached(),
  "?": () => $("help").showModal(),
  f: () => openFilters($("filters").hidden),
  c: compare,
  s: save,
  j: () => move(1, 0),
  k: () => move(-1, 0),
};

// The box has the focus as the page opens, when "/" is pressed for it all the same: the first one in an empty box that was just reached is no word.
function reached() {
  state.reached = !$("words").value;
}

function isKeyAlone(event) {
  const alone = event.key === "/" && event.target === $("words") && !event.target.value && state.reached;
  if (!event.repeat) state.reached = false;
  return alone;
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || !state.info) return;
  const { target, key } = event;
  const typing = target.matches("input, select, textarea");
  if (typing && isKeyAlone(event)) return event.preventDefault();
  if (key === "Escape") escape();
  else if (key === "ArrowDown" && (!typing || target === $("words"))) move(1, 0);
  else if (key === "ArrowUp" && !typing) move(-1, 0);
  else if ((key === "ArrowLeft" || key === "ArrowRight") && place(target)) move(0, key === "ArrowLeft" ? -1 : 1);
  else if ((key === "Enter" || key === " " || key === "x") && target.matches(".hit")) target.querySelector(".mark")?.click();
  else if (!typing && KEYS[key]) KEYS[key]();
  else return undefined;
  return event.preventDefault();
}

// ---- listeners -----------------------------------------------------------------------------------------------------

document.addEventListener("keydown", pressed);
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("words").value.trim() && state.asked?.picture) dropPicture();
  countFilters();
  search();
});
$("k").addEventListener("change", () => state.asked && search());
$("compare").addEventListener("click", compare);
$("filter-open").addEventListener("click", () => openFilters($("filters").hidden));
$("condition-add").addEventListener("click", () => $("conditions").append(condition()));
$("filters-clear").addEventListener("click", () => {
  $("conditions").replaceChildren();
  $("expression").value = "";
  countFilters();
  if (state.asked) search();
});
$("help-open").addEventListener("click", () => $("help").showModal());
$("save-now").addEventListener("click", save);
$("save-undo").addEventListener("click", () => {
  state.marks = new Set(state.saved);
  draw();
});
$("file").addEventListener("change", (event) => searchPicture(event.target.files[0]));
$("asked-picture").querySelector("button").addEventListener("click", dropPicture);
let within = 0;
document.addEventListener("dragenter", (event) => {
  event.preventDefault();
  within += 1;
  $("drop").hidden = !event.dataTransfer?.types.includes("Files");
});
document.addEventListener("dragleave", () => {
  within -= 1;
  if (within <= 0) $("drop").hidden = true;
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  within = 0;
  $("drop").hidden = true;
  searchPicture(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files || [])].find((each) => each.type.startsWith("image/"));
  if (file) searchPicture(file);
});

start().catch((error) => say(error.message, true));
