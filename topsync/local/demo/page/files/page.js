// The page of the demo. It asks for what is new once a second and draws it. What it is given goes in as text and
// as numbers, never as HTML.
"use strict";

const EVERY_MS = 1000;
const STALE_SECONDS = 5;
const LEAST_SPAN_SECONDS = 60;
const CHART_HEIGHT = 122;
const MARGIN = { left: 46, right: 8, top: 14, bottom: 16 };
const MOST_IDLE_LINES = 3; // where there are more lines, those that are 0 throughout are only named
const FAR_ABOVE = 8;
const TONES = 6;
const DASHES = 4;
const AHEAD_OF_UTC_SECONDS = 8 * 3600;
const STATES = {
  unknown: "?", starting: "…", complete: "✓", open: "▲", broken: "✕",
};

let layout = null;
let points = [];
let given = null;
let charts = [];
let readAt = null; // the moment that the reader points at; null: now
let answeredAt = 0; // when something new came, by this browser's clock
let failures = 0;

const byId = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function draw(name, attributes = {}, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

// Replaces the text only where it differs, so that a screen reader says it once.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function clock(at) {
  return new Date((at + AHEAD_OF_UTC_SECONDS) * 1000).toISOString().slice(11, 19);
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6) return `${trim(value / 1e6)} M`;
  if (size >= 1e4) return `${trim(value / 1e3)} k`;
  return trim(value);
}

function trim(value) {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3;
  return String(Number(value.toFixed(digits)));
}

function duration(seconds) {
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 1) return `${trim(seconds * 1000)} ms`;
  if (size < 120) return `${trim(seconds)} s`;
  if (size < 7200) return `${trim(seconds / 60)} min`;
  if (size < 172800) return `${trim(seconds / 3600)} h`;
  return `${trim(seconds / 86400)} d`;
}

function bytes(value) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(value) < 1024) return `${trim(value)} ${unit}`;
    value /= 1024;
  }
  return `${trim(value)} TiB`;
}

function withUnit(value, unit) {
  if (value === undefined) return "–";
  if (unit === "s") return duration(value);
  if (unit === "bytes") return bytes(value);
  if (unit === "percentunit") return `${trim(value * 100)} %`;
  if (unit === "cps") return `${short(value)}/s`;
  return short(value);
}

// The next of 1, 2, 4, 6, 10, 20, … that is not below, in the unit in which it is written.
function roundUp(value, unit) {
  const sizes = { s: [86400, 3600, 60], bytes: [1024 ** 3, 1024 ** 2, 1024] }[unit] ?? [];
  const size = sizes.find((each) => value >= 2 * each) ?? 1;
  const step = 10 ** Math.floor(Math.log10(value / size));
  return size * [1, 2, 4, 6, 10].map((factor) => factor * step).find((each) => each >= value / size * 0.9999);
}

// --- what is shown ----------------------------------------------------------------------------------------

function showVerdict() {
  const verdict = byId("verdict");
  verdict.dataset.state = given.state;
  const says = byId("says");
  if (says.dataset.says !== given.says) {
    says.dataset.says = given.says;
    says.replaceChildren(make("span", { class: "mark", "aria-hidden": "true" }, STATES[given.state]),
      make("span", {}, given.says));
  }
  const answers = byId("answers");
  while (answers.children.length < given.answers.length) {
    answers.append(make("div", {}, make("dt"), make("dd"), make("dd", { class: "quiet" })));
  }
  given.answers.forEach((answer, at) => {
    const [question, short_, rest] = answers.children[at].children;
    say(question, answer.question);
    say(short_, answer.answer);
    say(rest, answer.rests_on);
  });
}

function showStory() {
  const list = byId("chapters");
  const marks = [
    ...given.chapters.map((chapter, at) => ({ at: chapter.at, text: `${at + 1} ${chapter.title}`, chapter: at })),
    ...given.outages.map((outage) => ({
      at: outage.began,
      text: outage.ended === null ? `▨ ${outage.what} away` : `▨ ${outage.what} was away for ${
        Math.round(outage.ended - outage.began)} s`,
    })),
  ].sort((one, other) => one.at - other.at);
  const last = given.chapters.length - 1;
  const made = marks.map((mark) => {
    const item = make("li", {}, `${mark.text}, ${clock(mark.at)}`);
    if (mark.chapter === last) item.setAttribute("aria-current", "step");
    if (mark.chapter === undefined) item.className = "away";
    return item;
  });
  if (list.textContent !== made.map((item) => item.textContent).join("")) list.replaceChildren(...made);
  say(byId("chapter"), last >= 0 ? given.chapters[last].text : "");
}

function showProcesses() {
  const said = given.processes.map((process) => `${process.name} ${process.problem || "answers"}`);
  say(byId("processes"), said.length ? `Processes: ${said.join(", ")}.` : "");
}

function showClock() {
  const last = points.at(-1);
  if (!last) return;
  say(byId("clock"), readAt === null ? `${clock(last.at)} GMT+8` : `reading ${clock(pointAt(readAt).at)}, Escape ends it`);
}

function showAway(isAway) {
  const away = byId("away");
  const last = points.at(-1);
  away.hidden = !isAway;
  say(away, isAway ? `▲ The demo does not answer any more${last ? `: what you see was so at ${clock(last.at)}` : ""}.` : "");
}

// --- the panels -------------------------------------------------------------------------------------------

function build() {
  const rows = byId("rows");
  rows.replaceChildren();
  charts = [];
  let number = 0;
  for (const row of layout.rows) {
    const panels = make("div", { class: "panels" });
    for (const panel of row.panels) panels.append(buildPanel(panel, number++));
    const calm = make("p", { class: "calm", hidden: "" });
    rows.append(make("details", { class: "row", open: "" }, make("summary", {}, row.title), panels, calm));
  }
}

function buildPanel(panel, number) {
  const id = `panel-${number}`;
  const body = make("div");
  const made = make("section", { class: `panel ${panel.kind}`, "aria-labelledby": id },
    make("h3", { id }, panel.title), body);
  const chart = { panel, number, body, isSeen: true, looks: new Map() };
  if (panel.kind === "timeseries") {
    chart.plot = make("div", { class: "chart", tabindex: "0", role: "img", "aria-labelledby": id });
    chart.legend = make("ul", { class: "legend" });
    body.append(chart.plot, chart.legend);
    chart.plot.addEventListener("pointermove", (event) => point(momentAt(chart, event.clientX)));
    chart.plot.addEventListener("pointerleave", () => point(null));
    chart.plot.addEventListener("blur", () => point(null));
    chart.plot.addEventListener("keydown", step);
  }
  charts.push(chart);
  seen.observe(made);
  chart.place = made;
  return made;
}

// What is out of sight is not drawn.
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const chart = charts.find((each) => each.place === entry.target);
    if (!chart) continue;
    chart.isSeen = entry.isIntersecting;
    if (chart.isSeen && given) showPanel(chart);
  }
}, { rootMargin: "200px" });

function showPanel(chart) {
  if (chart.panel.kind === "stat") showStat(chart);
  else if (chart.panel.kind === "table") showTable(chart);
  else showChart(chart);
}

function showStat(chart) {
  const value = Object.values(pointAt(readAt).panels[chart.number])[0];
  const state = value === undefined ? "unknown" : value >= chart.panel.wrong_from ? "broken" : "complete";
  const word = { unknown: "not measured", broken: "look into it", complete: "as it should be" }[state];
  const shown = value !== undefined && chart.panel.unit === "s" ? `${value.toFixed(1)} s` : withUnit(value, chart.panel.unit);
  const said = `${shown} ${STATES[state]} ${word}`;
  if (chart.body.dataset.said === said) return;
  chart.body.dataset.said = said;
  chart.body.replaceChildren(make("p", { class: "value", "data-state": state },
    make("span", {}, shown), make("span", { class: "word" }, `${STATES[state]} ${word}`)));
  if (state === "broken" && chart.panel.about) chart.body.append(make("p", { class: "quiet about" }, chart.panel.about));
}

function showTable(chart) {
  if (!chart.rows) {
    chart.rows = make("tbody");
    chart.body.append(make("table", {}, make("thead", {}, make("tr", {},
      ...["seller", "complete until", "age", ""].map((name) => make("th", { scope: "col" }, name)))), chart.rows));
  }
  const rows = given.copies.map((copy) => make("tr", {},
    make("th", { scope: "row" }, copy.seller), make("td", {}, copy.complete_until),
    make("td", {}, copy.age),
    make("td", { class: "state", "data-state": copy.is_late ? "open" : "complete" },
      copy.is_late ? `${STATES.open} late` : `${STATES.complete} in time`)));
  chart.rows.replaceChildren(...rows);
  if (!rows.length) chart.rows.append(make("tr", {}, make("td", { colspan: "4" }, "no copy yet")));
}

function span() {
  const end = points.at(-1).at;
  return { start: Math.min(points[0].at, end - LEAST_SPAN_SECONDS), end };
}

// A line keeps its colour and dash for as long as the page is open.
function look(chart, name) {
  if (!chart.looks.has(name)) chart.looks.set(name, chart.looks.size);
  const at = chart.looks.get(name);
  return `line tone-${at % TONES} dash-${at % DASHES}`;
}

// The least and the highest value of each line, first the lines that are there now.
function linesOf(number) {
  const lines = new Map();
  for (const each of [points.at(-1), ...points]) {
    for (const [name, value] of Object.entries(each.panels[number])) {
      const line = lines.get(name) ?? { least: value, highest: value };
      lines.set(name, { least: Math.min(value, line.least), highest: Math.max(value, line.highest) });
    }
  }
  return lines;
}

// The lines that are never near the others, as a limit is: in one chart they would press the others to the ground.
function farAbove(lines) {
  const sorted = [...lines].filter(([, line]) => line.highest > 0).sort(([, one], [, other]) => other.highest - one.highest);
  for (let at = 1; at < sorted.length; at += 1) {
    const above = sorted.slice(0, at);
    if (above.every(([, line]) => line.least > FAR_ABOVE * sorted[at][1].highest)) return above.map(([name]) => name);
  }
  return [];
}

// A panel without a line is named at the end of its row, where it takes no room.
function showCalm() {
  for (const chart of charts) {
    if (chart.panel.kind !== "timeseries") continue;
    chart.place.hidden = linesOf(chart.number).size === 0 && !chart.place.contains(document.activeElement);
  }
  for (const row of document.querySelectorAll(".row")) {
    const titles = [...row.querySelectorAll(".panel[hidden] h3")].map((title) => title.textContent);
    const calm = row.querySelector(".calm");
    calm.hidden = titles.length === 0;
    say(calm, titles.length ? `Nothing in this time: ${titles.join("; ")}.` : "");
  }
}

function showChart(chart) {
  const { panel, plot, number } = chart;
  const lines = linesOf(number);
  const isCrowded = lines.size > MOST_IDLE_LINES;
  const names = [...lines.keys()].filter((name) => !isCrowded || lines.get(name).highest > 0);
  const idle = [...lines.keys()].filter((name) => !names.includes(name));
  const above = farAbove(lines);
  const drawn = names.filter((name) => !above.includes(name));
  const width = Math.max(160, plot.clientWidth);
  const most = Math.max(0, ...drawn.map((name) => lines.get(name).highest));
  const top = most > 0 ? roundUp(most, panel.unit) : 1;
  const { start, end } = span();
  const x = (at) => MARGIN.left + (width - MARGIN.left - MARGIN.right) * (at - start) / (end - start);
  const y = (value) => CHART_HEIGHT - MARGIN.bottom - (CHART_HEIGHT - MARGIN.top - MARGIN.bottom) * value / top;
  chart.x = { start, end, width };
  const svg = draw("svg", { viewBox: `0 0 ${width} ${CHART_HEIGHT}`, "aria-hidden": "true" });
  for (const outage of given.outages) {
    const from = x(Math.max(start, outage.began)), to = x(Math.min(end, outage.ended ?? end));
    if (to > from) svg.append(draw("rect", { class: "band", x: from, width: to - from, y: MARGIN.top,
      height: CHART_HEIGHT - MARGIN.top - MARGIN.bottom }));
  }
  for (const share of [0, 0.5, 1]) {
    const value = top * share;
    svg.append(draw("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }));
    if (panel.unit === "short" && value % 1) continue; // nothing is counted in halves
    svg.append(draw("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, withUnit(value, panel.unit)));
  }
  let free = -Infinity;
  given.chapters.forEach((chapter, at) => {
    if (chapter.at < start || chapter.at > end) return;
    const place = x(chapter.at);
    svg.append(draw("line", { class: "chapter-line", x1: place, x2: place, y1: MARGIN.top, y2: CHART_HEIGHT - MARGIN.bottom }));
    if (place < free) return;
    svg.append(draw("text", { x: place, y: 10, "text-anchor": "middle" }, String(at + 1)));
    free = place + 10;
  });
  svg.append(draw("text", { x: MARGIN.left, y: CHART_HEIGHT - 3 }, clock(start)));
  svg.append(draw("text", { x: width - MARGIN.right, y: CHART_HEIGHT - 3, "text-anchor": "end" }, clock(end)));
  for (const name of drawn) svg.append(draw("path", { class: look(chart, name), d: path(number, name, x, y) }));
  const read = pointAt(readAt);
  if (readAt !== null) svg.append(draw("line", { class: "reading-line", x1: x(read.at), x2: x(read.at), y1: MARGIN.top,
    y2: CHART_HEIGHT - MARGIN.bottom }));
  plot.replaceChildren(svg);
  showLegend(chart, drawn, above, idle, read.panels[number]);
}

function path(number, name, x, y) {
  let made = "";
  let isDown = false;
  for (const each of points) {
    const value = each.panels[number][name];
    if (value === undefined) {
      isDown = false;
      continue;
    }
    made += `${isDown ? "L" : "M"}${x(each.at).toFixed(1)} ${y(value).toFixed(1)}`;
    isDown = true;
  }
  return made;
}

function showLegend(chart, names, above, idle, values) {
  const items = names.map((name) => {
    const sample = draw("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" });
    sample.append(draw("path", { class: look(chart, name), d: "M0 4H22" }));
    return make("li", {}, sample, make("span", { class: "name" }, name), make("b", {}, withUnit(values[name], chart.panel.unit)));
  });
  for (const name of above) {
    items.push(make("li", { class: "calm" }, `above the chart: ${name} ${withUnit(values[name], chart.panel.unit)}`));
  }
  if (idle.length) items.push(make("li", { class: "calm" }, `0 throughout: ${idle.join(", ")}`));
  chart.legend.replaceChildren(...items);
}

// --- reading at a moment ----------------------------------------------------------------------------------

function pointAt(at) {
  if (at === null) return points.at(-1);
  let nearest = points[0];
  for (const each of points) if (Math.abs(each.at - at) < Math.abs(nearest.at - at)) nearest = each;
  return nearest;
}

function momentAt(chart, clientX) {
  if (!chart.x) return null;
  const left = chart.plot.getBoundingClientRect().left;
  const share = (clientX - left - MARGIN.left) / (chart.x.width - MARGIN.left - MARGIN.right);
  return chart.x.start + Math.min(1, Math.max(0, share)) * (chart.x.end - chart.x.start);
}

function step(event) {
  if (!points.length) return;
  const at = points.indexOf(pointAt(readAt));
  const goes = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: points.length - 1, PageUp: at - 10, PageDown: at + 10 };
  if (event.key === "Escape") point(null);
  else if (event.key in goes) {
    event.preventDefault();
    point(points[Math.min(points.length - 1, Math.max(0, goes[event.key]))].at);
  }
}

function point(at) {
  if (at === readAt || !given || !points.length) return;
  readAt = at;
  showAll();
}

function showAll() {
  showClock();
  showCalm();
  for (const chart of charts) if (chart.isSeen) showPanel(chart);
}

// --- asking -----------------------------------------------------------------------------------------------

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(3 * EVERY_MS) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function round() {
  if (!layout) {
    layout = await ask("/layout.json");
    build();
  }
  const number = points.length ? points.at(-1).number : 0;
  given = await ask(`/data.json?after=${number}`);
  points = [...points, ...given.points].slice(-layout.kept);
  if (given.points.length) answeredAt = Date.now();
  showVerdict();
  showStory();
  showProcesses();
  if (points.length && !document.hidden) showAll();
}

async function run() {
  for (;;) {
    try {
      await round();
      failures = 0;
    } catch {
      failures += 1; // it is asked again; the notice says that nothing new comes
    }
    showAway(failures >= 2 || (answeredAt > 0 && Date.now() - answeredAt > STALE_SECONDS * 1000));
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

addEventListener("resize", () => { if (given && points.length) showAll(); });
run();
