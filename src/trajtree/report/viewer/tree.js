// One task's tree: decoded from its JSON block, laid out, and asked about. Nothing here knows the page.
// Everything is iterative and linear in the nodes, for a path may be thousands of steps long.

const ROOT = 0;

// Scores are from 0 to 1; null where runs have none.
const score = (value) => (value === null ? "no score" : value.toFixed(2));

function decode(source) {
  const tree = JSON.parse(source);
  const size = tree.parent.length;
  tree.size = size;
  tree.text = (index) => (index < 0 ? "" : tree.strings[index]);
  tree.children = Array.from({ length: size }, () => []);
  tree.depth = new Int32Array(size);
  // Parents are numbered before their children.
  for (let node = 1; node < size; node++) {
    tree.children[tree.parent[node]].push(node);
    tree.depth[node] = tree.depth[tree.parent[node]] + 1;
  }
  const better = (a, b) => tree.mean[b] - tree.mean[a] || tree.visits[b] - tree.visits[a] || a - b;
  for (const children of tree.children) children.sort(better);
  tree.ending = new Map();
  tree.end.forEach((node, index) => add(tree.ending, node, index));
  tree.forkAt = new Map();
  for (const [node, children] of tree.forks) add(tree.forkAt, node, [...children].sort(better));
  tree.lit = new Set(tree.target === null ? [] : [ROOT, ...pathTo(tree, tree.target)]);
  layOut(tree);
  return tree;
}

function add(map, key, value) {
  if (map.has(key)) map.get(key).push(value);
  else map.set(key, [value]);
}

// A row for each leaf, a parent in the middle of its children: no two lines cross, and every action has its own line.
function layOut(tree) {
  tree.row = new Float64Array(tree.size);
  tree.order = new Int32Array(tree.size); // nodes from the top, parents first
  tree.place = new Int32Array(tree.size); // where a node stands in `order`
  tree.last = new Int32Array(tree.size); // where its last descendant stands
  tree.levels = []; // the nodes of each depth, from the top
  tree.rank = new Int32Array(tree.size); // where a node stands in its level
  tree.rows = 0;
  const stack = [ROOT];
  for (let place = 0; place < tree.size; place++) {
    const node = stack.pop();
    tree.order[place] = node;
    tree.place[node] = place;
    const level = (tree.levels[tree.depth[node]] ??= []);
    tree.rank[node] = level.push(node) - 1;
    const children = tree.children[node];
    for (let i = children.length - 1; i >= 0; i--) stack.push(children[i]);
    if (!children.length) tree.row[node] = tree.rows++;
  }
  for (let place = tree.size - 1; place >= 0; place--) {
    const node = tree.order[place];
    const children = tree.children[node];
    const bottom = children.at(-1);
    tree.last[node] = children.length ? tree.last[bottom] : place;
    if (children.length) tree.row[node] = (tree.row[children[0]] + tree.row[bottom]) / 2;
  }
}

// Nodes from the root, which is left out, to `node`.
function pathTo(tree, node) {
  const path = [];
  for (let here = node; here !== ROOT; here = tree.parent[here]) path.push(here);
  return path.reverse();
}

// Trajectories that pass through or end at `node`, best first, of equal ones the shorter first.
function through(tree, node) {
  const from = tree.place[node];
  const to = tree.last[node];
  const found = [];
  tree.end.forEach((end, index) => {
    if (tree.place[end] >= from && tree.place[end] <= to) found.push(index);
  });
  const depth = (index) => tree.depth[tree.end[index]];
  return found.sort((a, b) => tree.score[b] - tree.score[a] || depth(a) - depth(b) || a - b);
}

// The pair a fork teaches most by: the best trajectory behind its best child, the worst behind its worst.
function widest(tree, children) {
  const behind = through(tree, children.at(-1));
  const worst = behind.filter((index) => tree.score[index] === tree.score[behind.at(-1)]);
  return [through(tree, children[0])[0], worst[0]];
}

const gap = (tree, children) => tree.mean[children[0]] - tree.mean[children.at(-1)];

// How a node's trajectories end there: the best of them counts. null where none ends.
function ending(tree, node) {
  const here = tree.ending.get(node);
  if (!here) return null;
  if (here.some((index) => tree.success[index])) return "success";
  const outcomes = here.map((index) => tree.text(tree.outcome[index]));
  return ["completed", "truncated"].find((outcome) => outcomes.includes(outcome)) ?? "agent error";
}

// Where an arrow key leads; the node itself where there is nothing.
function neighbour(tree, node, key) {
  const level = tree.levels[tree.depth[node]];
  if (key === "ArrowLeft") return node === ROOT ? node : tree.parent[node];
  if (key === "ArrowRight") return tree.children[node][0] ?? node;
  if (key === "ArrowUp") return level[tree.rank[node] - 1] ?? node;
  if (key === "ArrowDown") return level[tree.rank[node] + 1] ?? node;
  if (key === "Home") return ROOT;
  return key === "End" ? (tree.target ?? node) : node;
}

// The next of `nodes` after (`way` 1) or before (-1) `node` in the order from the top, round and round.
function next(tree, nodes, node, way) {
  const sorted = [...nodes].sort((a, b) => way * (tree.place[a] - tree.place[b]));
  return sorted.find((other) => way * (tree.place[other] - tree.place[node]) > 0) ?? sorted[0] ?? node;
}

function search(tree, words) {
  const wanted = words.trim().toLowerCase();
  if (!wanted) return new Set();
  tree.lower ??= tree.strings.map((text) => text.toLowerCase());
  const hits = new Set();
  for (let node = 1; node < tree.size; node++) if (tree.lower[tree.action[node]].includes(wanted)) hits.add(node);
  return hits;
}
