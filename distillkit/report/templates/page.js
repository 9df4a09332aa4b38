"use strict";
// Every text of a trace goes into a text node: nothing of it can become markup.
const data = JSON.parse(document.getElementById("traces").textContent);
const search = document.getElementById("search");
const reason = document.getElementById("reason");
const pairs = document.getElementById("pairs");
const more = document.getElementById("more");
const status = document.getElementById("shown");
const STEP = 6;
let room = STEP;

function add(parent, tag, name, text) {
  const node = document.createElement(tag);
  node.className = name;
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function addPieces(parent, name, pieces) {
  const block = add(parent, "p", "text " + name);
  block.dir = "auto";
  if (name === "reasoning") block.tabIndex = 0;
  for (const [mark, text] of pieces) {
    if (!mark) { block.append(text); continue; }
    const known = mark === "reflection" || mark === "leak";
    const marked = add(block, "mark", known ? mark : "foreign", text);
    marked.title = known ? mark : "language: " + mark;
  }
}

function card(trace) {
  const kept = trace.fate === data.kept;
  const box = document.createElement("article");
  box.className = "trace " + (kept ? "kept" : "dropped");
  const head = add(box, "p", "dim");
  add(head, "span", "fate", kept ? trace.fate : data.dropped + ": " + trace.fate);
  if (trace.others && trace.others.length) head.append(" · also " + trace.others.join(", "));
  const facts = [trace.tokens === null ? "" : trace.tokens + " tokens"];
  if (trace.mixed) facts.push("mixes languages");
  head.append(facts.filter(Boolean).map(fact => " · " + fact).join(""));
  add(box, "p", "text prompt", trace.prompt).dir = "auto";
  if (trace.reasoning.length) addPieces(box, "reasoning", trace.reasoning);
  addPieces(box, "response", trace.response);
  const judged = trace.answer === null ? "" : " · answer read: " + trace.answer;
  add(box, "p", "small", "reference: " + trace.reference + judged + (trace.verdict ? " · " + trace.verdict : ""));
  if (trace.detail) add(box, "p", "small", "verdict: " + trace.detail);
  add(box, "p", "small", trace.id);
  return box;
}

function textOf(trace) {
  const parts = [...trace.reasoning, ...trace.response].map(piece => piece[1]);
  return (trace.id + "\n" + trace.prompt + "\n" + parts.join("")).toLowerCase();
}
for (const trace of data.traces) trace.text = textOf(trace);

// Dropped traces, each with a kept one of the same problem beside it where there is one.
function paired(kept, dropped) {
  const left = new Map();
  for (const trace of kept) left.set(trace.problem, [...(left.get(trace.problem) || []), trace]);
  const mates = dropped.map(trace => (left.get(trace.problem) || []).shift());
  const rest = [...left.values()].flat();
  const found = dropped.map((trace, at) => [mates[at] || rest.shift(), trace]);
  return found.concat(rest.map(trace => [trace, undefined]));
}

function draw() {
  const word = search.value.trim().toLowerCase();
  const found = data.traces.filter(trace => !word || trace.text.includes(word));
  const kept = found.filter(trace => trace.fate === data.kept);
  const dropped = found.filter(trace => trace.fate !== data.kept && (!reason.value || trace.fate === reason.value));
  const all = paired(kept, dropped);
  pairs.replaceChildren(...all.slice(0, room).map(pair => {
    const row = document.createElement("div");
    row.className = "pair";
    for (const trace of pair) row.append(trace ? card(trace) : document.createElement("div"));
    return row;
  }));
  more.hidden = all.length <= room;
  status.textContent = "on this page: " + kept.length + " " + data.kept + ", " + dropped.length + " " + data.dropped;
}

const dropped = Object.entries(data.counts).filter(([fate]) => fate !== data.kept);
dropped.sort((one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1));
for (const [fate, n] of dropped) reason.add(new Option(fate + ": " + n.toLocaleString("en"), fate));
search.addEventListener("input", () => { room = STEP; draw(); });
reason.addEventListener("change", () => { room = STEP; draw(); });
more.addEventListener("click", () => { room += 2 * STEP; draw(); });
draw();
