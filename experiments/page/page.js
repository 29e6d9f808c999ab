"use strict";
// Sortable tables, the filter by cut, and the figures in the colours of the page.
(() => {
  const phone = matchMedia("(max-width: 44rem)");
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const compare = (a, b, up) => {
    // What is missing comes last in both directions.
    if (a === "" || b === "") return (a === "") - (b === "");
    const x = Number(a), y = Number(b);
    const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
    return up ? order : -order;
  };

  const separate = (table) => {
    const first = table.tHead.rows[0].cells[0];
    table.classList.toggle("by-cut", first.getAttribute("aria-sort") === "ascending");
    let last = null;
    for (const row of table.tBodies[0].rows) {
      if (row.hidden) continue;
      row.classList.toggle("first", last !== null && row.dataset.cut !== last);
      last = row.dataset.cut;
    }
  };

  for (const table of document.querySelectorAll("table.rows")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => row.cells[column].dataset.v ?? "";
        const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a), value(b), up));
        table.tBodies[0].append(...rows);
        separate(table);
      });
    });
    separate(table);
  }

  for (const select of document.querySelectorAll("select[data-filter]")) {
    select.addEventListener("change", () => {
      const table = document.getElementById(select.dataset.filter);
      for (const row of table.tBodies[0].rows) {
        row.hidden = select.value !== "" && row.dataset.cut !== select.value;
      }
      separate(table);
    });
  }

  if (!window.Plotly) return;
  const figures = [...document.querySelectorAll("[data-figure]")];

  const coloured = (value, style) => {
    if (typeof value === "string" && value.startsWith("var(")) {
      return style.getPropertyValue(value.slice(4, -1)).trim();
    }
    if (Array.isArray(value)) return value.map((item) => coloured(item, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v, style)]));
    }
    return value;
  };

  const shown = (board) =>
    [...document.querySelectorAll(`.legend button[data-board="${board}"]`)].map(
      (button) => button.getAttribute("aria-pressed") === "true",
    );

  const draw = (place) => {
    const style = getComputedStyle(document.documentElement);
    const source = document.getElementById(place.dataset.figure).textContent;
    const { data, layout } = coloured(JSON.parse(source), style);
    const visible = shown(place.dataset.figure.split("-")[0]);
    // Traces beyond the legend (the floor) are always shown.
    data.forEach((trace, i) => { trace.visible = visible[i] ?? true; });
    const lowest = Math.min(0, ...data.filter((t) => t.visible).flatMap((t) => t.y));
    layout.yaxis.range = [lowest - 0.04, 1.04];
    if (phone.matches) {
      layout.font.size = 11;
      layout.margin.l = 36;
      data.forEach((trace) => { if (trace.marker) trace.marker.size = 7; });
    }
    return Plotly.react(place, data, layout, { displayModeBar: false, responsive: true });
  };
  const drawAll = () => Promise.all(figures.map(draw));

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      drawAll();
    });
  }
  dark.addEventListener("change", drawAll);
  phone.addEventListener("change", drawAll);
  addEventListener("beforeprint", drawAll);
  addEventListener("afterprint", drawAll);
  drawAll();
})();
