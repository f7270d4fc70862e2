// The drawing: a tree on a canvas that pans and zooms. x is the depth, y the row of the layout. The two axes have
// scales of their own, so that a deep narrow tree and a flat broad one both fill the picture.

const WIDEST = 250; // px a step
const TALLEST = 80; // px a row
const LABELS = 15; // px a row from which there is room for text
const LETTER = 12; // px a line of text
const SHADES = 24;
const BREADTHS = 8;
const MARGIN = { left: 44, right: 64, top: 46, bottom: 24 };

function makeView(canvas) {
  const context = canvas.getContext("2d");
  const scale = { kx: 1, ky: 1, x: 0, y: 0, least: [1, 1], whole: true }; // `whole`: nobody moved it
  return { canvas, context, width: 1, height: 1, ratio: 1, tree: null, theme: null, widths: new Map(), ...scale };
}

function readTheme(view) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const channels = (name) => [1, 3, 5].map((at) => parseInt(colour(name).slice(at, at + 2), 16));
  const stops = [channels("low"), channels("half"), channels("high")];
  const shades = [];
  for (let i = 0; i <= SHADES; i++) {
    const at = (2 * i) / SHADES;
    const [from, to] = at < 1 ? [stops[0], stops[1]] : [stops[1], stops[2]];
    const mixed = from.map((c, k) => Math.round(c + (to[k] - c) * (at < 1 ? at : at - 1)));
    shades.push(`rgb(${mixed.join(" ")})`);
  }
  const names = ["paper", "ink", "muted", "glow", "accent"];
  view.theme = { shades, ...Object.fromEntries(names.map((name) => [name, colour(name)])) };
  shades.push(view.theme.muted); // for what has no score
  view.theme.shade = (value) => shades[shadeOf(value)];
}

const shadeOf = (value) => (value === null ? SHADES + 1 : Math.round(value * SHADES));

// Give the canvas the size of its frame; false when it had it.
function resize(view) {
  const { clientWidth, clientHeight } = view.canvas.parentElement;
  const now = [Math.max(1, clientWidth), Math.max(1, clientHeight), window.devicePixelRatio || 1];
  if (now.every((number, at) => number === [view.width, view.height, view.ratio][at])) return false;
  [view.width, view.height, view.ratio] = now;
  view.canvas.width = Math.round(view.width * view.ratio);
  view.canvas.height = Math.round(view.height * view.ratio);
  return true;
}

function fit(view) {
  const { tree } = view;
  const steps = Math.max(1, tree.levels.length - 1);
  const gaps = Math.max(1, tree.rows - 1);
  view.kx = Math.min(180, Math.max(1, view.width - MARGIN.left - MARGIN.right) / steps);
  view.ky = Math.min(64, Math.max(1, view.height - MARGIN.top - MARGIN.bottom) / gaps);
  view.least = [view.kx, view.ky];
  view.whole = true;
  view.x = MARGIN.left;
  view.y = (view.height + MARGIN.top - MARGIN.bottom - view.ky * (tree.rows - 1)) / 2;
}

// Zoom about a point of the canvas, which stays where it is.
function zoom(view, factor, px, py) {
  const scaled = (k, least, most) => Math.min(Math.max(k * factor, least * 0.6), Math.max(most, least));
  const kx = scaled(view.kx, view.least[0], WIDEST);
  const ky = scaled(view.ky, view.least[1], TALLEST);
  view.x = px - ((px - view.x) * kx) / view.kx;
  view.y = py - ((py - view.y) * ky) / view.ky;
  view.kx = kx;
  view.ky = ky;
  view.whole = false;
  pan(view, 0, 0);
}

// Some of the tree always stays in the picture.
function pan(view, dx, dy) {
  const wide = view.kx * (view.tree.levels.length - 1);
  const tall = view.ky * (view.tree.rows - 1);
  view.x = Math.min(Math.max(view.x + dx, 60 - wide), view.width - 60);
  view.y = Math.min(Math.max(view.y + dy, 40 - tall), view.height - 40);
}

const place = (view, node) => [view.x + view.kx * view.tree.depth[node], view.y + view.ky * view.tree.row[node]];

// Move the picture as little as it takes to show the node and its label.
function reveal(view, node) {
  const [px, py] = place(view, node);
  const room = node === ROOT ? MARGIN.left : Math.min(view.kx, view.width / 2) + 8;
  const dx = px < room ? room - px : Math.min(0, view.width - MARGIN.right - px);
  const dy = py < MARGIN.top ? MARGIN.top - py : Math.min(0, view.height - MARGIN.bottom - py);
  pan(view, dx, dy);
}

// The node at a point: under it, or else the one whose line or label is there. -1 where there is none.
function nodeAt(view, px, py) {
  const step = (px - view.x) / view.kx;
  const row = (py - view.y) / view.ky;
  let [found, closest] = [-1, Infinity];
  for (const depth of new Set([Math.round(step), Math.ceil(step)])) {
    const level = view.tree.levels[depth];
    if (!level) continue;
    let [low, high] = [0, level.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (view.tree.row[level[middle]] < row) low = middle + 1;
      else high = middle;
    }
    for (const node of [level[low - 1], level[low]]) {
      if (node === undefined) continue;
      const [x, y] = place(view, node);
      const off = Math.hypot(px - x, py - y);
      const beside = px < x && px > x - 0.65 * view.kx && py > y - 16 && py < y + 6 ? 12 : Infinity;
      const distance = off <= 12 ? off : beside;
      if (distance < closest) [found, closest] = [node, distance];
    }
  }
  return found;
}

// `marks`: selected, hovered (nodes), hits (set of nodes), kept (set of nodes outside of which all is dim, or null).
function draw(view, marks) {
  const { context: c, ratio, theme, tree } = view;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.fillStyle = theme.paper;
  c.fillRect(0, 0, view.width, view.height);
  c.lineCap = c.lineJoin = "round";
  const inView = visibleNodes(view);
  drawEdges(view, inView.filter((node) => !tree.lit.has(node)), marks);
  const lit = inView.filter((node) => tree.lit.has(node));
  drawGlow(view, lit);
  drawEdges(view, lit, marks);
  drawNodes(view, inView, marks);
  if (view.ky >= LABELS && view.kx >= 46) drawLabels(view, inView, marks);
  for (const [nodes, colour, radius, width] of [
    [inView.filter((node) => marks.hits.has(node)), theme.accent, Math.min(9, Math.max(3, view.ky * 0.6)), 2],
    [marks.hovered >= 0 ? [marks.hovered] : [], theme.muted, 10, 1.5],
    [[marks.selected], theme.ink, 11, 2.5],
  ]) {
    c.beginPath();
    for (const node of nodes) ring(c, ...place(view, node), radius);
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.stroke();
  }
}

function visibleNodes(view) {
  const { tree } = view;
  const found = [];
  for (let at = 0; at < tree.size; at++) {
    const node = tree.order[at];
    const x = view.x + view.kx * tree.depth[node];
    if (x < -20 || x > view.width + view.kx + 20) continue;
    const y = view.y + view.ky * tree.row[node];
    const from = node === ROOT ? y : view.y + view.ky * tree.row[tree.parent[node]];
    if (Math.max(y, from) > -20 && Math.min(y, from) < view.height + 20) found.push(node);
  }
  return found;
}

function ring(c, x, y, radius) {
  c.moveTo(x + radius, y);
  c.arc(x, y, radius, 0, 2 * Math.PI);
}

function edge(view, node) {
  const { context: c } = view;
  const [x, y] = place(view, node);
  const [fromX, fromY] = place(view, view.tree.parent[node]);
  c.moveTo(fromX, fromY);
  if (Math.abs(y - fromY) > 0.5) {
    const bend = Math.min(view.kx * 0.34, 60);
    if (view.ky < 6) c.lineTo(fromX + bend, y);
    else c.bezierCurveTo(fromX + bend * 0.6, fromY, fromX + bend * 0.4, y, fromX + bend, y);
  }
  c.lineTo(x, y);
}

function drawGlow(view, inView) {
  const { context: c, theme } = view;
  c.beginPath();
  for (const node of inView) if (node !== ROOT) edge(view, node);
  c.strokeStyle = theme.glow;
  c.lineWidth = Math.min(16, 7 + view.ky / 5);
  c.stroke();
}

// Lines of one colour and width are one path: a stroke a line would be slow.
function drawEdges(view, inView, marks) {
  const { context: c, tree, theme } = view;
  const most = Math.sqrt(tree.visits[ROOT]);
  const broad = Math.min(8, Math.max(4, view.ky * 0.7));
  const groups = new Map();
  for (const node of inView) {
    if (node === ROOT) continue;
    const dim = marks.kept && !marks.kept.has(node) ? 1 : 0;
    const breadth = Math.round((BREADTHS * Math.sqrt(tree.visits[node])) / most);
    add(groups, (shadeOf(tree.mean[node]) * 16 + breadth) * 2 + dim, node);
  }
  for (const [key, nodes] of groups) {
    c.beginPath();
    for (const node of nodes) edge(view, node);
    c.globalAlpha = key & 1 ? 0.18 : 1;
    c.strokeStyle = theme.shades[key >> 5];
    c.lineWidth = 1 + ((broad - 1) * ((key >> 1) & 15)) / BREADTHS;
    c.stroke();
  }
  c.globalAlpha = 1;
}

function drawNodes(view, inView, marks) {
  const { context: c, tree, theme } = view;
  const size = Math.min(7, Math.min(view.ky * 0.36, view.kx * 0.3));
  for (const node of inView) {
    const [x, y] = place(view, node);
    const forks = tree.forkAt.get(node);
    const kind = ending(tree, node);
    if (size < 2 && !forks && !kind) continue;
    c.globalAlpha = marks.kept && !marks.kept.has(node) ? 0.18 : 1;
    c.fillStyle = theme.shade(tree.mean[node]);
    if (size < 2) c.fillRect(x - 1.2, y - 1.2, 2.4, 2.4);
    else if (forks) drawFork(c, theme, x, y, Math.max(4, size), forks.some((children) => gap(tree, children) > 1e-6));
    else if (kind) drawEnd(c, theme, x, y, Math.max(3, size), kind);
    else fillShape(c, () => ring(c, x, y, size * 0.62));
  }
  c.globalAlpha = 1;
}

function fillShape(c, shape) {
  c.beginPath();
  shape();
  c.fill();
}

function drawFork(c, theme, x, y, size, informative) {
  const r = size * 1.15;
  fillShape(c, () => {
    c.moveTo(x, y - r);
    for (const [dx, dy] of [[r, 0], [0, r], [-r, 0]]) c.lineTo(x + dx, y + dy);
    c.closePath();
    if (!informative) c.fillStyle = theme.paper;
  });
  c.strokeStyle = theme.ink;
  c.lineWidth = 1.5;
  c.stroke();
}

function drawEnd(c, theme, x, y, size, kind) {
  if (kind === "truncated") {
    c.fillRect(x - size * 0.9, y - size * 0.9, size * 1.8, size * 1.8);
    return;
  }
  if (kind !== "agent error") fillShape(c, () => ring(c, x, y, size * (kind === "success" ? 1.2 : 1)));
  if (kind === "completed" || (kind === "success" && size < 4)) return;
  const s = size * 0.62;
  c.beginPath();
  if (kind === "success") {
    c.moveTo(x - s, y + s * 0.1);
    c.lineTo(x - s * 0.2, y + s * 0.8);
    c.lineTo(x + s, y - s * 0.7);
  } else {
    for (const way of [1, -1]) {
      c.moveTo(x - size * 0.8, y - way * size * 0.8);
      c.lineTo(x + size * 0.8, y + way * size * 0.8);
    }
  }
  c.strokeStyle = kind === "success" ? theme.paper : c.fillStyle;
  c.lineWidth = kind === "success" ? 2 : 2.6;
  c.stroke();
}

// An action stands above its line, in as many lines of text as the row has room for.
function drawLabels(view, inView, marks) {
  const { context: c, tree, theme } = view;
  c.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  c.textBaseline = "alphabetic";
  const most = Math.min(3, Math.floor((view.ky - 2) / LETTER));
  for (const node of inView) {
    const [x, y] = place(view, node);
    c.globalAlpha = marks.kept && !marks.kept.has(node) ? 0.25 : 1;
    if (node !== ROOT) {
      const bends = tree.children[tree.parent[node]].length > 1;
      const room = view.kx - 18 - (bends ? Math.min(view.kx * 0.34, 60) * 0.5 : 0);
      const lines = wrapped(view, tree.text(tree.action[node]), room, most);
      c.fillStyle = theme.ink;
      c.textAlign = "right";
      lines.forEach((line, at) => c.fillText(line, x - 10, y - 7 - LETTER * (lines.length - 1 - at)));
    }
    if (tree.ending.has(node) && !tree.children[node].length) {
      c.fillStyle = theme.muted;
      c.textAlign = "left";
      c.fillText(score(tree.mean[node]), x + 14, y + 4);
    }
  }
  c.globalAlpha = 1;
}

// The text in at most `most` lines of `room` pixels; what does not fit is cut and marked.
function wrapped(view, text, room, most) {
  const lines = [""];
  for (const word of oneLine(text, 30 * most).split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (!lines.at(-1) || width(view, longer) <= room) lines[lines.length - 1] = longer;
    else lines.push(word);
    if (lines.length > most) break;
  }
  const cut = lines.length > most;
  lines.length = Math.min(lines.length, most);
  return lines.map((line, at) => clipped(view, line, room, cut && at === most - 1));
}

function clipped(view, line, room, marked) {
  let shown = line;
  while (shown && width(view, marked || shown !== line ? `${shown}…` : shown) > room) shown = whole(shown.slice(0, -1));
  return marked || shown !== line ? `${shown}…` : shown;
}

function width(view, text) {
  if (view.widths.size > 20000) view.widths.clear();
  if (!view.widths.has(text)) view.widths.set(text, view.context.measureText(text).width);
  return view.widths.get(text);
}

// A cut through a surrogate pair leaves half a letter.
const whole = (text) => text.replace(/[\ud800-\udbff]$/, "");

function oneLine(text, most) {
  const line = text.slice(0, 4 * most).replace(/\s+/g, " ").trim();
  return line.length > most ? `${whole(line.slice(0, most - 1))}…` : line;
}
