"use strict";
// Every text of a trace goes into a text node: nothing of it can become markup.
const data = JSON.parse(document.getElementById("traces").textContent);
const formulas = new Map(data.formulas);
const [search, reason, verdict, model, pairs, more, status] =
  ["search", "reason", "verdict", "model", "pairs", "more", "shown"].map(id => document.getElementById(id));
const STEP = 6;
const WINDOW = 1500;  // characters of a reasoning that are laid out before somebody asks for all
const BEFORE = 200;  // characters before the first hit of a search
const MATHML = "http://www.w3.org/1998/Math/MathML";
const TAGS = new Set(("math mrow mi mn mo mtext mspace msup msub msubsup mfrac msqrt mroot mover munder munderover " +
  "mtable mtr mtd mstyle mpadded mphantom menclose mmultiscripts mprescripts").split(" "));
let room = STEP;

function add(parent, tag, name, text) {
  const node = document.createElement(tag);
  node.className = name;
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function addFormula(parent, [tag, attributes, ...children]) {
  if (!TAGS.has(tag)) return;
  const node = document.createElementNS(MATHML, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  for (const child of children) typeof child === "string" ? node.append(child) : addFormula(node, child);
  parent.append(node);
}

function addPieces(parent, name, pieces) {
  const block = add(parent, "p", "text " + name);
  block.dir = "auto";
  if (name === "reasoning") block.tabIndex = 0;
  for (const [mark, text] of pieces) {
    if (mark === "math" && formulas.has(text)) {
      const formula = add(block, "span", text.length > 20 ? "formula long" : "formula");
      formula.title = text;
      addFormula(formula, formulas.get(text));
      continue;
    }
    if (!mark || mark === "math") { block.append(text); continue; }
    const known = mark === "reflection" || mark === "leak";
    const marked = add(block, "mark", known ? mark : "foreign", text);
    marked.title = known ? mark : "language: " + mark;
  }
  return block;
}

// The pieces of a part of a text; a marked piece is never cut.
function cut(pieces, from, size) {
  const found = [];
  let at = 0;
  for (const [mark, text] of pieces) {
    const start = Math.max(0, from - at), end = from + size - at;
    if (start < text.length && end > 0) found.push([mark, mark ? text : text.slice(start, end)]);
    at += text.length;
  }
  return found;
}

const textOf = pieces => pieces.map(piece => piece[1]).join("");

function addReasoning(box, trace, from) {
  const size = textOf(trace.reasoning).length;
  if (size <= WINDOW) { addPieces(box, "reasoning", trace.reasoning); return; }
  const start = Math.min(from, size - WINDOW);
  const part = cut(trace.reasoning, start, WINDOW);
  const block = addPieces(box, "reasoning", start ? [["", "... "], ...part] : part);
  const whole = add(box, "button", "whole", "all " + size.toLocaleString("en") + " characters");
  whole.type = "button";
  whole.addEventListener("click", () => {
    block.replaceWith(addPieces(box, "reasoning", trace.reasoning));
    whole.remove();
    highlight();
  });
}

function card(trace, from) {
  const kept = trace.fate === data.kept;
  const box = document.createElement("article");
  box.className = "trace " + (kept ? "kept" : "dropped");
  const head = add(box, "p", "dim");
  add(head, "span", "fate", kept ? trace.fate : data.dropped + ": " + trace.fate);
  if (trace.others.length) head.append(" · also " + trace.others.join(", "));
  const facts = [trace.model, trace.tokens === null ? "" : trace.tokens + " tokens"];
  if (trace.mixed) facts.push("mixes languages");
  if (trace.leak) facts.push("leaked: " + trace.leak);
  head.append(facts.filter(Boolean).map(fact => " · " + fact).join(""));
  addPieces(box, "prompt", trace.prompt);
  if (trace.reasoning.length) addReasoning(box, trace, from);
  addPieces(box, "response", trace.response);
  const judged = trace.answer === null ? "" : " · answer read: " + trace.answer;
  add(box, "p", "small", "reference: " + trace.reference + judged + (trace.verdict ? " · " + trace.verdict : ""));
  if (trace.detail) add(box, "p", "small", "verdict: " + trace.detail);
  add(box, "p", "small", trace.id);
  return box;
}

// A card is made once for each place that it begins at: a key that changes nothing else costs nothing.
const cards = new Map();
function cardOf(trace, word) {
  const hit = word ? trace.lower.indexOf(word) : -1;
  const from = hit > WINDOW - BEFORE ? hit - BEFORE : 0;
  const key = from + " " + trace.id;
  if (!cards.has(key)) {
    if (cards.size > 200) cards.clear();
    cards.set(key, card(trace, from));
  }
  return cards.get(key);
}

for (const trace of data.traces) {
  trace.lower = textOf(trace.reasoning).toLowerCase();
  trace.rest = [trace.id, trace.reference, textOf(trace.prompt), textOf(trace.response)].join("\n").toLowerCase();
}

// Dropped traces, each with a kept one of the same problem beside it where there is one.
function paired(kept, dropped) {
  const left = new Map();
  for (const trace of kept) left.set(trace.problem, [...(left.get(trace.problem) || []), trace]);
  const mates = dropped.map(trace => (left.get(trace.problem) || []).shift());
  const rest = [...left.values()].flat();
  const found = dropped.map((trace, at) => [mates[at] || rest.shift(), trace]);
  return found.concat(rest.map(trace => [trace, undefined]));
}

// Hits are painted over the text, so that a search changes no element.
function highlight() {
  const word = search.value.trim().toLowerCase();
  if (!window.Highlight) return;
  const hits = [];
  const walker = document.createTreeWalker(pairs, NodeFilter.SHOW_TEXT);
  for (let node = word && walker.nextNode(); node && hits.length < 500; node = walker.nextNode()) {
    const text = node.data.toLowerCase();
    if (text.length !== node.data.length) continue;
    for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
      hits.push(new StaticRange({startContainer: node, startOffset: at, endContainer: node, endOffset: at + word.length}));
    }
  }
  CSS.highlights.set("hit", new Highlight(...hits));
}

function draw() {
  const word = search.value.trim().toLowerCase();
  const found = data.traces.filter(trace =>
    (!verdict.value || trace.right === verdict.value) && (!model.value || trace.model === model.value) &&
    (!word || trace.lower.includes(word) || trace.rest.includes(word)));
  const kept = found.filter(trace => trace.fate === data.kept);
  const dropped = found.filter(trace => trace.fate !== data.kept && (!reason.value || trace.fate === reason.value));
  const all = paired(kept, dropped);
  pairs.replaceChildren(...all.slice(0, room).map(pair => {
    const row = document.createElement("div");
    row.className = "pair";
    for (const trace of pair) row.append(trace ? cardOf(trace, word) : document.createElement("div"));
    return row;
  }));
  highlight();
  more.hidden = all.length <= room;
  status.textContent = "on this page: " + kept.length + " " + data.kept + ", " + dropped.length + " " + data.dropped;
}

function offer(select, counts, least) {
  const names = Object.entries(counts);
  names.sort((one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1));
  for (const [name, n] of names) select.add(new Option(name + ": " + n.toLocaleString("en"), name));
  select.hidden = names.length < least;
}

offer(reason, Object.fromEntries(Object.entries(data.counts).filter(([fate]) => fate !== data.kept)), 1);
offer(verdict, data.verdicts, 2);
offer(model, data.models, 2);
for (const [control, event] of [[search, "input"], [reason, "change"], [verdict, "change"], [model, "change"]]) {
  control.addEventListener(event, () => { room = STEP; draw(); });
}
more.addEventListener("click", () => { room += 2 * STEP; draw(); });
draw();
