// The dashboard: draws a snapshot, then a new one every few seconds while somebody looks.

const root = document.getElementById("dashboard");
const freshness = document.getElementById("freshness");
const charts = new Map();
let drawn = ""; // the last snapshot without its time, to leave alone what did not change

const TONES = {
  good: ["#16a34a", "#4ade80"],
  bad: ["#dc2626", "#f87171"],
  warning: ["#f59e0b", "#fbbf24"],
  busy: ["#2563eb", "#60a5fa"],
  neutral: ["#94a3b8", "#64748b"],
};

/** Make an element; texts are set as text, never as markup. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

function age(moment) {
  const seconds = Math.max(0, Math.floor((Date.now() - new Date(moment)) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(seconds / 86400)} days`;
}

function time(moment) {
  const exact = moment.replace("T", " ").slice(0, 19) + " UTC";
  return element("time", { datetime: moment, title: exact, "data-age": moment }, age(moment));
}

function problem(item) {
  const title = element("strong", {}, item.title);
  const body = element("div", {}, title, item.since ? element("span", { class: "c-subtle" }, " for ", time(item.since)) : "");
  if (item.detail) body.append(element("p", {}, item.detail));
  const link = item.url ? element("a", { class: "c-button", href: item.url }, item.action) : "";
  return element("div", { class: `c-problem c-${item.level}` }, body, link);
}

function drawProblems(problems) {
  const well = element("div", { class: "c-all-well" }, element("span", { class: "c-strong" }, "All is well."), " Nothing needs you.");
  document.getElementById("problems").replaceChildren(...(problems.length ? problems.map(problem) : [well]));
}

function figure(item) {
  return element(
    item.url ? "a" : "div",
    { class: `c-figure ${item.tone ? `c-${item.tone}` : ""}`, href: item.url },
    element("div", { class: "c-label" }, item.label),
    element("div", { class: "c-value" }, item.value),
    element("div", { class: "c-hint" }, item.hint),
  );
}

function cell(item, header) {
  const content = item.moment ? time(item.moment) : item.tone ? element("span", { class: `c-badge c-${item.tone}` }, item.text) : item.text;
  const shown = item.url ? element("a", { class: "c-link", href: item.url }, content) : content;
  return element("td", { "data-label": header }, element("span", {}, shown));
}

function table(item) {
  const title = element("h2", {}, item.url ? element("a", { href: item.url }, item.title) : item.title);
  if (!item.rows.length) return element("section", { class: "c-card" }, title, element("p", { class: "c-empty" }, item.empty));
  const head = element("thead", {}, element("tr", {}, ...item.headers.map((header) => element("th", { scope: "col" }, header))));
  const rows = item.rows.map((row) => element("tr", {}, ...row.map((one, index) => cell(one, item.headers[index]))));
  const body = element("div", { class: "c-scroll" }, element("table", { class: "c-table" }, head, element("tbody", {}, ...rows)));
  return element("section", { class: "c-card" }, title, body);
}

// Charts

function colours() {
  const isDark = document.documentElement.classList.contains("dark");
  const style = getComputedStyle(document.documentElement);
  return {
    tone: (name) => TONES[name][isDark ? 1 : 0],
    text: isDark ? "#94a3b8" : "#64748b",
    line: style.getPropertyValue(isDark ? "--color-base-800" : "--color-base-200").trim(),
  };
}

function options(item, palette) {
  const isLying = item.kind === "rows";
  const values = {
    beginAtZero: true,
    stacked: item.kind === "stacked",
    ticks: { color: palette.text, precision: item.unit ? undefined : 0, maxTicksLimit: 6, callback: isLying ? undefined : (value) => `${value.toLocaleString("en")} ${item.unit}`.trim() },
    grid: { color: palette.line },
    border: { display: false },
  };
  const names = {
    stacked: item.kind === "stacked",
    ticks: { color: palette.text, autoSkip: !isLying, maxRotation: 0, autoSkipPadding: 24 },
    grid: { display: false },
    border: { color: palette.line },
  };
  return {
    animation: false,
    responsive: true,
    maintainAspectRatio: false,
    indexAxis: isLying ? "y" : "x",
    interaction: { mode: "index", intersect: false, axis: isLying ? "y" : "x" },
    scales: isLying ? { x: values, y: names } : { x: names, y: values },
    plugins: {
      legend: { display: item.series.length > 1, position: "bottom", labels: { color: palette.text, boxWidth: 10, boxHeight: 10, padding: 14 } },
      tooltip: { callbacks: { label: (one) => `${one.dataset.label}: ${Number(one.raw).toLocaleString("en", { maximumSignificantDigits: 3 })} ${item.unit}`.trim() } },
    },
  };
}

function datasets(item, palette) {
  const isLine = item.kind === "lines";
  return item.series.map((series) => ({
    label: series.label,
    data: series.values,
    backgroundColor: palette.tone(series.tone),
    borderColor: palette.tone(series.tone),
    borderWidth: isLine ? 2 : 0,
    borderRadius: isLine || item.kind === "stacked" ? 0 : 3,
    pointRadius: 0,
    maxBarThickness: 28,
    categoryPercentage: item.kind === "stacked" ? 0.9 : 0.7,
  }));
}

/** A table of the same numbers, for those who cannot see the chart. */
function spoken(item) {
  const rows = item.labels.map((label, index) => [label, ...item.series.map((series) => series.values[index] ?? "–")]).filter((row) => row.slice(1).some((value) => value));
  const head = element("tr", {}, element("th", {}, ""), ...item.series.map((series) => element("th", {}, `${series.label} ${item.unit}`)));
  const table = element("table", {}, head, ...rows.map((row) => element("tr", {}, ...row.map((value) => element("td", {}, String(value))))));
  return element("div", { class: "c-visually-hidden" }, table);
}

function chartCard(item) {
  const title = element("h2", {}, item.title, element("span", { class: "c-subtle" }, item.hint));
  const canvas = element("canvas", { "aria-hidden": "true" });
  const place = element("div", { class: "c-chart" }, canvas);
  return { card: element("section", { class: "c-card" }, title, place), title, place, canvas };
}

function drawChart(item, palette) {
  let known = charts.get(item.key);
  if (!known) {
    known = chartCard(item);
    document.getElementById("charts").append(known.card);
    charts.set(item.key, known);
  }
  known.title.lastChild.textContent = item.hint;
  known.chart?.destroy();
  known.chart = null;
  if (!item.series.length) {
    known.place.replaceChildren(element("p", { class: "c-empty" }, item.empty));
    return;
  }
  known.place.replaceChildren(known.canvas, spoken(item));
  known.chart = new Chart(known.canvas, {
    type: item.kind === "lines" ? "line" : "bar",
    data: { labels: item.labels, datasets: datasets(item, palette) },
    options: options(item, palette),
  });
}

function draw(snapshot) {
  const { at, ...content } = snapshot;
  freshness.textContent = `As of ${at.slice(11, 19)} UTC; fresh every ${root.dataset.seconds} seconds.`;
  for (const shown of root.querySelectorAll("time[data-age]")) shown.textContent = age(shown.dataset.age);
  if (JSON.stringify(content) === drawn) return;
  drawn = JSON.stringify(content);
  drawProblems(content.problems);
  document.getElementById("figures").replaceChildren(...content.figures.map(figure));
  const palette = colours();
  for (const item of content.charts) drawChart(item, palette);
  document.getElementById("tables").replaceChildren(...content.tables.map(table));
}

async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch(root.dataset.refresh, { credentials: "same-origin", redirect: "manual", cache: "no-store" });
    if (response.type === "opaqueredirect") {
      freshness.textContent = "You are signed out. Reload the page to sign in.";
      return;
    }
    if (!response.ok) throw new Error(String(response.status));
    draw(await response.json());
  } catch {
    freshness.textContent = "The server does not answer; these numbers are old. Trying again.";
  }
}

if (freshness) {
  draw(JSON.parse(document.getElementById("snapshot").textContent));
  setInterval(refresh, Number(root.dataset.seconds) * 1000);
  document.addEventListener("visibilitychange", refresh);
  // Charts take their colours when they are drawn; a change of theme draws them again.
  new MutationObserver(() => {
    drawn = "";
    refresh();
  }).observe(document.documentElement, { attributeFilter: ["class"] });
}
