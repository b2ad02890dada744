"use strict";
// Draws each chart from the table beside it, shows times in the browser's zone, and says aloud what
// a button has done. The page works without it.
(() => {
  const DAY = 86400;
  const HEIGHT = 240;
  const language = document.documentElement.lang;
  const dates = new Intl.DateTimeFormat(language, { month: "short", day: "numeric", timeZone: "UTC" });
  const months = new Intl.DateTimeFormat(language, { year: "numeric", month: "short", timeZone: "UTC" });
  const longDates = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeZone: "UTC" });
  const times = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const numbers = new Intl.NumberFormat(language);
  const drawn = new Map();

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (value) => (value == null ? "" : numbers.format(value));

  // The first days of months, as many as there is room for.
  function monthStarts(plot, _axis, low, high) {
    const number = (seconds) => { const at = new Date(seconds * 1000); return at.getUTCFullYear() * 12 + at.getUTCMonth(); };
    const [first, last] = [number(low), number(high)];
    const step = [1, 2, 3, 6, 12, 24].find((months) => (last - first) / months * 80 < plot.width) ?? 60;
    const starts = [];
    for (let at = Math.ceil(first / step) * step; at <= last; at += step) starts.push(Date.UTC(Math.floor(at / 12), at % 12) / 1000);
    return starts.filter((at) => at >= low);
  }

  function options(figure, width) {
    const days = figure.dataset.kind === "days";
    const [x, y] = [...figure.querySelectorAll("thead th")].map((cell) => cell.textContent);
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const rows = [...figure.querySelectorAll("tbody tr")].map((row) => Number(row.dataset.x));
    const long = rows.at(-1) - rows[0] > 300 * DAY;
    const format = long ? months : dates;
    const date = (seconds) => format.format(new Date(seconds * 1000));
    return {
      width,
      height: HEIGHT,
      scales: { x: { time: false }, y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] } },
      cursor: { y: false, drag: { x: false, y: false } },
      axes: [
        { ...axis, grid: { show: false }, values: (_, at) => at.map(days ? date : shown),
          ...(days ? { incrs: [1, 2, 7, 14, 30, 91, 182, 365, 3650].map((count) => count * DAY) } : {}),
          ...(days && long ? { splits: monthStarts } : {}), space: 70 },
        { ...axis, size: 64, values: (_, at) => at.map(shown) },
      ],
      series: [
        { label: x, value: (_, at) => (at == null ? "–" : days ? longDates.format(new Date(at * 1000)) : shown(at)) },
        { label: y, value: (_, at) => (at == null ? "–" : shown(at)), stroke: colour("--plot"), width: 2,
          fill: days ? colour("--plot-fill") : undefined, paths: days ? uPlot.paths.stepped({ align: 1 }) : undefined,
          points: { show: rows.length < 12 } },
      ],
    };
  }

  function draw(figure) {
    const place = figure.querySelector(".plot");
    const rows = [...figure.querySelectorAll("tbody tr")];
    if (!place.clientWidth || rows.length < 2) return;
    const data = [rows.map((row) => Number(row.dataset.x)), rows.map((row) => Number(row.dataset.y))];
    drawn.get(figure)?.destroy();
    drawn.set(figure, new uPlot(options(figure, place.clientWidth), data, place));
  }

  function drawAll() {
    for (const figure of drawn.keys()) if (!figure.isConnected) { drawn.get(figure).destroy(); drawn.delete(figure); }
    document.querySelectorAll("figure.chart").forEach(draw);
  }

  function showTimes(root) {
    for (const one of root.querySelectorAll("time[data-local]")) {
      const at = new Date(one.dateTime);
      if (!Number.isNaN(at.getTime())) one.textContent = times.format(at);
      one.removeAttribute("data-local");
    }
  }

  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  document.addEventListener("htmx:afterSettle", () => {
    showTimes(document);
    for (const row of document.querySelectorAll("tr[data-said]")) {
      document.getElementById("notice").textContent = row.dataset.said;
      row.removeAttribute("data-said");
      row.querySelector("button, a")?.focus();
    }
    if (document.querySelector("#live")) drawAll();
  });
  // A page that was left open over a restart: the answer is a whole page that says how to come back.
  document.addEventListener("htmx:responseError", (event) => {
    const page = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
    const said = page.querySelector("[role=alert]");
    if (said) document.getElementById("notice").textContent = said.textContent;
  });
  showTimes(document);
  drawAll();
})();
