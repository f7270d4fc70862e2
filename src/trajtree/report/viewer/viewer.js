// The page: which task and node are selected, and what keys, mouse and address do about it.

const $ = (id) => document.getElementById(id);
const tasks = JSON.parse($("index").textContent);
const stage = $("stage");
const view = makeView(stage.querySelector("canvas"));
const state = { number: -1, tree: null, node: ROOT, fork: null, hits: new Set(), hovered: -1, kept: null };
const options = tasks.map(taskOption);
let order = [];
let waiting = false;

const meanScore = (value) => (value === null ? score(value) : `mean score ${score(value)}`);
const shade = (value) => view.theme.shade(value);

// ---- drawing

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(paint);
}

function paint() {
  waiting = false;
  draw(view, { selected: state.node, hovered: state.hovered, hits: state.hits, kept: state.kept });
  placeItem();
  if (!performance.getEntriesByName("trajtree-drawn").length) performance.mark("trajtree-drawn");
}

// Of the drawn tree, screen readers and magnifiers get one item: the selected node, where it is drawn.
function placeItem() {
  const [x, y] = place(view, state.node);
  const item = $(stage.getAttribute("aria-activedescendant"));
  item.style.transform = `translate(${x}px, ${y}px)`;
}

function describeItem() {
  const { tree, node } = state;
  const siblings = node === ROOT ? [ROOT] : tree.children[tree.parent[node]];
  const said = [
    node === ROOT ? "start" : oneLine(tree.text(tree.action[node]), 200),
    meanScore(tree.mean[node]),
    count(tree.visits[node], "visit"),
    tree.forkAt.has(node) ? "fork" : "",
    tree.lit.has(node) ? "on the best path" : "",
    ending(tree, node) ? `ends: ${ending(tree, node)}` : "",
  ];
  const item = make("div", {
    id: `node-${node}`,
    class: "item",
    role: "treeitem",
    "aria-label": said.filter(Boolean).join(", "),
    "aria-selected": "true",
    "aria-level": tree.depth[node] + 1,
    "aria-setsize": siblings.length,
    "aria-posinset": siblings.indexOf(node) + 1,
  });
  if (tree.children[node].length) item.setAttribute("aria-expanded", "true");
  stage.querySelector(".item")?.remove();
  stage.append(item);
  stage.setAttribute("aria-activedescendant", item.id);
}

// ---- selecting

function selectTask(number, node = ROOT) {
  if (number !== state.number) {
    state.number = number;
    state.tree = decode($(`tree-${number}`).textContent);
    view.tree = state.tree;
    state.node = ROOT;
    state.hovered = -1;
    if (state.fork) closeFork();
    fit(view);
    $("name").textContent = $("name").title = tasks[number].task;
    options.forEach((option, other) => option.setAttribute("aria-selected", String(other === number)));
    $("tasks").setAttribute("aria-activedescendant", options[number].id);
    options[number].scrollIntoView({ block: "nearest" });
    find();
  }
  selectNode(node < state.tree.size ? node : ROOT);
}

function selectNode(node) {
  state.node = node;
  describeItem();
  reveal(view, node);
  const panel = $("details");
  panel.replaceChildren(...details(state.tree, node, shade, selectNode, openFork));
  panel.scrollTop = 0;
  const address = new URLSearchParams({ task: tasks[state.number].task, node });
  history.replaceState(null, "", `#${address}`);
  redraw();
}

function followAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  const named = tasks.findIndex((row) => row.task === address.get("task"));
  const node = Number(address.get("node"));
  selectTask(named < 0 ? mostToSee() : named, named >= 0 && Number.isInteger(node) && node > 0 ? node : ROOT);
}

// The tree that teaches most comes first: that with the most forks whose options differ in score.
function mostToSee() {
  const more = (a, b) => a.informative - b.informative || a.forks - b.forks || a.trajectories - b.trajectories;
  return tasks.reduce((found, row, number) => (more(row, tasks[found]) > 0 ? number : found), 0);
}

function stepTask(way) {
  const at = order.indexOf(state.number);
  const number = order[at < 0 ? 0 : Math.min(order.length - 1, Math.max(0, at + way))];
  if (number !== undefined) selectTask(number);
}

// ---- comparing

function openFork(children) {
  const { tree } = state;
  showFork({ node: tree.parent[children[0]], children, sides: widest(tree, children) });
  $("compare").focus();
}

function showFork(fork) {
  const { tree } = state;
  state.fork = fork;
  state.kept = new Set([ROOT, ...fork.sides.flatMap((index) => pathTo(tree, tree.end[index]))]);
  const choose = (side, index) => {
    showFork({ ...fork, sides: fork.sides.map((old, other) => (other === side ? index : old)) });
    $("compare").querySelectorAll("select")[side].focus();
  };
  const panel = $("compare");
  panel.replaceChildren(...comparison(tree, fork, shade, selectNode, choose, leaveFork));
  panel.hidden = false;
  measured();
  redraw();
}

function closeFork() {
  state.fork = state.kept = null;
  $("compare").hidden = true;
  $("compare").replaceChildren();
  measured();
  redraw();
}

function leaveFork() {
  closeFork();
  stage.focus();
}

// ---- the list of tasks

function taskOption(row, number) {
  const sizes = `${count(row.trajectories, "run")} · ${count(row.forks, "fork")}`;
  const scores = row.mean === null ? score(null) : `best ${score(row.best)} · mean ${score(row.mean)}`;
  const found = `${sizes} · ${scores}`;
  const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("i", {}), make("b", {}));
  bar.style.setProperty("--mean", `${100 * row.mean}%`);
  bar.style.setProperty("--best", `${100 * row.best}%`);
  const choose = () => selectTask(number);
  const properties = { id: `task-${number}`, role: "option", "aria-selected": "false", onclick: choose };
  return make("li", properties, make("span", { class: "task" }, row.task), bar, make("small", {}, found));
}

function list() {
  const key = $("sort").value;
  const down = $("turn").getAttribute("aria-pressed") === "true";
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const names = new Intl.Collator(undefined, { numeric: true });
  const byName = (a, b) => names.compare(tasks[a].task, tasks[b].task);
  const compare = key === "task" ? byName : (a, b) => tasks[a][key] - tasks[b][key];
  const wanted = (number) => words.every((word) => tasks[number].task.toLowerCase().includes(word));
  order = tasks.map((_, number) => number).filter(wanted);
  order.sort((a, b) => (down ? -1 : 1) * compare(a, b) || a - b);
  $("tasks").replaceChildren(...order.map((number) => options[number]));
  const all = count(tasks.length, "task");
  $("shown").textContent = words.length ? `${order.length} of ${all}` : all;
}

function totals() {
  const sum = (key) => tasks.reduce((total, row) => total + row[key], 0);
  const scored = tasks.filter((row) => row.mean !== null);
  const average = (key) => (scored.length ? scored.reduce((total, row) => total + row[key], 0) / scored.length : null);
  const without = tasks.length - scored.length;
  $("totals").textContent = [
    count(tasks.length, "task"),
    count(sum("trajectories"), "trajectory", "trajectories"),
    scored.length ? count(sum("successes"), "success", "successes") : "",
    count(sum("forks"), "fork") + (scored.length ? `, ${sum("informative")} informative` : ""),
    scored.length ? `mean ${score(average("mean"))}, best ${score(average("best"))}` : "",
    without ? `${count(without, "task")} without scores` : "",
  ].filter(Boolean).join(" · ");
}

// ---- searching the tree

function find() {
  state.hits = search(state.tree, $("search").value);
  $("hits").value = $("search").value.trim() ? count(state.hits.size, "hit") : "";
  redraw();
}

function toHit(way) {
  if (state.hits.size) selectNode(next(state.tree, state.hits, state.node, way));
}

// ---- keys

const zoomBy = (factor) => {
  zoom(view, factor, ...place(view, state.node));
  reveal(view, state.node);
  redraw();
};
const showAll = () => {
  fit(view);
  redraw();
};
const compareHere = () => {
  const forks = state.tree.forkAt.get(state.node);
  if (forks) openFork([...forks].sort((a, b) => gap(state.tree, b) - gap(state.tree, a))[0]);
};
const toFork = (way) => selectNode(next(state.tree, state.tree.forkAt.keys(), state.node, way));
const help = () => $("help").showModal();

const KEYS = {
  "/": () => $("filter").select(),
  s: () => $("search").select(),
  "?": help,
  "]": () => stepTask(1),
  "[": () => stepTask(-1),
  f: () => toFork(1),
  F: () => toFork(-1),
  n: () => toHit(1),
  N: () => toHit(-1),
  c: compareHere,
  "+": () => zoomBy(1.3),
  "=": () => zoomBy(1.3),
  "-": () => zoomBy(1 / 1.3),
  0: showAll,
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.key === "Escape") {
    if (state.fork) leaveFork();
    else stage.focus();
  } else if (!event.target.closest("input, select") && Object.hasOwn(KEYS, event.key)) KEYS[event.key]();
  else if (event.target === document.body) return onStageKey(event); // nothing has the focus yet
  else return;
  event.preventDefault();
}

function onStageKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter") compareHere();
  else if (/^(Arrow|Home$|End$)/.test(event.key)) selectNode(neighbour(state.tree, state.node, event.key));
  else return;
  event.preventDefault();
}

function onListKey(event) {
  const ways = { ArrowDown: 1, ArrowUp: -1, Home: -tasks.length, End: tasks.length };
  if (event.key in ways) stepTask(ways[event.key]);
  else if (event.key === "Enter" || event.key === "ArrowRight") stage.focus();
  else return;
  event.preventDefault();
}

function onSearchKey(event) {
  if (event.key !== "Enter") return;
  toHit(event.shiftKey ? -1 : 1);
  event.preventDefault();
}

// ---- mouse and fingers

const fingers = new Map();
let dragged = false;

function at(event) {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function onDown(event) {
  stage.setPointerCapture(event.pointerId);
  if (!fingers.size) dragged = false;
  fingers.set(event.pointerId, at(event));
}

function onMove(event) {
  const here = at(event);
  const before = fingers.get(event.pointerId);
  if (!before) return hover(...here);
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  const [dx, dy] = [here[0] - before[0], here[1] - before[1]];
  if (!dragged && !other && Math.hypot(dx, dy) < 4) return;
  dragged = true;
  fingers.set(event.pointerId, here);
  hover(-99, -99);
  if (other) {
    const apart = (point) => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
    zoom(view, apart(here) / apart(before), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
  } else {
    view.whole = false;
    pan(view, dx, dy);
  }
  redraw();
}

function onUp(event) {
  if (fingers.delete(event.pointerId) && !dragged && event.type === "pointerup") {
    const node = nodeAt(view, ...at(event));
    if (node >= 0) selectNode(node);
  }
}

function onWheel(event) {
  event.preventDefault();
  const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 * event.deltaY : event.deltaY;
  const turned = Math.min(240, Math.max(-240, pixels)) * (event.ctrlKey ? 0.01 : 0.002); // a pinch comes as ctrl
  zoom(view, Math.exp(-turned), ...at(event));
  redraw();
}

function hover(x, y) {
  const node = x < 0 ? -1 : nodeAt(view, x, y);
  const tip = $("tip");
  stage.classList.toggle("over", node >= 0);
  tip.hidden = node < 0 || node === ROOT;
  if (node !== state.hovered) {
    state.hovered = node;
    redraw();
    if (node > ROOT) {
      const { tree } = state;
      const figures = [meanScore(tree.mean[node]), count(tree.visits[node], "visit"), `step ${tree.depth[node]}`];
      const action = make("code", {}, oneLine(tree.text(tree.action[node]), 200));
      tip.replaceChildren(action, make("small", {}, figures.join(" · ")));
    }
  }
  if (!tip.hidden) {
    const left = Math.min(x + 14, view.width - tip.offsetWidth - 8);
    const top = y + 18 + tip.offsetHeight > view.height ? y - tip.offsetHeight - 12 : y + 18;
    tip.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(0, top)}px)`;
  }
}

// ---- start

// A canvas that changes its size is empty until it is drawn again, which cannot wait for the next frame.
function measured() {
  if (!resize(view) || !view.tree) return;
  if (view.whole) fit(view);
  else reveal(view, state.node);
  paint();
}

function themed() {
  readTheme(view);
  if (state.tree) {
    selectNode(state.node);
    if (state.fork) showFork(state.fork);
  }
}

document.addEventListener("keydown", onKey);
stage.addEventListener("keydown", onStageKey);
stage.addEventListener("pointerdown", onDown);
stage.addEventListener("pointermove", onMove);
stage.addEventListener("pointerup", onUp);
stage.addEventListener("pointercancel", onUp);
stage.addEventListener("pointerleave", () => hover(-99, -99));
stage.addEventListener("wheel", onWheel, { passive: false });
$("tasks").addEventListener("keydown", onListKey);
$("filter").addEventListener("input", list);
$("filter").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== "ArrowDown") return;
  if (order.length && !order.includes(state.number)) selectTask(order[0]);
  $("tasks").focus();
  event.preventDefault();
});
$("sort").addEventListener("change", list);
$("turn").addEventListener("click", () => {
  const down = $("turn").getAttribute("aria-pressed") !== "true";
  $("turn").setAttribute("aria-pressed", String(down));
  $("turn").textContent = down ? "↓" : "↑";
  list();
});
$("search").addEventListener("input", find);
$("search").addEventListener("keydown", onSearchKey);
$("in").addEventListener("click", () => zoomBy(1.3));
$("out").addEventListener("click", () => zoomBy(1 / 1.3));
$("fit").addEventListener("click", showAll);
$("ask").addEventListener("click", help);
$("help").addEventListener("close", () => stage.focus());
window.addEventListener("hashchange", followAddress);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themed);

readTheme(view);
totals();
list();
resize(view);
followAddress();
new ResizeObserver(measured).observe(stage);
