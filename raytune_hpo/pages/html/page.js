// The page's figures and its table of trials. All texts of the run go through textContent.
async function unpacked() { // gzip in base64
  const packed = Uint8Array.from(atob(document.getElementById("data").textContent), (own) => own.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}
const data = await unpacked();
const live = document.body.hasAttribute("data-live");
const control = document.body.hasAttribute("data-control"); // whether the server takes commands
const ROWS = 100, BEST = 1; // of the trials' table: rows at first; the column of the metric

// Light and dark ---------------------------------------------------------------------------------
function kept(name, value) {
  try { // (a file's page may have no storage)
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch { /* then it is not kept */ }
  return null;
}
const darkness = matchMedia("(prefers-color-scheme: dark)");
function theme() { return kept("raytune_hpo-theme") || (darkness.matches ? "dark" : "light"); }
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  for (const plot of document.querySelectorAll(".plot.js-plotly-plot")) draw(plot);
}
document.documentElement.dataset.theme = theme();
document.getElementById("theme").addEventListener("click", () => {
  const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  kept("raytune_hpo-theme", name);
  setTheme(name);
});
darkness.addEventListener("change", () => setTheme(theme()));

// Figures ----------------------------------------------------------------------------------------
const CONFIG = {
  displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
};

function themed(spec) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const layout = {
    ...spec.layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    font: { color: color("--text"), family: "system-ui, -apple-system, sans-serif", size: 12 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--quiet"), activecolor: color("--text") },
    hoverlabel: { bgcolor: color("--panel"), font: { color: color("--text") }, bordercolor: color("--line") },
  };
  for (const axis of ["xaxis", "yaxis"]) {
    if (layout[axis]) layout[axis] = { ...layout[axis], gridcolor: color("--grid"), linecolor: color("--line") };
  }
  const traces = spec.data.map((trace) => trace.type !== "parcoords" ? trace : {
    ...trace, rangefont: { color: "rgba(0,0,0,0)" }, tickfont: { color: color("--text"), size: 11 },
    labelfont: { color: color("--text"), size: 12 },
  });
  return { traces, layout };
}

function draw(plot) {
  const spec = data.figures[plot.id];
  if (!spec) return;
  const { traces, layout } = themed(spec);
  const first = !plot.classList.contains("js-plotly-plot");
  if (!first && layout.xaxis && plot.layout && plot.layout.xaxis) keepZoom(plot, layout);
  if (!first && traces[0] && traces[0].type === "parcoords") keepBrushes(plot, traces[0]);
  Plotly.react(plot, traces, layout, CONFIG);
  if (first && spec.meta && "filters" in spec.meta) {
    plot.on("plotly_restyle", () => tables[spec.meta.filters]?.keep(brushed(plot)));
  }
}

// What somebody has zoomed to stays when the figure is drawn anew.
function keepZoom(plot, layout) {
  for (const axis of ["xaxis", "yaxis"]) {
    if (plot.layout[axis] && plot.dataset[axis] === "zoomed") layout[axis].range = plot.layout[axis].range;
  }
}
function keepBrushes(plot, trace) {
  const before = plot.data[0].dimensions;
  trace.dimensions = trace.dimensions.map((own, i) =>
    before[i] && before[i].label === own.label && before[i].constraintrange
      ? { ...own, constraintrange: before[i].constraintrange } : own);
}
function noteZoom(plot) {
  plot.on("plotly_relayout", (change) => {
    for (const axis of ["xaxis", "yaxis"]) {
      if (`${axis}.range[0]` in change) plot.dataset[axis] = "zoomed";
      if (`${axis}.autorange` in change) delete plot.dataset[axis];
    }
  });
}

// Drawn when they come into sight: a page of a hundred figures opens at once.
const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) show(entry.target);
}, { rootMargin: "600px" });
function show(plot) {
  sight.unobserve(plot);
  if (plot.classList.contains("js-plotly-plot")) return;
  draw(plot);
  if (plot.on) noteZoom(plot);
}
function watchPlots(root) { for (const plot of root.querySelectorAll(".plot")) sight.observe(plot); }

// The trials that the brushes of parallel coordinates leave, by id, of all that there are; null without a brush.
function brushed(plot) {
  const { ids, places } = data.figures[plot.id].meta;
  const set = plot.data[0].dimensions.map((own, i) => [own.constraintrange, places[i]]).filter(([own]) => own);
  if (!set.length) return null;
  const within = ([range, values], i) => {
    const ranges = Array.isArray(range[0]) ? range : [range];
    return values[i] !== null && ranges.some(([low, high]) => values[i] >= low && values[i] <= high);
  };
  return new Set(ids.filter((_, i) => set.every((own) => within(own, i))));
}

// The table of trials ----------------------------------------------------------------------------
const CONDITION = /^([^<>=!\s]+)(<=|>=|!=|==|=|<|>)(.+)$/;

class Trials {
  constructor(root, table) {
    this.root = root; this.shown = ROWS; this.only = null; this.sorting = null;
    this.root.innerHTML = `<div class="filter"><label>Conditions <input type="text" spellcheck="false" autocomplete="off"></label>
      <span class="count" aria-live="polite"></span><button type="button" class="clear" hidden>Clear brushes</button>
      <span role="alert"></span></div>
      <div class="acts"></div>
      <div class="scroll" tabindex="0" role="region" aria-label="Trials"><table><thead><tr></tr></thead><tbody></tbody></table></div>
      <button type="button" class="more">More rows</button>`;
    this.input = root.querySelector("input");
    this.input.addEventListener("input", () => { this.shown = ROWS; this.render(); });
    this.clear = root.querySelector(".clear");
    this.clear.addEventListener("click", () => {
      const plot = document.getElementById(`trials-${root.dataset.run}-0`);
      const none = plot.data[0].dimensions.map((_, i) => [`dimensions[${i}].constraintrange`, [null]]);
      Plotly.restyle(plot, Object.fromEntries(none));
    });
    this.more = root.querySelector(".more");
    this.more.addEventListener("click", () => { this.shown += 10 * ROWS; this.render(); });
    this.acts = control && live && root.dataset.run === "0" ? new Acts(root.querySelector(".acts"), this) : null;
    this.set(table);
  }

  set(table) {
    this.table = table;
    const head = this.root.querySelector("thead tr");
    this.numeric = table.columns.map((own) => typeof own.find((value) => value !== null) === "number");
    head.replaceChildren(...table.names.map((name, i) => {
      const cell = document.createElement("th"), button = document.createElement("button");
      cell.scope = "col"; button.type = "button"; button.textContent = i === BEST ? table.metric : name;
      button.addEventListener("click", () => this.sort(i));
      if (this.numeric[i]) cell.className = "number";
      cell.append(button);
      return cell;
    }));
    this.render();
  }

  keep(only) { this.only = only; this.clear.hidden = !only; this.shown = ROWS; this.render(); }

  sort(i) {
    const again = this.sorting && this.sorting.column === i;
    const first = i === BEST && this.table.mode === "max"; // the best on top
    this.sorting = { column: i, down: again ? !this.sorting.down : first };
    this.render();
  }

  conditions() {
    const found = [], wrong = [];
    for (const word of this.input.value.split(/\s+/).filter(Boolean)) {
      const parsed = CONDITION.exec(word);
      const column = parsed ? this.column(parsed[1]) : -1;
      if (column < 0) wrong.push(word); else found.push({ column, operator: parsed[2], value: parsed[3] });
    }
    const says = wrong.length ? `not read: ${wrong.join(" ")} (FIELD, one of < > <= >= = !=, a value)` : "";
    this.root.querySelector("[role=alert]").textContent = says;
    return found;
  }

  // A column of every trial, the metric, or a parameter, which may have the name of one: config.NAME is it alone.
  column(name) {
    const { names, first, last, metric } = this.table;
    const own = names.findIndex((other, i) => other === name && (i < first || i >= last));
    if (own >= 0) return own;
    if (name === metric) return BEST;
    const found = names.slice(first, last).indexOf(name.replace(/^config\./, ""));
    return found < 0 ? found : first + found;
  }

  render() {
    const { columns, last } = this.table, count = columns[0].length, ids = columns[0];
    const conditions = this.conditions();
    let rows = [];
    for (let i = 0; i < count; i++) {
      if (this.only && !this.only.has(ids[i])) continue;
      if (conditions.every((own) => holds(columns[own.column][i], own))) rows.push(i);
    }
    const failed = (i) => ["failed", "diverged"].includes(columns[last][i]); // the status stands behind the parameters
    const { column, down } = this.sorting || { column: BEST, down: this.table.mode === "max" };
    const values = columns[column];
    rows.sort((a, b) => (!this.sorting && failed(a) - failed(b)) || compare(values[a], values[b], down) || a - b);
    this.root.querySelectorAll("thead th").forEach((cell, i) => {
      if (i === column) cell.ariaSort = down ? "descending" : "ascending"; else cell.removeAttribute("aria-sort");
    });
    const body = this.root.querySelector("tbody");
    body.replaceChildren(...rows.slice(0, this.shown).map((i) => {
      const line = document.createElement("tr");
      line.append(...columns.map((own, column) => cellOf(own[i], this.numeric[column])));
      this.acts?.mark(line, ids[i]);
      return line;
    }));
    this.root.querySelector(".count").textContent =
      rows.length === count ? `${count} trials` : `${rows.length} of ${count} trials`;
    this.more.hidden = rows.length <= this.shown;
  }
}

// What a person asks of a trial: `raytune-hpo trial`, by a POST that is answered when it stands in the journal.
const CHOOSE = "Choose a trial by its name to stop, pause, clone or tag it.";
class Acts {
  constructor(root, trials) {
    this.root = root; this.trials = trials; this.trial = null;
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "The chosen trial");
    root.innerHTML = `<span class="which">${CHOOSE}</span>
      <span class="buttons" hidden>
        <button type="button" data-act="stop">Stop</button><button type="button" data-act="pause">Pause</button>
        <button type="button" data-act="continue">Continue</button><button type="button" data-act="promote">Promote</button>
        <label>Values <input type="text" spellcheck="false" autocomplete="off" placeholder="lr=0.003" data-for="clone"></label><button type="button" data-act="clone">Clone with them</button>
        <label>Tag or note <input type="text" autocomplete="off" data-for="mark"></label><button type="button" data-act="tag">Tag</button><button type="button" data-act="note">Note</button>
      </span> <span role="status"></span>`;
    root.addEventListener("click", (event) => {
      const act = event.target.dataset?.act;
      if (act) this.send(act);
    });
  }

  mark(line, id) {
    const cell = line.firstChild, button = document.createElement("button");
    button.type = "button"; button.textContent = id;
    button.setAttribute("aria-pressed", String(id === this.trial));
    button.addEventListener("click", () => this.choose(id));
    if (id === this.trial) line.className = "chosen";
    cell.replaceChildren(button);
  }

  choose(id) {
    this.trial = id === this.trial ? null : id;
    const which = this.root.querySelector(".which");
    which.textContent = this.trial ?? CHOOSE;
    which.classList.toggle("chosen", this.trial !== null);
    this.root.querySelector(".buttons").hidden = !this.trial;
    this.say("");
    this.trials.render();
    const again = [...this.trials.root.querySelectorAll("tbody button")].find((own) => own.textContent === id);
    again?.focus({ preventScroll: true });
  }

  say(text, wrong = false) {
    const status = this.root.querySelector("[role=status]");
    status.textContent = text;
    status.className = wrong ? "wrong" : "";
  }

  typed(name) { return this.root.querySelector(`[data-for=${name}]`).value.trim(); }

  asked(act) {
    const asked = { command: act, trial: this.trial };
    if (act === "clone") asked.changes = valuesOf(this.typed("clone"));
    if (act === "tag") asked.tags = this.typed("mark").split(/\s+/).filter(Boolean);
    if (act === "note") asked.note = this.typed("mark");
    return asked;
  }

  async send(act) {
    const buttons = this.root.querySelectorAll("button");
    for (const own of buttons) own.disabled = true;
    this.say("asking ...");
    try {
      const body = JSON.stringify(this.asked(act));
      const answer = await fetch("commands", { method: "POST", headers: { "content-type": "application/json" }, body });
      const told = await answer.json();
      this.say(told.said ?? told.error, !answer.ok);
    } catch (error) {
      this.say(error instanceof TypeError ? "the server does not answer" : String(error.message ?? error), true);
    }
    for (const own of buttons) own.disabled = false;
  }
}
function valuesOf(text) { // NAME=VALUE words; a value is JSON, or else a text
  const found = {};
  for (const word of text.split(/\s+/).filter(Boolean)) {
    const at = word.indexOf("=");
    if (at < 1) throw new Error(`not read: ${word} (NAME=VALUE)`);
    const value = word.slice(at + 1);
    try { found[word.slice(0, at)] = JSON.parse(value); } catch { found[word.slice(0, at)] = value; }
  }
  return found;
}

function cellOf(value, numeric) {
  const cell = document.createElement("td");
  if (typeof value !== "number") {
    cell.textContent = value ?? "-";
    if (numeric) cell.className = "number";
    return cell;
  }
  const exact = document.createElement("data");
  exact.value = String(value);
  exact.textContent = Number.isInteger(value) && Math.abs(value) < 1e15 ? value : shown(value);
  cell.className = "number";
  cell.append(exact);
  return cell;
}
function shown(value) { // as Python's %.5g
  const exponent = Math.floor(Math.log10(Math.abs(value)));
  if (value === 0 || (exponent >= -4 && exponent < 5)) return String(Number(value.toPrecision(5)));
  const [digits, power] = value.toExponential(4).split("e");
  return `${Number(digits)}e${power[0]}${power.slice(1).padStart(2, "0")}`;
}
function holds(value, { operator, value: text }) {
  const number = Number(text), numbers = typeof value === "number" && !Number.isNaN(number);
  if (operator === "=" || operator === "==" || operator === "!=") {
    const same = numbers ? value === number : String(value ?? "none").toLowerCase() === text.toLowerCase();
    return same === (operator !== "!=");
  }
  if (!numbers) return false;
  return { "<": value < number, ">": value > number, "<=": value <= number, ">=": value >= number }[operator];
}
function compare(a, b, down) { // numbers, then texts, then what is not there
  const rank = (own) => own === null || own === undefined ? 2 : typeof own === "number" ? 0 : 1;
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (rank(a) === 2) return 0;
  const order = typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0;
  return down ? -order : order;
}

const tables = [];
function fillTables() {
  for (const root of document.querySelectorAll(".trials")) {
    const run = Number(root.dataset.run);
    if (!root.firstChild) tables[run] = new Trials(root, data.trials[run]);
  }
}

// On paper everything is unfolded and drawn.
addEventListener("beforeprint", () => {
  for (const own of document.querySelectorAll("details")) own.open = true;
  document.querySelectorAll(".plot").forEach(show);
});

fillTables();
watchPlots(document);

// The menu shows where one is.
const links = new Map([...document.querySelectorAll("nav a")].map((own) => [own.hash.slice(1), own]));
const reading = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) {
    for (const [name, own] of links) {
      if (name === entry.target.id) own.setAttribute("aria-current", "true"); else own.removeAttribute("aria-current");
    }
  }
}, { rootMargin: "-20% 0px -75% 0px" });
for (const name of links.keys()) reading.observe(document.getElementById(name));

// What is new ------------------------------------------------------------------------------------
// The server sends rows of trials and points of curves as they come; sections and figures, as whole ones, more seldom.
let recent = []; // points that the figures of the last message with figures may not have yet
let stale = new Set(), last = 0;

function follow(since) {
  const link = document.getElementById("link"), source = new EventSource(`events?since=${since}`);
  let version = since;
  source.onopen = () => { link.textContent = "live"; };
  source.onerror = () => {
    source.close();
    link.textContent = "the server does not answer; trying again";
    setTimeout(() => follow(version), 2000);
  };
  source.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.reload) { source.close(); location.reload(); return; }
    version = message.version;
    if (message.at) { last = message.at; }
    if ("problem" in message) link.textContent = message.problem || "live";
    if (message.status) document.querySelector("#status span").innerHTML = message.status;
    if (message.rows) takeRows(message.rows);
    if (message.points) { recent.push([version, message.points]); takePoints(message.points); }
    if (message.figures) {
      recent = recent.filter(([own]) => own > message.since);
      takeSections(message.html);
      for (const [id, spec] of Object.entries(message.figures)) { data.figures[id] = spec; stale.add(id); }
      for (const [, points] of recent) takePoints(points);
      watchPlots(document);
    }
  };
}

function takeRows(rows) {
  const table = data.trials[0], ids = table.columns[0];
  takeRows.index ??= new Map(ids.map((id, i) => [id, i]));
  for (const row of rows) {
    let i = takeRows.index.get(row[0]);
    if (i === undefined) takeRows.index.set(row[0], i = ids.length);
    row.forEach((value, column) => { table.columns[column][i] = value; });
  }
  stale.add("trials");
}

function takePoints(points) {
  const spec = data.figures["curves-0-0"];
  if (!spec) return;
  const traces = new Map(spec.data.map((trace) => [trace.meta.trial, trace]));
  for (const [trial, epoch, value] of points) {
    let trace = traces.get(trial);
    if (!trace) {
      if (spec.data.length >= 600) continue;
      trace = { ...spec.data[0], x: [], y: [], name: trial, meta: { trial }, mode: "lines+markers",
        opacity: 0.7, line: { color: "#8e98a4", width: 1 }, marker: { color: "#8e98a4", size: 3 },
        hovertemplate: `${trial}<br>epoch %{x}: %{y:.5g}<extra></extra>` };
      spec.data.unshift(trace);
      traces.set(trial, trace);
    }
    // What was reported of these epochs before, by a generation that was set back or in a message that comes again.
    while (trace.x.length && trace.x[trace.x.length - 1] >= epoch) { trace.x.pop(); trace.y.pop(); }
    trace.x.push(epoch); trace.y.push(value);
    const axis = spec.layout.xaxis;
    if (axis.range && epoch > axis.range[1]) axis.range[1] = 1.02 * epoch;
  }
  stale.add("curves-0-0");
}

// What somebody has unfolded, sorted, filtered or drawn stays as it is, and the focus where it is. A section in which
// somebody types, or has marked a text, waits for the end of that.
const waiting = {};
function isUsed(section) {
  const marked = getSelection();
  return Boolean(section.querySelector(".trials :focus")) ||
    (!marked.isCollapsed && marked.rangeCount > 0 && marked.getRangeAt(0).intersectsNode(section));
}
const FOCUSED = "summary, button, pre, [tabindex]";
function takeSections(html) {
  for (const [name, text] of Object.entries(html)) {
    const section = document.getElementById(name);
    if (!section) continue;
    if (isUsed(section)) { waiting[name] = text; continue; }
    delete waiting[name];
    const focus = [...section.querySelectorAll(FOCUSED)].indexOf(document.activeElement);
    const open = new Map([...section.querySelectorAll("details")].map((own) => [own.id, own.open]));
    const plots = new Map([...section.querySelectorAll(".plot")].map((own) => [own.id, own]));
    const trials = section.querySelector(".trials");
    section.innerHTML = text;
    for (const own of section.querySelectorAll("details")) if (open.has(own.id)) own.open = open.get(own.id);
    for (const own of section.querySelectorAll(".plot")) {
      const before = plots.get(own.id);
      if (before && before.style.height === own.style.height) { own.replaceWith(before); plots.delete(own.id); }
    }
    for (const own of plots.values()) { sight.unobserve(own); Plotly.purge(own); }
    if (trials) section.querySelector(".trials").replaceWith(trials);
    if (focus >= 0) [...section.querySelectorAll(FOCUSED)][focus]?.focus({ preventScroll: true });
  }
}

function refresh() { // not more than once a second, and nothing that is out of sight
  if (Object.keys(waiting).length) { takeSections({ ...waiting }); watchPlots(document); }
  for (const id of stale) {
    if (id === "trials") { tables[0]?.render(); continue; }
    const plot = document.getElementById(id);
    if (plot && plot.classList.contains("js-plotly-plot")) draw(plot);
  }
  stale = new Set();
  const link = document.getElementById("link");
  if (last && link.textContent.startsWith("live")) {
    const ago = Math.max(0, Date.now() / 1000 - last);
    link.textContent = `live, last event ${ago < 90 ? `${Math.round(ago)} s` : `${Math.round(ago / 60)} min`} ago`;
  }
}

if (live) {
  setInterval(refresh, 1000);
  follow(data.version);
}
