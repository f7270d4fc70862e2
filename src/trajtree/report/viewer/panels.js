// What is written beside the tree: the selected node, and two continuations side by side.
// Text enters the page as text nodes only.

const SHOWN = 200; // trajectories, children or thoughts listed at first

// An element; strings among its children become text, `on...` properties listeners.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "shade") element.style.setProperty("--shade", value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

function chip(name, value, shade = null) {
  const properties = shade ? { class: "chip shaded", shade } : { class: "chip" };
  return make("div", properties, make("dt", {}, name), make("dd", {}, value));
}

function prose(text, kind = "prose") {
  return make("div", { class: kind, dir: "auto" }, text || make("span", { class: "muted" }, "nothing"));
}

// A list of which the first entries are shown, and the rest when asked for.
function listed(items, show, kind) {
  const list = make("ul", { class: kind }, ...items.slice(0, SHOWN).map(show));
  if (items.length <= SHOWN) return list;
  const more = make("button", { type: "button", class: "link" }, `Show all ${items.length}`);
  more.addEventListener("click", () => list.replaceChildren(...items.map(show)));
  return make("div", {}, list, more);
}

const outcome = (tree, index) => tree.text(tree.outcome[index]);

function ended(tree, index) {
  return `${score(tree.score[index])} · ${tree.success[index] ? "success" : outcome(tree, index)}`;
}

function errorOf(tree, index) {
  return tree.error[index] < 0 ? "" : make("small", { class: "error" }, tree.text(tree.error[index]));
}

// The details of a node. `go(node)` selects another, `compare(children)` puts a fork's continuations side by side.
function details(tree, node, shade, go, compare) {
  const members = through(tree, node);
  const parts = [heading(tree, node), facts(tree, node, members, shade)];
  for (const children of tree.forkAt.get(node) ?? []) parts.push(forkPart(tree, children, shade, go, compare));
  if (node === ROOT) parts.push(...openingPart(tree));
  else {
    parts.push(make("h3", {}, "Observation"), prose(tree.text(tree.observation[node])));
    parts.push(...thoughtsPart(tree, node, members));
    parts.push(make("h3", {}, "Action"), prose(tree.text(tree.action[node]), "code"));
  }
  parts.push(make("h3", {}, `${count(members.length, "trajectory", "trajectories")} through this node`));
  parts.push(listed(members, (index) => trajectoryRow(tree, index, shade, go), "rows"));
  return parts;
}

// What the agent saw first, when it was always the same.
function openingPart(tree) {
  const seen = new Set(tree.children[ROOT].map((child) => tree.observation[child]));
  return seen.size === 1 ? [make("h3", {}, "First observation"), prose(tree.text(...seen))] : [];
}

function heading(tree, node) {
  if (node === ROOT) return make("h2", {}, "Start");
  const action = oneLine(tree.text(tree.action[node]), 120);
  return make("h2", {}, make("small", {}, `Step ${tree.depth[node]}`), make("span", {}, action));
}

function facts(tree, node, members, shade) {
  const chips = [
    chip("mean score", score(tree.mean[node]), shade(tree.mean[node])),
    chip("best ending", score(tree.value[node])),
    chip("visits", `${tree.visits[node]} of ${tree.visits[ROOT]}`),
  ];
  const rewards = members.map((index) => tree.reward[index][tree.depth[node] - 1] ?? 0);
  if (node !== ROOT && rewards.some((reward) => reward)) {
    const [low, high] = rewards.reduce(([a, b], r) => [Math.min(a, r), Math.max(b, r)], [Infinity, -Infinity]);
    chips.push(chip("reward", high - low < 1e-6 ? signed(low) : `${signed(low)} to ${signed(high)}`));
  }
  if (tree.lit.has(node)) chips.push(chip("best path", "on it"));
  return make("dl", { class: "chips" }, ...chips);
}

const signed = (value) => (value < 0 ? "−" : "+") + score(Math.abs(value));

function forkPart(tree, children, shade, go, compare) {
  const row = (child) => {
    const properties = { type: "button", shade: shade(tree.mean[child]), onclick: () => go(child) };
    const figures = make("span", { class: "muted" }, `${score(tree.mean[child])} · ${tree.visits[child]}×`);
    const action = make("code", {}, oneLine(tree.text(tree.action[child]), 80));
    return make("li", {}, make("button", properties, make("i", { class: "dot" }), action, figures));
  };
  const open = { type: "button", class: "primary", onclick: () => compare(children) };
  return make(
    "div",
    { class: "fork-part" },
    make("h3", {}, `Fork: ${children.length} different actions`),
    listed(children, row, "rows"),
    make("button", open, tree.target === null ? "Compare two of them " : "Compare best with worst ", make("kbd", {}, "c")),
  );
}

function thoughtsPart(tree, node, members) {
  const thoughts = new Map();
  for (const index of members) {
    const thought = tree.thought[index][tree.depth[node] - 1] ?? -1;
    if (thought >= 0) add(thoughts, thought, tree.sample[index]);
  }
  if (!thoughts.size) return [];
  const one = ([thought, samples]) => {
    const from = `${samples.length > 1 ? "samples" : "sample"} ${samples.slice(0, 12).join(", ")}`;
    const rest = samples.length > 12 ? ` and ${samples.length - 12} more` : "";
    return make("li", {}, make("small", {}, from + rest), prose(tree.text(thought), "thought"));
  };
  const title = thoughts.size > 1 ? `${thoughts.size} thoughts` : "Thought";
  return [make("h3", {}, title), listed([...thoughts], one, "thoughts")];
}

function trajectoryRow(tree, index, shade, go) {
  const end = () => go(tree.end[index]);
  const button = make(
    "button",
    { type: "button", shade: shade(tree.score[index]), title: "Go to its end", onclick: end },
    make("i", { class: "dot" }),
    make("span", {}, `sample ${tree.sample[index]}`),
    make("strong", {}, score(tree.score[index])),
    make("span", {}, tree.success[index] ? "✓ success" : outcome(tree, index)),
    make("small", { class: "muted" }, tree.text(tree.made[index])),
    errorOf(tree, index),
  );
  return make("li", {}, button);
}

// The comparison. `fork` is {node, children, sides: [trajectory, trajectory]}; `choose(side, trajectory)` changes a side.
function comparison(tree, fork, shade, go, choose, close) {
  const from = tree.depth[fork.node];
  const paths = fork.sides.map((index) => pathTo(tree, tree.end[index]).slice(from));
  const head = [0, 1].map((side) => make("th", { scope: "col" }, picker(tree, fork, side, choose)));
  const shared = prose(tree.text(tree.observation[fork.children[0]]));
  const body = [];
  for (let at = 0; at < Math.max(paths[0].length, paths[1].length); at++) {
    const cells = [0, 1].map((side) => stepCell(tree, paths[side][at], fork.sides[side], at > 0, shade, go));
    body.push(make("tr", {}, make("th", { scope: "row" }, String(from + at + 1)), ...cells));
  }
  const last = [0, 1].map((side) => make("td", { class: "fate" }, fate(tree, fork.sides[side], shade)));
  body.push(make("tr", {}, make("th", { scope: "row" }, "end"), ...last));
  const shut = make("button", { type: "button", onclick: close }, "Close ", make("kbd", {}, "Esc"));
  const titles = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Step"), ...head));
  const region = { class: "scroll", tabindex: "0", role: "region", "aria-label": "Steps of both continuations" };
  return [
    make("div", { class: "tools bar" }, make("h2", {}, `Fork after step ${from}`), shut),
    make(
      "div",
      region,
      make("div", { class: "shared" }, make("h3", {}, "Both saw"), shared),
      make("table", {}, titles, make("tbody", {}, ...body)),
    ),
  ];
}

function picker(tree, fork, side, choose) {
  const name = `${["Left", "Right"][side]} continuation`;
  const select = make("select", { "aria-label": name, onchange: () => choose(side, Number(select.value)) });
  for (const child of fork.children) {
    const action = oneLine(tree.text(tree.action[child]), 40);
    const option = (index) =>
      make("option", { value: String(index) }, `${action} · sample ${tree.sample[index]} · ${ended(tree, index)}`);
    const label = `${action} · ${tree.mean[child] === null ? "" : "mean "}${score(tree.mean[child])}`;
    select.append(make("optgroup", { label }, ...through(tree, child).map(option)));
  }
  select.value = String(fork.sides[side]);
  return select;
}

function fate(tree, index, shade) {
  const properties = { class: "ended", shade: shade(tree.score[index]) };
  const said = make("strong", {}, ended(tree, index));
  return make("div", properties, make("i", { class: "dot" }), said, errorOf(tree, index));
}

function stepCell(tree, node, index, seen, shade, go) {
  if (node === undefined) return make("td", { class: "none" }, make("span", { class: "muted" }, "—"));
  const at = tree.depth[node] - 1;
  const thought = tree.text(tree.thought[index][at] ?? -1);
  const reward = tree.reward[index][at] ?? 0;
  const act = { type: "button", class: "code act", title: "Show in the tree", onclick: () => go(node) };
  return make(
    "td",
    { shade: shade(tree.mean[node]) },
    seen ? prose(tree.text(tree.observation[node]), "prose seen") : "",
    thought ? prose(thought, "thought") : "",
    make("button", act, tree.text(tree.action[node])),
    reward ? make("span", { class: reward > 0 ? "gain" : "loss" }, signed(reward)) : "",
  );
}
