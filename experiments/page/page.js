// Sortable tables, the filter by cut, and which lines the figures show.
(() => {
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
  const linesOf = (board) => [
    ...document.querySelectorAll(`.legend button[data-board="${board}"][data-line]`),
  ];
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const shown = (board) => linesOf(board).map((button) => pressed(button) && !button.hidden);

  const drawAll = keepDrawn(({ data, layout }, place, narrow) => {
    const visible = shown(place.dataset.figure.split("-")[0]);
    // Traces beyond the legend (the floor) are always shown; some say which line they belong to.
    data.forEach((trace, i) => { trace.visible = visible[trace.meta?.line ?? i] ?? true; });
    if (narrow) data.forEach((trace) => { if (trace.marker) trace.marker.size = 7; });
    const lowest = Math.min(0, ...data.filter((t) => t.visible).flatMap((t) => t.y));
    layout.yaxis.range = [lowest - 0.04, 1.04];
  });

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(!pressed(button)));
      // An adversary's button takes its lines in and out of the legend below.
      for (const line of linesOf(button.dataset.board)) {
        if (line.dataset.of === button.dataset.adversary) line.hidden = !pressed(button);
      }
      drawAll();
    });
  }
})();
